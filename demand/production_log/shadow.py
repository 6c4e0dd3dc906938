"""A second model that answers a part of what was asked, so that both are known on the same ads.

Its answers go to the log and to nobody else; they are made in the log's thread, at most so many
a second, since they take as much time as the first ones.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from demand.production_log.entries import Answered
from demand.schema.arrays import Floats
from demand.schema.records import Typed

_log = logging.getLogger("demand.production_log")


class ShadowModel(NamedTuple):
    """A version, and what returns its probabilities for n ads, shape (n,)."""

    version: str
    answer: Callable[[Typed], Floats]


class Shadow:
    """Lets the model that ``model`` returns, None where there is none, answer again."""

    def __init__(self, model: Callable[[], ShadowModel | None], ads_per_s: float) -> None:
        self._model, self._ads_per_s = model, ads_per_s
        self._allowed, self._at = ads_per_s, time.monotonic()
        self._failed = ""

    def answers(self, answered: Sequence[Answered]) -> list[Answered]:
        """Return its answers to ads that sellers asked about, as many as are allowed now.

        Where it fails there are none, which is said once a version.
        """
        now = time.monotonic()
        more = (now - self._at) * self._ads_per_s
        # What was not used for a second is lost, but a slow flow of single ads is not.
        self._allowed = min(self._allowed + more, max(self._ads_per_s, 1.0))
        self._at, model = now, self._model()
        if model is None or self._failed == model.version:
            return []
        try:
            return list(self._answers(answered, model))
        except Exception as error:  # whatever it is, the log goes on
            self._failed = model.version
            _log.warning("version %s cannot answer as a shadow: %r", model.version, error)
            return []

    def _answers(self, answered: Sequence[Answered], model: ShadowModel) -> Iterator[Answered]:
        for request in answered:
            asked = [n for n in range(len(request.probabilities)) if n not in request.probes]
            rows = asked[: int(self._allowed)]
            if not rows or request.model_version == model.version:
                continue
            self._allowed -= len(rows)
            ads = {name: column[rows] for name, column in request.ads.items()}
            told = request._replace(model_version=model.version, ads=ads, probes=())
            told = told._replace(interval=None, unknown={})
            yield told._replace(probabilities=model.answer(ads), rows=rows, shadow=True)
