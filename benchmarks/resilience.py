"""Does an answer ever fail while models change? ``python -m benchmarks.resilience``.

Asks the Flask API steadily while the champion is switched and rolled back, the model server
is killed, and the registry is locked. All lives in a temporary folder. Prints failures, the
longest gaps between answers and what each event did, and writes it below benchmarks/results.
Exit status 0, whatever was found.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import signal
import sqlite3
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil
from rich.console import Console

from benchmarks.quality_report import show
from benchmarks.serving import add_common, facts, progress, seconds_from_text
from benchmarks.serving_client import ask, connected, post
from benchmarks.serving_installation import (
    SETTINGS,
    Say,
    as_json,
    flask_api,
    new_ads,
    own_home,
    quick_models,
    register,
)
from benchmarks.serving_journal import (
    INVOCATIONS,
    KILL,
    LOCK,
    PREDICT,
    ROLLBACK,
    SWITCH,
    Happened,
    Journal,
    write_journal,
)
from benchmarks.serving_load import Answered, Route, steady_load
from demand.commands.parsers import whole_number
from demand.errors import DemandError, ServingError
from demand.ingestion.records import frame_from_records
from demand.predictor import Predictor
from demand.serving.registry import Registry
from demand.serving.rollout import roll_back, roll_out
from demand.serving.server import active
from demand.state import Home

EXAMPLES = """examples:
  python -m benchmarks.resilience
  python -m benchmarks.resilience --seconds 15 --switches 2 --quiet --results /tmp/resilience
