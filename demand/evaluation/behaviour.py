"""How a model must behave whatever its accuracy: what may not move it, and which way.

Each check feeds altered copies of the same ads to the model and compares the answers
(metamorphic tests after Ribeiro et al., "Beyond Accuracy: Behavioral Testing of NLP
Models with CheckList", ACL 2020). What a check is, and the model under test, is here too.
Giskard runs them in :func:`.giskard_scan.run_suite`, but nothing here needs it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from demand.config import CheckSettings
from demand.errors import ModelError
from demand.evaluation.metrics import Floats
from demand.schema.columns import REQUEST_REQUIRED, TARGET

if TYPE_CHECKING:
    from demand.model.predictor import Predictor

SAMPLE_ROWS = 5_000  # of a large test set: the 95 % point of a change is known to 1 % of the ads
SAMPLE_SEED = 42
QUANTILE = 0.95  # of the ads must stay put; single ads may cross a step of a tree or a bin
EXACT = 1e-9  # what must not matter at all may only move the last bits
SPREAD_MIN = 0.01  # the target's standard deviation is 0.26; a spread of 0.01 explains 0.15 % of it
ABSURD_PRICE = 5e10  # roubles; the largest price in the full data is 7.95e10

# What a check measured: whether it is within bounds, in words, and as a number, if it is one.
Outcome = tuple[bool, str, float | None]

# Frequent words of ads that are written with and without dots: (without, with).
_DOTTED = (
    *(("черн", "чёрн"), ("зелен", "зелён"), ("желт", "жёлт"), ("тепл", "тёпл"), ("темн", "тёмн")),
    *(("легк", "лёгк"), ("щетк", "щётк"), ("ребенк", "ребёнк"), ("самолет", "самолёт")),
    ("еще", "ещё"),
)


@dataclass(frozen=True)
class Finding:
    """What one check found.

    ``name`` is as ``checks.critical`` in the config spells it; the failure of a ``critical``
    check stops the pipeline; ``detail`` says in one line what was observed and demanded, and
    ``value`` is the number that was compared, where there is one.
    """

    name: str
    passed: bool
    critical: bool
    detail: str
    value: float | None = None


@dataclass(frozen=True)
class Check:
    """One check, ready to run: ``measure`` compares the model with ``demanded``."""

    name: str
    demanded: str
    measure: Callable[[], Outcome]

    def __str__(self) -> str:
        return self.demanded

    def run(self, critical: Sequence[str]) -> Finding:
        """Measure; a model that raises has failed the check, with its reason in the detail."""
        try:
            passed, observed, value = self.measure()
        except Exception as error:
            passed, value = False, None
            observed = f"raised {type(error).__name__}: {one_line(error)}"
        detail = f"{observed} (demanded: {self.demanded})"
        return Finding(self.name, passed, self.name in critical, detail, value)


class ModelUnderTest:
    """A model and the labelled test rows it is asked about; it never sees the target.

    Answers that several checks need are kept.
    """

    def __init__(self, model: Predictor, test: pd.DataFrame) -> None:
        self._model = model
        self.ads = test.drop(columns=[TARGET], errors="ignore").reset_index(drop=True)
        rows = min(len(self.ads), SAMPLE_ROWS)
        self.sample = self.ads.sample(rows, random_state=SAMPLE_SEED).reset_index(drop=True)

    def predict(self, ads: pd.DataFrame) -> Floats:
        """Ask the model about a copy of ``ads``; ModelError unless of shape ``(len(ads),)``."""
        values = np.asarray(self._model.predict(ads.copy()), dtype=np.float64)
        if values.shape != (len(ads),):
            raise ModelError(f"{len(ads)} ads got an answer of shape {values.shape}")
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


def edit_texts(frame: pd.DataFrame, edit: Callable[[str], str]) -> pd.DataFrame:
    """Return a copy of ``frame`` with title and description edited; missing ones stay missing."""
    texts = ("title", "description")
    return frame.assign(**{name: frame[name].map(edit, na_action="ignore") for name in texts})


def without_dots(text: str) -> str:
    """Spell ``ё`` as ``е``, and end with a word that has one: every ad is affected."""
    return text.replace("ё", "е").replace("Ё", "Е") + " черный"


def with_dots(text: str) -> str:
    """Spell frequent words with ``ё``, and end with the word of :func:`without_dots`."""
    for plain, dotted in _DOTTED:
        text = re.sub(rf"\b{plain}", dotted, text)
        text = re.sub(rf"\b{plain.capitalize()}", dotted.capitalize(), text)
    return text + " чёрный"


def _edited(
    model: ModelUnderTest, settings: CheckSettings, edits: Mapping[str, Callable[[str], str]]
) -> Outcome:
    """Demand that no edit of the texts moves the predictions: the worst one is the outcome."""
    points = {
        name: _point(model.moved(edit_texts(model.sample, edit))) for name, edit in edits.items()
    }
    passed = all(point <= settings.invariance_tolerance for point in points.values())
    words = ", ".join(f"{point:.4f} ({name})" for name, point in points.items())
    observed = f"95 % of {len(model.sample)} ads move by at most {words}"
    return passed, observed, float(np.max(list(points.values())))


def _point(moved: Floats) -> float:
    """Return the 95 % point of absolute changes; NaN, which is within no bound, stays NaN."""
    return float(np.quantile(np.abs(moved), QUANTILE))


def _yo(model: ModelUnderTest, settings: CheckSettings) -> Outcome:
    plain = model.predict(edit_texts(model.sample, without_dots))
    point = _point(model.predict(edit_texts(model.sample, with_dots)) - plain)
    words = f"95 % of {len(model.sample)} ads differ by at most {point:.4f} between е and ё"
    return point <= settings.invariance_tolerance, words, point


def _unmoved(
    model: ModelUnderTest, _: CheckSettings, alter: Callable[[pd.DataFrame], pd.DataFrame]
) -> Outcome:
    """Demand that no prediction moves at all."""
    moved = np.abs(model.moved(alter(model.sample)))
    count, largest = int(np.sum(~(moved <= EXACT))), float(np.max(moved))
    return count == 0, f"{count} of {len(moved)} ads move, by at most {largest:.2g}", largest


def _with_columns_reversed(ads: pd.DataFrame) -> pd.DataFrame:
    return ads.iloc[:, ::-1]


def _with_unknown_ids(ads: pd.DataFrame) -> pd.DataFrame:
    rows = ads.index.astype(str).astype(object)
    return ads.assign(item_id="unseen-ad-" + rows, user_id="unseen-seller-" + rows)


def _absurd_price(model: ModelUnderTest, settings: CheckSettings) -> Outcome:
    prices: dict[str, pd.Series | float] = {
        "1000 times the price": model.sample["price"] * 1_000.0,
        "50 billion roubles": ABSURD_PRICE,
    }
    rises = {
        name: float(np.mean(model.moved(model.sample.assign(price=price))))
        for name, price in prices.items()
    }
    words = ", ".join(f"{name}: {rise:+.4f}" for name, rise in rises.items())
    passed = all(rise <= settings.direction_tolerance for rise in rises.values())
    return passed, f"the mean moves with {words}", float(np.max(list(rises.values())))


def _in_range(model: ModelUnderTest, _: CheckSettings) -> Outcome:
    """Look at all test rows, at ads with nothing but the demanded fields, and at absurd prices."""
    answers = {
        "test rows": model.predicted,
        "ads with only title and category": model.predict(model.sample[list(REQUEST_REQUIRED)]),
        "ads at 50 billion": model.predict(model.sample.assign(price=ABSURD_PRICE)),
    }
    bad = {name: int(np.sum(~((p >= 0.0) & (p <= 1.0)))) for name, p in answers.items()}
    words = ", ".join(f"{bad[name]} of {len(answers[name])} {name}" for name in answers)
    return not any(bad.values()), f"outside: {words}", float(sum(bad.values()))


def _not_constant(model: ModelUnderTest, _: CheckSettings) -> Outcome:
    spread = float(np.std(model.predicted))
    return spread >= SPREAD_MIN, f"standard deviation {spread:.4f}", spread


_STILL = "95 % of the ads move by at most {settings.invariance_tolerance:g}"
_CASE = {"upper case": str.upper, "lower case": str.lower}
_SPACES = {"spaces and a line break": lambda text: text + "  \n "}
_EMOJI = {"🔥 at the end": lambda text: text + " 🔥"}
# What is demanded, in words, and how it is measured.
_BEHAVIOURS: dict[str, tuple[str, Callable[[ModelUnderTest, CheckSettings], Outcome]]] = {
    "invariance_case": (_STILL, partial(_edited, edits=_CASE)),
    "invariance_trailing_spaces": (_STILL, partial(_edited, edits=_SPACES)),
    "invariance_yo": (_STILL, _yo),
    "invariance_emoji_end": (_STILL, partial(_edited, edits=_EMOJI)),
    "invariance_column_order": (
        "no ad moves",
        partial(_unmoved, alter=lambda ads: ads.iloc[:, ::-1]),
    ),
    "invariance_unknown_ids": ("no ad moves", partial(_unmoved, alter=_with_unknown_ids)),
    "direction_absurd_price": (
        "the mean rises by at most {settings.direction_tolerance:g}",
        _absurd_price,
    ),
    "predictions_in_range": ("all in [0, 1]", _in_range),
    "predictions_not_constant": (f"at least {SPREAD_MIN:g}", _not_constant),
}
BEHAVIOUR_NAMES = tuple(_BEHAVIOURS)


def behaviour_checks(model: ModelUnderTest, settings: CheckSettings) -> list[Check]:
    """Return the checks of behaviour, each bound to the model and its ads."""
    return [
        Check(name, demanded.format(settings=settings), partial(measure, model, settings))
        for name, (demanded, measure) in _BEHAVIOURS.items()
    ]


def one_line(value: object, limit: int = 300) -> str:
    """Return ``str(value)`` on one line, cut to ``limit`` characters."""
    text = " ".join(str(value).split())
    return text if len(text) <= limit else text[: limit - 1] + "…"
