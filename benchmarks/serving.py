"""How fast are the answers, and what do they cost? ``python -m benchmarks.serving``.

Measures our MLflow model server, the Flask API and an MLflow model that does nothing in the
same rounds: single ads, 16 connections, batches of 1,000 ads; further predict_one, memory
and starts. All lives in a temporary folder. Prints what was asked beside what was found and
writes it below benchmarks/results. Exit status 0: figures of a busy machine are no test.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import os
import platform
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import pandas as pd
import psutil
from rich.console import Console
from threadpoolctl import threadpool_limits

from benchmarks.quality_report import show
from benchmarks.serving_client import (
    Target,
    ask,
    connected,
    latencies,
    post,
    requests_per_second,
)
from benchmarks.serving_installation import (
    SETTINGS,
    Program,
    Say,
    as_json,
    flask_api,
    mlflow_serve,
    new_ads,
    own_home,
    quick_models,
    register,
    save_empty_model,
)
from benchmarks.serving_report import (
    EMPTY,
    FLASK,
    MODEL_SERVER,
    PREDICTOR,
    Measured,
    Running,
    write_serving,
)
from demand.errors import DemandError, ServingError
from demand.predictor import Predictor
from demand.serving.listening import listen_near
from demand.serving.processes import start_server
from demand.serving.registry import Registry
from demand.serving.server import Deployment, deploy
from demand.state import PROJECT_ROOT, Home

RESULTS = PROJECT_ROOT / "benchmarks" / "results"
EXAMPLES = """examples:
  python -m benchmarks.serving
  python -m benchmarks.serving --seconds 1 --quiet --results /tmp/serving
