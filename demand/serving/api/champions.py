"""The model that the API answers with: the champion, followed without a gap."""

from __future__ import annotations

import datetime
import logging
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from demand.errors import DemandError
from demand.predictor import Predictor
from demand.serving.alias import Champion, read_champion
from demand.serving.facts import NO_FACTS, Facts, read_facts
from demand.serving.model_files import load_predictor
from demand.state import Home

POLL_S = 0.5
# How long a champion that could not be loaded is left alone before the next try.
RETRY_S = 10.0
_log = logging.getLogger("demand.api")


@dataclass(frozen=True)
class Serving:
    """A loaded model, whole or not there at all.

    Parameters
    ----------
    predictor
        What answers.
    version
        Of the registered model.
    data_md5, metrics
        What it was trained on, and the figures of its evaluation.
    since
        ISO time in UTC since when it answers here.
    facts
        What can be told of it.
    """

    predictor: Predictor
    version: str
    data_md5: str
    metrics: dict[str, float]
    since: str
    facts: Facts = NO_FACTS


class Champions(Protocol):
    """Where the API takes its model from, at every request."""

    @property
    def serving(self) -> Serving | None:
        """What answers now; None where there is no model yet."""

    @property
    def problem(self) -> str | None:
        """Why what answers is not the champion, in one line; None where it is."""


class FixedModel:
    """One model from a folder, as in a container: an MLflow model, or a Predictor's folder.

    Raises
    ------
    ModelError
        The folder holds no model, or a damaged one.
    """

    problem: str | None = None

    def __init__(self, folder: Path, version: str) -> None:
        inner = folder / "data" / "predictor"
        packaged = inner.is_dir()
        predictor = Predictor.load(inner if packaged else folder)
        # Beside a bare Predictor may lie whatever shares its folder.
        facts = read_facts(folder, version) if packaged else NO_FACTS
        self.serving: Serving | None = Serving(predictor, version, "", {}, _now(), facts)


class FollowedChampion:
    """The champion of an installation, replaced within two seconds of a change.

    A champion whose files are missing or damaged is refused with a reason, and what
    answered before goes on; so it does while the registry cannot be read.

    Parameters
    ----------
    place
        The installation.
    """

    def __init__(self, place: Home) -> None:
        self._place = place
        self._refused: tuple[str, float] | None = None
        self.serving: Serving | None = None
        self.problem: str | None = None

    def start(self) -> None:
        """Load the champion, and follow it in a thread that ends with the process."""
        self.look()
        threading.Thread(target=self._follow, name="champion", daemon=True).start()

    def look(self) -> None:
        """Ask the registry once, and load what it names if that is another version."""
        try:
            champion = read_champion(self._place.mlflow_database)
        except DemandError as error:
            self._say(str(error))
            return
        if champion is None:
            self._say("no model was promoted yet: run `python run.py --pipeline training`")
            return
        if self.serving is not None and self.serving.version == champion.version:
            self._refused = self.problem = None
            return
        if self._refused is not None:
            version, until = self._refused
            if version == champion.version and time.monotonic() < until:
                return
        try:
            self.serving = _load(champion)
        except Exception as error:
            # Whatever a damaged model does, what answers now must go on.
            self._refused = champion.version, time.monotonic() + RETRY_S
            why = str(error) if isinstance(error, DemandError) else repr(error)
            self._say(f"champion {champion.version} is refused: {why}")
            return
        self._refused = self.problem = None
        _log.info("version %s answers", champion.version)

    def _follow(self) -> None:
        while True:
            time.sleep(POLL_S)
            try:
                self.look()
            except Exception:
                _log.exception("looking for the champion failed")

    def _say(self, problem: str) -> None:
        if problem != self.problem:
            _log.warning("%s", problem)
        self.problem = problem


def _load(champion: Champion) -> Serving:
    predictor = load_predictor(champion.version, champion.source, champion.files_sha256)
    facts = read_facts(champion.source, champion.version)
    return Serving(predictor, champion.version, champion.data_md5, champion.metrics, _now(), facts)


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
