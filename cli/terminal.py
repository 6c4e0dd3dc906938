"""What both doors share: how a command line is parsed, and how every failure is told."""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

from rich_argparse import RawDescriptionRichHelpFormatter

from demand.errors import EXIT_ERROR, EXIT_USAGE, DemandError, GateRefusal
from demand.progress import QUIET
from demand.workspace.workspace import PROJECT_ROOT, disk_failure

EXIT_INTERRUPTED = 130
DEBUG = "DEMAND_DEBUG"
TRAINING_CONFIG = PROJECT_ROOT / "configs" / "training.yaml"

_FREE_SPACE = (
    "free some space (`demand cache --clear` removes outputs of past runs) and run the same "
    "command again; what was serving still serves"
)

Handler = Callable[[argparse.Namespace], int]


class Parser(argparse.ArgumentParser):
    """Ends with 64 on wrong usage, since 2 means that a gate said no."""

    def __init__(self, **settings: Any) -> None:
        look = RawDescriptionRichHelpFormatter
        super().__init__(formatter_class=look, allow_abbrev=False, **settings)

    def error(self, message: str) -> NoReturn:
        """Print usage and message, and end with 64."""
        self.print_usage(sys.stderr)
        self.exit(EXIT_USAGE, f"{self.prog}: {message}\n")


def prepare_environment(*, quiet: bool = False, verbose: bool = False) -> None:
    """Set what the libraries read when they are imported; the user's own values win."""
    if quiet:
        os.environ[QUIET] = "1"
    if verbose:
        os.environ[DEBUG] = "1"
    os.environ.setdefault("ZENML_ANALYTICS_OPT_IN", "false")
    os.environ.setdefault("ZENML_LOGGING_VERBOSITY", "INFO" if verbose else "CRITICAL")
    os.environ.setdefault("ZENML_ENABLE_RICH_TRACEBACK", "false")
    os.environ.setdefault("ZENML_ENABLE_REPO_INIT_WARNINGS", "false")
    os.environ.setdefault("ZENML_DISABLE_INTERACTIVE_INPUT", "true")
    os.environ.setdefault("GIT_PYTHON_REFRESH", "quiet")
    # Where a run of several processes is ended, Python warns that it cleans up behind them.
    os.environ.setdefault("PYTHONWARNINGS", "ignore::UserWarning:multiprocessing.resource_tracker")


def zenml_config() -> Path:
    """Return the file of ZenML's configuration, which may not be there."""
    import click

    return Path(os.environ.get("ZENML_CONFIG_PATH") or click.get_app_dir("zenml"), "config.yaml")


def whole_number(low: int, high: int) -> Callable[[str], int]:
    """Return a type for argparse: a whole number between two bounds."""

    def number(text: str) -> int:
        if not text.isdecimal() or not low <= int(text) <= high:
            raise argparse.ArgumentTypeError(f"{text!r} is no whole number from {low} to {high}")
        return int(text)

    return number


def guarded(action: Callable[[], int]) -> int:
    """Run ``action`` and return its exit status, or that of its failure.

    A scheduler's SIGTERM is heard like Ctrl-C, so that servers that were just started
    are stopped again.
    """
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        return action()
    except GateRefusal as refusal:
        _say(f"stopped: {refusal}; what was serving still serves")
        return refusal.exit_status
    except DemandError as error:
        way_out = f"; {_FREE_SPACE}" if disk_failure(error) else ""
        _say(f"error: {error}{way_out}")
        return error.exit_status
    except KeyboardInterrupt:
        _say("stopped by a signal; what was serving still serves")
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        # The reader, such as `head`, has seen enough; closing must not fail a second time.
        with contextlib.suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_ERROR
    except Exception as error:
        if os.environ.get(DEBUG):
            raise
        _say(f"error: {_explained(error)}")
        return EXIT_ERROR


def _explained(error: Exception) -> str:
    """Say what a library's error means to the user, or at least how to see more of it."""
    failure = disk_failure(error)
    if failure is not None:
        return f"{failure}; {_FREE_SPACE}"
    return (
        f"unexpected {type(error).__name__}: {error}\n"
        f"with {DEBUG}=1 (or run.py --verbose) the same command shows where"
    )


def _say(message: str) -> None:
    print(message, file=sys.__stderr__)