"""
ROUNDS = 10
# Short ones, so that what else the machine does for half a second hits all alike.
SINGLE_ROUNDS = 40
CONNECTIONS = 16
BATCH, BATCHES, SINGLES, STARTS = 1_000, 4, 500, 3

T = TypeVar("T")


@dataclass(frozen=True)
class Questions:
    """What is asked of every contestant.

    Parameters
    ----------
    singles
        Ads, as JSON carries them.
    frames
        Batches of typed ads.
    batches
        The same, as JSON carries them.
    """

    singles: list[dict[str, object]]
    frames: list[pd.DataFrame]
    batches: list[list[dict[str, object]]]

    @classmethod
    def of(cls, ads: pd.DataFrame) -> Questions:
        """Divide ads into batches; the first ones are also asked about singly."""
        frames = [ads.iloc[first : first + BATCH] for first in range(0, len(ads), BATCH)]
        return cls(as_json(ads.head(SINGLES)), frames, [as_json(frame) for frame in frames])

    def targets(self, name: str, address: str) -> tuple[Target, Target]:
        """Return a contestant asked about single ads, and about batches."""
        if name == FLASK:
            singles = [post(address, "/predict", ad) for ad in self.singles]
            batches = [post(address, "/predict", ads) for ads in self.batches]
        else:
            singles = [_invocation(address, [ad]) for ad in self.singles]
            batches = [_invocation(address, ads) for ads in self.batches]
        return Target(name, address, singles), Target(name, address, batches)


def interleaved(
    tasks: Mapping[str, Callable[[float], T]], seconds: float, rounds: int = ROUNDS
) -> dict[str, list[T]]:
    """Give each task its seconds, in rounds; return what each found in each round.

    Parameters
    ----------
    tasks
        Called with the seconds that it has in a round.
    seconds
        Of each task, in all rounds together.
    """
    found: dict[str, list[T]] = {name: [] for name in tasks}
    names = list(tasks)
    for number in range(rounds):
        # Nobody always comes after the same one, whose end may still be felt.
        first = number % len(names)
        for name in (*names[first:], *names[:first]):
            found[name].append(tasks[name](seconds / rounds))
    return found


def measure(place: Home, model: Predictor, seconds: float, say: Say) -> Measured:
    """Start all contestants and measure them.

    Parameters
    ----------
    place
        An installation of its own, without a model.
    seconds
        For each contestant and measurement.

    Raises
    ------
    DemandError
        A contestant does not start, or answers something else than predictions.
    """
    say("registering and deploying it")
    registry = Registry(place)
    champion = registry.promote(register([model], place)[0], "benchmark")
    deployment = deploy(champion, SETTINGS, place)
    questions = Questions.of(new_ads(BATCH * BATCHES))
    save_empty_model(place.root / "empty")
    with contextlib.ExitStack() as stack:
        say("starting the Flask API and MLflow's own server")
        api = stack.enter_context(flask_api(place.logs / "api.log"))
        with listen_near("127.0.0.1", SETTINGS.port + 100) as listener:
            port = listener.getsockname()[1]
        empty = stack.enter_context(
            mlflow_serve(place.root / "empty", port, place.logs / "empty.log", _answers)
        )
        addresses = {
            MODEL_SERVER: deployment.server.address,
            FLASK: api.address,
            EMPTY: empty.address,
        }
        targets = {name: questions.targets(name, a) for name, a in addresses.items()}
        _warm_up([target for pair in targets.values() for target in pair])
        say("single ads")
        single = interleaved(
            {name: _partial(latencies, one) for name, (one, _) in targets.items()},
            seconds,
            SINGLE_ROUNDS,
        )
        say(f"{CONNECTIONS} connections")
        load = interleaved({name: _loaded(one) for name, (one, _) in targets.items()}, seconds)
        say("batches, and predict_one")
        in_batches: dict[str, Callable[[float], float]] = {PREDICTOR: _in_process(model, questions)}
        in_batches |= {
            name: _batches(target)
            for name, (_, target) in targets.items()
            if name in (MODEL_SERVER, FLASK)
        }
        with threadpool_limits(1):
            batches = interleaved(in_batches, seconds)
            one = interleaved({"one": _one_by_one(model, questions)}, seconds / 2)["one"]
        memory = {
            MODEL_SERVER: resident_mb(deployment.server.pid),
            FLASK: resident_mb(api.pid),
            EMPTY: resident_mb(empty.pid),
        }
    say("starts")
    starts = _starts(place, deployment, questions)
    running = {name: Running(starts.get(name, []), memory[name]) for name in memory}
    return Measured(_about(seconds), single, load, batches, one, running)


def main(arguments: list[str] | None = None) -> int:
    """Measure, print and write; return the exit status."""
    options = _parser().parse_args(arguments)
    console = Console(width=None if sys.stdout.isatty() else 140)
    try:
        with own_home("demand-serving-") as place:
            say = progress(quiet=options.quiet)
            model = quick_models(1, options.model, say)[0]
            measured = measure(place, model, options.seconds, say)
        written = write_serving(measured, options.results)
    except DemandError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_status
    show(console, measured.grids(), written)
    return 0


def progress(*, quiet: bool) -> Say:
    """Return what tells on standard error what is being done, and since when."""
    out = Console(stderr=True, quiet=quiet, highlight=False)
    started = time.perf_counter()

    def say(what: str) -> None:
        out.print(f"  {time.perf_counter() - started:5.0f} s  {what}", soft_wrap=True)

    return say


def facts() -> dict[str, str | int]:
    """Return when and on what a benchmark ran."""
    return {
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "cores": os.cpu_count() or 0,
        "load average": f"{os.getloadavg()[0]:.1f}",
        "Python": platform.python_version(),
    }


def _about(seconds: float) -> dict[str, str | int]:
    return {
        **facts(),
        "rounds": f"{ROUNDS}, {SINGLE_ROUNDS} of single ads",
        "seconds of each": f"{seconds:g}",
    }


def _partial(measured: Callable[[Target, float], T], target: Target) -> Callable[[float], T]:
    return lambda seconds: measured(target, seconds)


def _loaded(target: Target) -> Callable[[float], float]:
    return lambda seconds: requests_per_second(target, CONNECTIONS, seconds)


def _batches(target: Target) -> Callable[[float], float]:
    """Return what measures ads per second over HTTP, one batch after the other."""

    def measured(seconds: float) -> float:
        taken = latencies(target, seconds)
        return BATCH * len(taken) / sum(taken)

    return measured


def _in_process(model: Predictor, questions: Questions) -> Callable[[float], float]:
    def measured(seconds: float) -> float:
        frames = questions.frames
        taken = _timed(lambda n: model.predict(frames[n % len(frames)]), seconds)
        return BATCH * len(taken) / sum(taken)

    return measured


def _one_by_one(model: Predictor, questions: Questions) -> Callable[[float], list[float]]:
    ads = questions.singles
    return lambda seconds: _timed(lambda n: model.predict_one(ads[n % len(ads)]), seconds)


def _timed(call: Callable[[int], object], seconds: float) -> list[float]:
    found: list[float] = []
    until = time.perf_counter() + seconds
    while not found or time.perf_counter() < until:
        begun = time.perf_counter()
        call(len(found))
        found.append(time.perf_counter() - begun)
    return found


def _warm_up(targets: Sequence[Target]) -> None:
    for target in targets:
        latencies(target, 0.5)


def _invocation(address: str, ads: list[dict[str, object]]) -> bytes:
    return post(address, "/invocations", {"dataframe_records": ads})


def _answers(address: str) -> bool:
    try:
        with connected(address) as connection:
            ask(connection, f"GET /ping HTTP/1.1\r\nHost: {address[7:]}\r\n\r\n".encode())
    except (OSError, ServingError):
        return False
    return True


def resident_mb(pid: int) -> float:
    """Return the resident megabytes of a process and all below it.

    A page that n of them share counts as one n-th of it in each (*proportional set size*).
    """
    parent = psutil.Process(pid)
    family = [parent, *parent.children(recursive=True)]
    return sum(float(each.memory_full_info().pss) for each in family) / 1e6


def _starts(place: Home, deployment: Deployment, questions: Questions) -> dict[str, list[float]]:
    """Return the seconds from the start of each server's process to its first answer."""
    found: dict[str, list[float]] = {MODEL_SERVER: [], FLASK: []}
    for number in range(STARTS):
        begun = time.perf_counter()
        with flask_api(place.logs / f"start-{number}.log") as api:
            _first_answer(questions, FLASK, api)
            found[FLASK].append(time.perf_counter() - begun)
        with listen_near("127.0.0.1", SETTINGS.port + 200) as listener:
            begun = time.perf_counter()
            folder = place.serving / deployment.version
            server = start_server(folder, "start", listener, place.logs / "start.log")
        try:
            _first_answer(questions, MODEL_SERVER, Program(server.pid, server.address))
            found[MODEL_SERVER].append(time.perf_counter() - begun)
        finally:
            server.stop()
    return found


