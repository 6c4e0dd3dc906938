"""What the API answers with: the champion, followed without a gap, and a model server."""

from __future__ import annotations

import datetime
import logging
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from starlette.exceptions import HTTPException

from demand.errors import DemandError
from demand.features.encoding import AdColumns
from demand.model.predictor import Predictor
from demand.production_log.shadow import ShadowModel
from demand.registry.model_files import NO_FACTS, Facts, load_predictor, read_facts
from demand.registry.versions import read_champion, told_previous
from demand.schema.arrays import Floats
from demand.schema.records import Typed
from demand.serving.client import HttpClient, NoAnswer, Response, TooSlow
from demand.workspace.workspace import Workspace

POLL_S = 0.5
# How long a champion that could not be loaded is left alone before the next try.
RETRY_S = 10.0
# What is passed on to a model server: how long it waits for one, and for the answer.
_PATIENCE_S, _PAUSE_S, _ANSWER_S = 30.0, 0.05, 60.0
_log = logging.getLogger("demand.api")


@dataclass(frozen=True)
class Serving:
    """A loaded model, whole or not there at all.

    The version is that of the registered model; ``data_md5`` and the metrics tell what it was
    trained on, and the figures of its evaluation. It answers here since an ISO time in UTC.
    """

    predictor: Predictor
    version: str
    data_md5: str
    metrics: dict[str, float]
    since: str
    facts: Facts = NO_FACTS


class ModelProvider:
    """Where the API takes its model from, at every request.

    ``serving`` is what answers now, None where there is no model yet; ``problem`` is why that is
    not the champion, in one line, None where it is.
    """

    serving: Serving | None = None
    problem: str | None = None

    def shadow(self) -> ShadowModel | None:
        """Return the model that answers for the log alone: there is none."""
        return None


class FixedModel(ModelProvider):
    """One model from a folder, as in a container: an MLflow model, or a Predictor's folder.

    :class:`demand.errors.ModelError`: the folder holds no model, or a damaged one.
    """

    def __init__(self, folder: Path, version: str) -> None:
        inner = folder / "data" / "predictor"
        packaged = inner.is_dir()
        predictor = Predictor.load(inner if packaged else folder)
        # Beside a bare Predictor may lie whatever shares its folder.
        facts = read_facts(folder, version) if packaged else NO_FACTS
        self.serving = Serving(predictor, version, "", {}, _now(), facts)


class FollowedChampion(ModelProvider):
    """The champion of an installation, replaced within two seconds of a change by its commands.

    A champion whose files are missing or damaged is refused with a reason, and what
    answered before goes on; so it does while the registry cannot be read. The champion before it
    is its shadow, unless that cannot be loaded.
    """

    # The version that was refused, and until when; and the line of the log that says why.
    _refused: tuple[str, float] = ("", 0.0)
    _logged = ""
    # The champion before, and the version that was tried last.
    _shadow: ShadowModel | None = None
    _tried: str | None = None

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace

    def shadow(self) -> ShadowModel | None:
        """Return the champion before the one that answers."""
        return self._shadow

    def start(self) -> None:
        """Load the champion, and follow it in a thread that ends with the process."""
        self.look()
        threading.Thread(target=self._follow, name="champion", daemon=True).start()

    def look(self) -> None:
        """Ask the registry once, and load what it names if that is another version."""
        try:
            champion = read_champion(self._workspace)
        except Exception as error:  # by whatever means, what answers now goes on
            self._say("the registry cannot be read", _why(error))
            return
        if champion is None:
            self._say("no model was promoted yet: run `python run.py --pipeline training`")
            return
        if self.serving is not None and self.serving.version == champion.version:
            self._forget()
            return
        version, until = self._refused
        if version == champion.version and time.monotonic() < until:
            return
        try:
            predictor = load_predictor(champion)
            facts = read_facts(champion.source, champion.version)
        except Exception as error:
            self._refused = champion.version, time.monotonic() + RETRY_S
            self._say(f"champion {champion.version} is refused", _why(error))
            return
        self.serving = Serving(
            predictor, champion.version, champion.data_md5, champion.metrics, _now(), facts
        )
        self._forget()
        _log.info("version %s answers", champion.version)

    def _follow(self) -> None:
        while True:
            time.sleep(POLL_S)
            self.look()
            self.look_back()

    def look_back(self) -> None:
        """Load the champion before this one, once: it is of use, but not needed."""
        try:
            before = told_previous(self._workspace)
            version = None if before is None else before.version
            if version == self._tried:
                return
            self._tried, self._shadow = version, None
            if before is not None:
                self._shadow = ShadowModel(before.version, _answers_of(load_predictor(before)))
        except Exception as error:
            _log.warning("the champion before is no shadow: %s", _why(error))

    def _forget(self) -> None:
        self._refused, self._logged, self.problem = ("", 0.0), "", None

    def _say(self, problem: str, details: str = "") -> None:
        """Tell clients a problem, and the log its details: they may name files."""
        line = f"{problem}: {details}" if details else problem
        if line != self._logged:
            _log.warning("%s", line)
        self._logged = line
        self.problem = f"{problem}; the API's log says why" if details else problem


def _answers_of(predictor: Predictor) -> Callable[[Typed], Floats]:
    return lambda ads: predictor.answer(AdColumns.from_typed(ads)).probability


def _why(error: Exception) -> str:
    return str(error) if isinstance(error, DemandError) else repr(error)


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


class ModelServerProxy:
    """Passes requests on over kept connections.

    A prediction changes nothing, so that a request that got no answer can be sent again, for so
    many seconds: to the server that has taken over meanwhile, or to the same one once it is back.
    The address is asked for at every attempt; it is the root of its URLs, None where none serves.
    """

    def __init__(self, address: Callable[[], str | None], patience_s: float = _PATIENCE_S) -> None:
        self._address = address
        self._patience_s = patience_s
        self._client = HttpClient(_ANSWER_S)

    def ask(self, body: bytes, headers: Mapping[str, str]) -> Response:
        """Return the model server's answer to ``POST /invocations``, of whatever status.

        HTTPException: none could be reached in time; ServingError: the answer is too large.
        """
        deadline = time.monotonic() + self._patience_s
        while True:
            why = "no model server is running: run `demand serve`"
            if address := self._address():
                try:
                    return self._client.request("POST", f"{address}/invocations", body, headers)
                except TooSlow:
                    raise HTTPException(503, f"no answer within {_ANSWER_S:g} s") from None
                except NoAnswer:
                    why = "the model server does not answer"
            if time.monotonic() >= deadline:
                raise HTTPException(503, why)
            time.sleep(_PAUSE_S)
