"""What happens when far too many ask? ``python -m benchmarks.overload``.

Finds the rate of single ads that the Flask API sustains, sends ten times as many for some
seconds, whatever the answers, and looks at what is refused, how fast, with how much memory,
and how soon all is normal again. All lives in a temporary folder. Prints it and writes it
below benchmarks/results. Exit status 0, whatever was found.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
from rich.console import Console

from benchmarks.overload_client import OpenLoop, quiet_latency
from benchmarks.overload_report import Memory, Overload, write_overload
from benchmarks.quality_report import show
from benchmarks.serving import (
    CONNECTIONS,
    Questions,
    add_common,
    facts,
    progress,
    resident_mb,
    seconds_from_text,
)
from benchmarks.serving_client import ask, connected, requests_per_second
from benchmarks.serving_installation import (
    Say,
    flask_api,
    new_ads,
    own_home,
    quick_models,
    register,
)
from benchmarks.serving_report import FLASK
from demand.commands.parsers import whole_number
from demand.errors import DemandError
from demand.predictor import Predictor
from demand.serving.registry import Registry
from demand.state import Home

EXAMPLES = """examples:
  python -m benchmarks.overload
  python -m benchmarks.overload --seconds 2 --quiet --results /tmp/overload
"""
SECONDS = 20.0
_ADS = 500
_SAMPLE_S = 0.25
# Latencies below this come and go with what else the machine does.
_NOISE_S = 0.005


@dataclass(frozen=True)
class Plan:
    """How the overload is made.

    Parameters
    ----------
    seconds
        Of the overload.
    times
        How many times the sustainable rate is sent.
    connections
        Most that are open at a time.
    sustained_s
        Time to find the sustainable rate, after as much that only warms up.
    """

    seconds: float = SECONDS
    times: float = 10.0
    connections: int = 1_000
    sustained_s: float = 5.0


def measure(place: Home, model: Predictor, plan: Plan, say: Say) -> Overload:
    """Find the sustainable rate, and send many times as much.

    Parameters
    ----------
    place
        An installation of its own, without a model.

    Raises
    ------
    DemandError
        The API does not start, or refuses what it sustains.
    """
    say("registering the model, starting the API")
    Registry(place).promote(register([model], place)[0], "benchmark")
    questions = Questions.of(new_ads(_ADS))
    with flask_api(place.logs / "api.log") as api:
        target, _ = questions.targets(FLASK, api.address)
        with connected(api.address) as connection:
            ask(connection, target.requests[0])
        say(f"the sustainable rate, {CONNECTIONS} connections")
        requests_per_second(target, CONNECTIONS, plan.sustained_s)
        sustainable = requests_per_second(target, CONNECTIONS, plan.sustained_s)
        quiet = quiet_latency(target)
        before = resident_mb(api.pid)
        say(f"{plan.times:g} times {sustainable:,.0f} requests/s for {plan.seconds:g} s")
        with (
            OpenLoop(target, plan.times * sustainable, plan.connections) as load,
            _sampled_memory(api.pid) as samples,
        ):
            flood = load.run(plan.seconds, max(2 * quiet, _NOISE_S))
        memory = Memory(before, resident_mb(api.pid), samples)
    about = {**facts(), "connections": load.connections, "seconds of load": f"{plan.seconds:g}"}
    return Overload(about, sustainable, quiet, plan.times * sustainable, flood, memory)


@contextlib.contextmanager
def _sampled_memory(pid: int) -> Iterator[list[tuple[float, float]]]:
    """Yield a list that grows by what a process and those below it hold, some times a second."""
    samples: list[tuple[float, float]] = []
    over = threading.Event()

    def sample() -> None:
        while not over.wait(_SAMPLE_S):
            # One of the processes may end while it is looked at.
            with contextlib.suppress(psutil.NoSuchProcess):
                samples.append((time.perf_counter(), resident_mb(pid)))

    thread = threading.Thread(target=sample)
    thread.start()
    try:
        yield samples
    finally:
        over.set()
        thread.join()


def main(arguments: list[str] | None = None) -> int:
    """Measure, print and write; return the exit status."""
    options = _parser().parse_args(arguments)
    console = Console(width=None if sys.stdout.isatty() else 140)
    plan = Plan(seconds=options.seconds, times=options.times, connections=options.connections)
    try:
        found = run(plan, options.model, quiet=options.quiet)
        written = write_overload(found, options.results)
    except DemandError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_status
    show(console, found.grids(), written)
    console.print(f"The client shares the {found.about['cores']} cores with the API.")
    return 0


def run(plan: Plan, model: Path | None, *, quiet: bool) -> Overload:
    """Measure in a temporary installation, with a saved model or with one that is trained."""
    with own_home("demand-overload-") as place:
        say = progress(quiet=quiet)
        return measure(place, quick_models(1, model, say)[0], plan, say)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.overload",
        description=__doc__,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--seconds", type=seconds_from_text, default=SECONDS, help="of the overload (default: 20)")
    add(
        "--times",
        type=_times,
        default=Plan.times,
        help="the sustainable rate is sent (default: 10)",
    )
    add(
        "--connections",
        type=whole_number(1, 20_000),
        default=Plan.connections,
        help="open at a time, at most (default: 1,000)",
    )
    add_common(parser)
    return parser


def _times(text: str) -> float:
    times = float(text)
    if not 1 <= times <= 1_000:
        raise argparse.ArgumentTypeError(f"{text!r} is no number from 1 to 1,000")
    return times


if __name__ == "__main__":
    sys.exit(main())
