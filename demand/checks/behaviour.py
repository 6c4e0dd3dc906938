"""How a model must behave whatever its accuracy: what may not move it, and which way.

Each check feeds altered copies of the same ads to the model and compares the answers
(metamorphic tests after Ribeiro et al., "Beyond Accuracy: Behavioral Testing of NLP
Models with CheckList", ACL 2020). Plain pandas: Giskard runs these checks as a suite
in :func:`demand.checks.giskard_session.run_suite`, but nothing here needs it.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import pandas as pd

from demand.ads import REQUEST_REQUIRED
from demand.checks.probe import Check, Outcome, Probe
from demand.config import CheckSettings

QUANTILE = 0.95  # of the ads must stay put; single ads may cross a step of a tree or a bin
EXACT = 1e-9  # what must not matter at all may only move the last bits
SPREAD_MIN = 0.01  # the target's standard deviation is 0.26; a spread of 0.01 explains 0.15 % of it
ABSURD_PRICE = 5e10  # roubles; the largest price in the full data is 7.95e10
ABSURD_FACTOR = 1_000.0

# Frequent words of ads that are written with and without dots: (without, with).
_DOTTED = (
    ("черн", "чёрн"),
    ("зелен", "зелён"),
    ("желт", "жёлт"),
    ("тепл", "тёпл"),
    ("темн", "тёмн"),
    ("легк", "лёгк"),
    ("щетк", "щётк"),
    ("ребенк", "ребёнк"),
    ("самолет", "самолёт"),
    ("еще", "ещё"),
)


def edit_texts(frame: pd.DataFrame, edit: Callable[[str], str]) -> pd.DataFrame:
    """Return a copy of ``frame`` with title and description edited; missing ones stay missing."""
    edited = frame.copy()
    for name in ("title", "description"):
        if name in edited:
            texts = [edit(t) if isinstance(t, str) else None for t in edited[name]]
            edited[name] = pd.Series(texts, index=edited.index, dtype=object)
    return edited


def without_dots(text: str) -> str:
    """Spell ``ё`` as ``е``, and end with a word that has one: every ad is affected."""
    return text.replace("ё", "е").replace("Ё", "Е") + " черный"


def with_dots(text: str) -> str:
    """Spell frequent words with ``ё``, and end with the word of :func:`without_dots`."""
    for plain, dotted in _DOTTED:
        text = re.sub(rf"\b{plain}", dotted, text)
        text = re.sub(rf"\b{plain.capitalize()}", dotted.capitalize(), text)
    return text + " чёрный"


def _stays(probe: Probe, variants: dict[str, pd.DataFrame], tolerance: float) -> Outcome:
    """Compare the 95 % point of the absolute change with ``tolerance``, for the worst variant."""
    points = {
        name: float(np.quantile(np.abs(probe.moved(altered)), QUANTILE))
        for name, altered in variants.items()
    }
    passed = all(point <= tolerance for point in points.values())  # NaN is not within it
    words = ", ".join(f"{point:.4f} ({name})" for name, point in points.items())
    return Outcome(
        passed,
        f"95 % of {len(probe.sample)} ads move by at most {words}",
        float(np.max(list(points.values()))),
    )


def _case(probe: Probe, settings: CheckSettings) -> Outcome:
    variants = {
        "upper case": edit_texts(probe.sample, str.upper),
        "lower case": edit_texts(probe.sample, str.lower),
    }
    return _stays(probe, variants, settings.invariance_tolerance)


def _trailing_spaces(probe: Probe, settings: CheckSettings) -> Outcome:
    altered = edit_texts(probe.sample, lambda text: text + "  \n ")
    return _stays(probe, {"spaces and a line break": altered}, settings.invariance_tolerance)


def _emoji(probe: Probe, settings: CheckSettings) -> Outcome:
    altered = edit_texts(probe.sample, lambda text: text + " 🔥")
    return _stays(probe, {"🔥 at the end": altered}, settings.invariance_tolerance)


def _yo(probe: Probe, settings: CheckSettings) -> Outcome:
    plain = probe.predict(edit_texts(probe.sample, without_dots))
    dotted = probe.predict(edit_texts(probe.sample, with_dots))
    point = float(np.quantile(np.abs(dotted - plain), QUANTILE))
    words = f"95 % of {len(probe.sample)} ads differ by at most {point:.4f} between е and ё"
    return Outcome(point <= settings.invariance_tolerance, words, point)


def _unmoved(probe: Probe, altered: pd.DataFrame) -> Outcome:
    """Demand that no prediction moves at all."""
    moved = np.abs(probe.moved(altered))
    count = int(np.sum(~(moved <= EXACT)))
    largest = float(np.max(moved))
    words = f"{count} of {len(moved)} ads move, by at most {largest:.2g}"
    return Outcome(count == 0, words, largest)


def _column_order(probe: Probe, _: CheckSettings) -> Outcome:
    return _unmoved(probe, probe.sample[list(reversed(probe.sample.columns))])


def _unknown_ids(probe: Probe, _: CheckSettings) -> Outcome:
    rows = range(len(probe.sample))
    altered = probe.sample.assign(
        item_id=np.array([f"unseen-ad-{row}" for row in rows], dtype=object),
        user_id=np.array([f"unseen-seller-{row}" for row in rows], dtype=object),
    )
    return _unmoved(probe, altered)


def _absurd_price(probe: Probe, settings: CheckSettings) -> Outcome:
    prices = probe.sample.get("price", pd.Series(np.nan, index=probe.sample.index))
    variants = {
        "1000 times the price": probe.sample.assign(price=prices * ABSURD_FACTOR),
        "50 billion roubles": probe.sample.assign(price=ABSURD_PRICE),
    }
    rises = {name: float(np.mean(probe.moved(altered))) for name, altered in variants.items()}
    words = ", ".join(f"{name}: {rise:+.4f}" for name, rise in rises.items())
    passed = all(rise <= settings.direction_tolerance for rise in rises.values())
    return Outcome(passed, f"the mean moves with {words}", float(np.max(list(rises.values()))))


def _in_range(probe: Probe, _: CheckSettings) -> Outcome:
    """Look at all test rows, at ads with nothing but the demanded fields, and at absurd prices."""
    bare = probe.sample[[name for name in REQUEST_REQUIRED if name in probe.sample]]
    answers = {
        "test rows": probe.predicted,
        "ads with only title and category": probe.predict(bare),
        "ads at 50 billion": probe.predict(probe.sample.assign(price=ABSURD_PRICE)),
    }
    bad = {name: int(np.sum(~((p >= 0.0) & (p <= 1.0)))) for name, p in answers.items()}
    words = ", ".join(f"{bad[name]} of {len(answers[name])} {name}" for name in answers)
    return Outcome(not any(bad.values()), f"outside: {words}", float(sum(bad.values())))


def _not_constant(probe: Probe, _: CheckSettings) -> Outcome:
    spread = float(np.std(probe.predicted))
    return Outcome(spread >= SPREAD_MIN, f"standard deviation {spread:.4f}", spread)


@dataclass(frozen=True)
class _Behaviour:
    """A demand in words, from the settings, and how to measure it."""

    demanded: Callable[[CheckSettings], str]
    measure: Callable[[Probe, CheckSettings], Outcome]


def _still(settings: CheckSettings) -> str:
    return f"95 % of the ads move by at most {settings.invariance_tolerance:g}"


_BEHAVIOURS: dict[str, _Behaviour] = {
    "invariance_case": _Behaviour(_still, _case),
    "invariance_trailing_spaces": _Behaviour(_still, _trailing_spaces),
    "invariance_yo": _Behaviour(_still, _yo),
    "invariance_emoji_end": _Behaviour(_still, _emoji),
    "invariance_column_order": _Behaviour(lambda _: "no ad moves", _column_order),
    "invariance_unknown_ids": _Behaviour(lambda _: "no ad moves", _unknown_ids),
    "direction_absurd_price": _Behaviour(
        lambda s: f"the mean rises by at most {s.direction_tolerance:g}", _absurd_price
    ),
    "predictions_in_range": _Behaviour(lambda _: "all in [0, 1]", _in_range),
    "predictions_not_constant": _Behaviour(lambda _: f"at least {SPREAD_MIN:g}", _not_constant),
}
BEHAVIOUR_NAMES = tuple(_BEHAVIOURS)


def behaviour_checks(probe: Probe, settings: CheckSettings) -> list[Check]:
    """Return the checks of behaviour, each bound to the probe's model and ads."""
    return [
        Check(name, b.demanded(settings), "behaviour", partial(b.measure, probe, settings))
        for name, b in _BEHAVIOURS.items()
    ]
