"""What the commands of ``demand`` share: how one is added, and types of its options."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from demand.doors import Parser
from demand.state import PROJECT_ROOT

if TYPE_CHECKING:
    # argparse has no public name for what add_subparsers returns.
    Commands = argparse._SubParsersAction[Any]

Handler = Callable[[argparse.Namespace], int]


def add_command(commands: Commands, name: str, text: str, example: str, handler: Handler) -> Parser:
    """Add one command; its example ends its ``--help``."""
    parser: Parser = commands.add_parser(name, help=text, epilog=example)
    parser.set_defaults(handler=handler)
    return parser


def add_config(parser: Parser, what: str) -> None:
    """Add ``--config``, of which the command reads ``what``."""
    parser.add_argument(
        "--config",
        type=Path,
        metavar="FILE",
        default=PROJECT_ROOT / "configs" / "training.yaml",
        help=f"{what} (default: configs/training.yaml)",
    )


def whole_number(low: int, high: int) -> Callable[[str], int]:
    """Return a type for argparse: a whole number between two bounds."""

    def number(text: str) -> int:
        if not text.isdecimal() or not low <= int(text) <= high:
            raise argparse.ArgumentTypeError(f"{text!r} is no whole number from {low} to {high}")
        return int(text)

    return number
