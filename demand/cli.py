"""The door to day-two commands: ``demand status``, ``demand rollback`` and the like."""

from __future__ import annotations

import sys

from demand import __version__
from demand.commands.data import add_dashboard, add_data
from demand.commands.model import add_explain, add_predict
from demand.commands.page import add_page
from demand.commands.parsers import Handler
from demand.commands.serving import add_api, add_serving
from demand.doors import Parser, guarded


def main(argv: list[str] | None = None) -> int:
    """Parse the command line and run one command."""
    arguments = _parser().parse_args(argv)
    handler: Handler = arguments.handler
    return guarded(lambda: handler(arguments))


def _parser() -> Parser:
    parser = Parser(
        prog="demand",
        description="Look after the deployed model of avito-demand.",
        epilog="example:\n  demand status\n\nPipelines are run by `python run.py --pipeline NAME`.",
    )
    parser.add_argument("--version", action="version", version=f"avito-demand {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True, parser_class=_SubParser)
    for add in (add_serving, add_api, add_page, add_data, add_dashboard, add_predict, add_explain):
        add(commands)
    return parser


class _SubParser(Parser):
    """What ``add_subparsers`` makes: its keywords are argparse's own."""

    def __init__(self, *, prog: str, help: str = "", epilog: str = "") -> None:  # noqa: A002
        super().__init__(prog=prog, description=help, epilog=f"example:\n  {epilog}")


if __name__ == "__main__":
    sys.exit(main())
