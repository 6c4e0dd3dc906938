"""A model under test, the ads it is asked about, and what one check of it found."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, Protocol

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from demand.ads import TARGET
from demand.errors import ModelError

Kind = Literal["behaviour", "slice", "scan"]
Floats = NDArray[np.float64]

SAMPLE_ROWS = 5_000  # of a large test set: the 95 % point of a change is known to 1 % of the ads
SAMPLE_SEED = 42


class Model(Protocol):
    """Anything that predicts; the real one is ``demand.predictor.Predictor``."""

    def predict(self, ads: pd.DataFrame, /) -> Floats:
        """Predict the deal probability of typed ads.

        Parameters
        ----------
        ads
            Ads with columns of :data:`demand.ads.INPUT_COLUMNS` in any order; optional
            ones may be absent.

        Returns
        -------
        numpy.ndarray
            float64, shape ``(len(ads),)``, in [0, 1].
        """


@dataclass(frozen=True)
class Finding:
    """What one check found.

    Parameters
    ----------
    name
        Of the check, as ``checks.critical`` in the config spells it.
    passed
        The observed value is within what is demanded.
    critical
        A failure stops the pipeline.
    detail
        One line: what was observed, what was demanded.
    kind
        ``behaviour``, ``slice`` or ``scan``.
    value
        The number that was compared, where there is one.
    """

    name: str
    passed: bool
    critical: bool
    detail: str
    kind: Kind
    value: float | None = None


@dataclass(frozen=True)
class Outcome:
    """A check's measurement: whether it is within bounds, in words, and as a number."""

    passed: bool
    observed: str
    value: float | None = None


@dataclass(frozen=True)
class Check:
    """One check, ready to run: ``measure`` compares the model with ``demanded``."""

    name: str
    demanded: str
    kind: Kind
    measure: Callable[[], Outcome]

    def __str__(self) -> str:
        return self.demanded

    def run(self, critical: Sequence[str]) -> Finding:
        """Measure; a model that raises has failed the check, with its reason in the detail."""
        try:
            outcome = self.measure()
        except Exception as error:
            outcome = Outcome(False, f"the model raised {type(error).__name__}: {one_line(error)}")
        detail = f"{outcome.observed} (demanded: {self.demanded})"
        is_critical = self.name in critical
        return Finding(self.name, outcome.passed, is_critical, detail, self.kind, outcome.value)


class Probe:
    """A model and the test rows it is asked about, with answers that are needed often.

    Parameters
    ----------
    model
        The model under test.
    test
        Labelled test rows; the model never sees the target.
    """

    def __init__(self, model: Model, test: pd.DataFrame) -> None:
        self._model = model
        self.ads = test.drop(columns=[TARGET], errors="ignore").reset_index(drop=True)
        rows = min(len(self.ads), SAMPLE_ROWS)
        self.sample = self.ads.sample(rows, random_state=SAMPLE_SEED).reset_index(drop=True)

    def predict(self, frame: pd.DataFrame) -> Floats:
        """Ask the model about a copy of ``frame``; shape ``(len(frame),)``.

        Raises
        ------
        ModelError
            The answer has another shape.
        """
        values = np.asarray(self._model.predict(frame.copy()), dtype=np.float64)
        if values.shape != (len(frame),):
            raise ModelError(f"{len(frame)} ads got an answer of shape {values.shape}")
        return values

    @cached_property
    def predicted(self) -> Floats:
        """Predictions of all test rows."""
        return self.predict(self.ads)

    @cached_property
    def before(self) -> Floats:
        """Predictions of the sample, unaltered."""
        return self.predict(self.sample)

    def moved(self, altered: pd.DataFrame) -> Floats:
        """Change of each of the sample's predictions; shape ``(len(sample),)``."""
        return self.predict(altered) - self.before


def one_line(value: object, limit: int = 300) -> str:
    """Return ``str(value)`` on one line, cut to ``limit`` characters."""
    text = " ".join(str(value).split())
    return text if len(text) <= limit else text[: limit - 1] + "…"