"""
SECONDS = 60.0
_LOCK_S = 5.0
_ADS = 200
_BACK_S = 60.0
_TOLERANCE = 1e-6


@dataclass(frozen=True)
class Plan:
    """What happens during the load.

    Parameters
    ----------
    seconds
        The load's length, at least: it lasts until the last event is over.
    switches, rollbacks, kills, locks
        How many of each.
    predict_rate, invocations_rate
        Requests per second of each route.
    callers
        Requests of a route that may wait at a time. Many, for the load to be steady
        whatever happens; 8 of each route never are more than the API lets in at a time.
    """

    seconds: float = SECONDS
    switches: int = 10
    rollbacks: int = 2
    kills: int = 2
    locks: int = 1
    predict_rate: float = 40.0
    invocations_rate: float = 20.0
    callers: int = 64

    @property
    def lock_s(self) -> float:
        """How long the registry is locked: shorter in a shorter run."""
        return _LOCK_S * min(1.0, self.seconds / SECONDS)

    def events(self) -> list[str]:
        """Return the kinds of events in their order: the others evenly among the switches."""
        others = _alternating([KILL] * self.kills, [ROLLBACK] * self.rollbacks, [LOCK] * self.locks)
        # A switch comes first, since a rollback needs a champion before the present one.
        order = [(n / self.switches, SWITCH) for n in range(self.switches)]
        order += [((n + 1) / (len(others) + 1), kind) for n, kind in enumerate(others)]
        return [kind for _, kind in sorted(order, key=lambda each: each[0])]


def _alternating(*groups: list[str]) -> list[str]:
    longest = max(map(len, groups))
    return [group[n] for n in range(longest) for group in groups if n < len(group)]


class Trouble:
    """Makes events happen to an installation.

    Parameters
    ----------
    place
        The installation, with a champion that serves.
    versions
        Registered ones, two or more.
    api
        Root of the API's URLs.
    plan
        See :class:`Plan`.
    """

    def __init__(self, place: Home, versions: Sequence[str], api: str, plan: Plan) -> None:
        self._place = place
        self._versions = versions
        self._api = api
        self._plan = plan
        self._registry = Registry(place)

    def make(self, kind: str) -> Happened:
        """Let one event happen, and return when it is over."""
        makers: dict[str, Callable[[], tuple[str, str | None]]] = {
            SWITCH: self._switch,
            ROLLBACK: self._roll_back,
            KILL: self._kill,
            LOCK: self._lock,
        }
        begun = time.monotonic()
        what, version = makers[kind]()
        return Happened(kind, what, begun, time.monotonic(), version)

    def _switch(self) -> tuple[str, str]:
        champion = self._registry.champion()
        before = champion.version if champion else None
        version = next(each for each in self._versions if each != before)
        self._registry.promote(version, "benchmark")
        roll_out(version, SETTINGS)
        return f"switch {before} → {version}", version

    def _roll_back(self) -> tuple[str, str]:
        version = roll_back(None, "benchmark", SETTINGS).version
        return f"rollback → {version}", version

    def _kill(self) -> tuple[str, None]:
        deployment = active(self._place)
        assert deployment is not None
        children = psutil.Process(deployment.server.pid).children()
        for child in children:
            child.send_signal(signal.SIGKILL)
        self._until_answered()
        return f"SIGKILL to the model server of {deployment.version}", None

    def _until_answered(self) -> None:
        """Wait until the model server is back, so that its gap is not cut by the next event."""
        request = post(self._api, INVOCATIONS, {"dataframe_records": as_json(new_ads(1))})
        until = time.monotonic() + _BACK_S
        while time.monotonic() < until:
            with contextlib.suppress(OSError, ServingError), connected(self._api) as connection:
                ask(connection, request)
                return
            time.sleep(0.05)
        raise ServingError(f"the model server was not back {_BACK_S:g} s after it was killed")

    def _lock(self) -> tuple[str, None]:
        seconds = self._plan.lock_s
        with contextlib.closing(
            sqlite3.connect(self._place.mlflow_database, isolation_level=None, timeout=30)
        ) as database:
            database.execute("BEGIN EXCLUSIVE")
            time.sleep(seconds)
            database.execute("ROLLBACK")
        return f"registry locked for {seconds:g} s", None


def measure(place: Home, models: Sequence[Predictor], plan: Plan, say: Say) -> Journal:
    """Ask for as long as the plan says and its events take.

    Parameters
    ----------
    place
        An installation of its own, without a model.
    models
        Two or more.

    Raises
    ------
    DemandError
        A server does not start, a deployment fails, or a model server that was killed
        does not come back.
    """
    say("registering and deploying them")
    versions = register(models, place)
    Registry(place).promote(versions[0], "benchmark")
    roll_out(versions[0], SETTINGS)
    ads = as_json(new_ads(_ADS))
    with flask_api(place.logs / "api.log") as api:
        _check_all_answer(api.address, ads[0])
        trouble = Trouble(place, versions, api.address, plan)
        events: list[Happened] = []
        with steady_load(api.address, _routes(ads, plan)) as load:
            kinds = plan.events()
            for number, kind in enumerate(kinds):
                due = load.started + (number + 0.5) * plan.seconds / len(kinds)
                time.sleep(max(0.0, due - time.monotonic()))
                events.append(trouble.make(kind))
                say(f"{events[-1].what}, {number + 1} of {len(kinds)}")
            time.sleep(max(0.0, load.started + plan.seconds - time.monotonic()))
    expected = {
        version: model.predict(frame_from_records(ads))
        for version, model in zip(versions, models, strict=True)
    }
    wrong = sum(not _is_of_its_version(each, expected) for each in load.journal)
    about = {**facts(), "callers of a route": plan.callers, "seconds": f"{plan.seconds:g}"}
    return Journal(about, load.started, load.journal, events, wrong)


def _routes(ads: Sequence[dict[str, object]], plan: Plan) -> list[Route]:
    singles = [json.dumps(ad, ensure_ascii=False).encode() for ad in ads]
    wrapped = [json.dumps({"dataframe_records": [ad]}, ensure_ascii=False).encode() for ad in ads]
    return [
        Route(PREDICT, plan.predict_rate, singles, plan.callers),
        Route(INVOCATIONS, plan.invocations_rate, wrapped, plan.callers),
    ]


def _check_all_answer(address: str, ad: dict[str, object]) -> None:
    """Ask once, so that the load does not begin while the API still loads its model."""
    for path, value in ((PREDICT, ad), (INVOCATIONS, {"dataframe_records": [ad]})):
        with connected(address) as connection:
            ask(connection, post(address, path, value))


def _is_of_its_version(answered: Answered, expected: dict[str, Sequence[float]]) -> bool:
    """Say whether an answer is that of the model whose version it names; failures say none."""
    if answered.failure is not None or answered.probability is None:
        return True
    known = expected.get(str(answered.version))
    if known is None:
        return False
    return abs(answered.probability - known[answered.body]) <= _TOLERANCE


def main(arguments: list[str] | None = None) -> int:
    """Measure, print and write; return the exit status."""
    options = _parser().parse_args(arguments)
    console = Console(width=None if sys.stdout.isatty() else 160)
    plan = Plan(seconds=options.seconds, switches=options.switches, callers=options.callers)
    try:
        journal = run(plan, options.model, quiet=options.quiet)
        written = write_journal(journal, options.results)
    except DemandError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_status
    show(console, journal.grids(), written)
    return 0


def run(plan: Plan, model: Path | None, *, quiet: bool) -> Journal:
    """Measure in a temporary installation, with a saved model or with two trained ones."""
    with own_home("demand-resilience-") as place:
        say = progress(quiet=quiet)
        return measure(place, quick_models(2, model, say), plan, say)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.resilience",
        description=__doc__,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--seconds",
        type=seconds_from_text,
        default=SECONDS,
        help="of the load; it goes on until the last event is over (default: 60)",
    )
    parser.add_argument(
        "--switches",
        type=whole_number(1, 1_000),
        default=Plan.switches,
        help="of the champion (default: 10)",
    )
    parser.add_argument(
        "--callers",
        type=whole_number(1, 1_000),
        default=Plan.callers,
        help="requests of a route that may wait at a time (default: 64)",
    )
    add_common(parser)
    return parser


if __name__ == "__main__":
    sys.exit(main())