def _first_answer(questions: Questions, name: str, program: Program) -> None:
    """Ask until it answers: it listens from its start, so that one request mostly does."""
    request = questions.targets(name, program.address)[0].requests[0]
    until = time.monotonic() + SETTINGS.startup_timeout_s
    while True:
        try:
            with connected(program.address) as connection:
                ask(connection, request)
            return
        except (OSError, ServingError):
            if time.monotonic() > until:
                raise
            time.sleep(0.01)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.serving",
        description=__doc__,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--seconds", type=seconds_from_text, default=5.0, help="of each measurement (default: 5)"
    )
    add_common(parser)
    return parser


def add_common(parser: argparse.ArgumentParser) -> None:
    """Add the options that all serving benchmarks have."""
    parser.add_argument(
        "--model",
        type=Path,
        metavar="FOLDER",
        help="a saved Predictor (default: one trained on demo ads)",
    )
    parser.add_argument(
        "--results", type=Path, metavar="DIR", default=RESULTS, help="where files are written"
    )
    parser.add_argument("--quiet", action="store_true", help="no progress")


def seconds_from_text(text: str) -> float:
    """Read a number of seconds, for argparse."""
    seconds = float(text)
    if not 0 < seconds <= 3_600:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of seconds up to an hour")
    return seconds


if __name__ == "__main__":
    sys.exit(main())
