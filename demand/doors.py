"""What both doors share: wrong usage ends with 64, and every failure with one message."""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import sys
from collections.abc import Callable
from typing import NoReturn

from rich_argparse import RawDescriptionRichHelpFormatter

from demand.disk import disk_failure
from demand.errors import EXIT_ERROR, EXIT_USAGE, DemandError, GateRefusal

EXIT_INTERRUPTED = 130
DEBUG = "DEMAND_DEBUG"


class Parser(argparse.ArgumentParser):
    """Ends with 64 on wrong usage, since 2 means that a gate said no."""

    def __init__(self, *, prog: str, description: str, epilog: str) -> None:
        super().__init__(
            prog=prog,
            description=description,
            epilog=epilog,
            formatter_class=RawDescriptionRichHelpFormatter,
            allow_abbrev=False,
        )

    def error(self, message: str) -> NoReturn:
        """Print usage and message, and end with 64."""
        self.print_usage(sys.stderr)
        self.exit(EXIT_USAGE, f"{self.prog}: {message}\n")


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
        _say(f"error: {error}")
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
        return (
            f"{failure}; free some space and run the same command again; "
            "what was serving still serves"
        )
    return (
        f"unexpected {type(error).__name__}: {error}\n"
        f"with {DEBUG}=1 (or run.py --verbose) the same command shows where"
    )


def _say(message: str) -> None:
    print(message, file=sys.__stderr__)
