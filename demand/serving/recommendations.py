"""Recommendations for an ad: the model's answers to the ad with one thing changed.

Asking is left to the caller, since a file of ads is asked about in a few large requests:
:func:`plan` says which ads to ask about, :meth:`Plan.read` makes recommendations of the
answers. Nothing is recommended that the model did not answer with a gain.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Any, Literal

from demand.schema.columns import COLUMN, PARAMS

Ad = Mapping[str, Any]
# Facts of one category, as `GET /market` lists them.
CategoryFacts = Mapping[str, Any]
Kind = Literal["photo", "description", "title", "param", "price"]

SUGGESTIONS_MAX = 5
# Half a percentage point: less is not worth a seller's minute.
GAIN_MIN = 0.005
CURVE_POINTS = 40
# Points between the quartiles where only the best price is wanted, not a curve.
FEW_POINTS = 5
# On the site a title has at most so many characters.
TITLE_LETTERS_MAX = 50
# Common values of a missing param that are tried.
_VALUES_TRIED = 3
# A price that brings this share of the largest gain, and is nearer to today's, is preferred.
_GAIN_SHARE = 0.8
# Prices whose probability is at most this share below the best one are as good.
_BEST_SHARE = 0.05
# A curve goes on past today's price by this factor.
_BEYOND_TODAY = 1.2
# A curve needs a beginning, an end, and something between.
_POINTS_MIN = 3
# Says nothing of one thing that it does not say of all others.
_PHRASE = "Всё описано как есть, на вопросы отвечу."
_TELLS_NOTHING = ("друг", "без размера", "иное")


@dataclass(frozen=True)
class Suggestion:
    """One changed field (a price in roubles, or a text), and the model's answer in [0, 1] to it.

    The gain is by how much that is above the answer to the ad as it is.
    """

    kind: Kind
    field: str
    value: Any
    probability: float
    gain: float


@dataclass(frozen=True)
class PriceCurve:
    """Deal probability over ascending prices in roubles, all else as it is.

    The market is the lower and upper quartile of the category's prices; best prices are looked for
    there, so that nobody is told to give a thing away: the first and last price of the range in
    which the probability is at most 5 %, or half a percentage point, below its highest there.
    """

    prices: tuple[float, ...]
    probabilities: tuple[float, ...]
    market: tuple[float, float]
    best: tuple[float, float]


@dataclass(frozen=True)
class Recommendations:
    """What the model's answers say; the best suggestion comes first, at most five."""

    probability: float
    curve: PriceCurve | None
    suggestions: tuple[Suggestion, ...]


@dataclass(frozen=True)
class Plan:
    """The ads to ask the model about: the ad as it is, one for each change and each price."""

    ads: tuple[dict[str, Any], ...]
    _changes: tuple[tuple[Kind, str, Any], ...]
    _prices: tuple[float, ...]
    _market: tuple[float, float] | None

    def read(self, probabilities: Sequence[float]) -> Recommendations:
        """Return what the deal probabilities of :attr:`ads`, in their order, recommend."""
        if len(probabilities) != len(self.ads):
            raise ValueError(f"{len(probabilities)} answers to {len(self.ads)} ads")
        base = probabilities[0]
        first_price = 1 + len(self._changes)
        at_prices = tuple(probabilities[first_price:])
        found = [
            Suggestion(*change, answer, answer - base)
            for change, answer in zip(self._changes, probabilities[1:first_price], strict=True)
        ]
        found += self._best_price(base, at_prices)
        kept = [suggestion for suggestion in found if suggestion.gain >= GAIN_MIN]
        # Of a param the first example, its most common value that brings something: the best of
        # some values would promise more than most things can keep.
        params = [suggestion for suggestion in kept if suggestion.kind == "param"]
        kept = [s for s in kept if s.kind != "param" or s is params[0]]
        kept.sort(key=lambda suggestion: -suggestion.gain)
        return Recommendations(base, self._curve(at_prices), tuple(kept[:SUGGESTIONS_MAX]))

    def alone(self) -> Plan:
        """Return the plan that asks about the ad as it is, and nothing else."""
        return Plan(self.ads[:1], (), (), None)

    def _in_market(self, answers: Sequence[float]) -> list[tuple[float, float]]:
        low, high = self._market or (math.inf, -math.inf)
        pairs = zip(self._prices, answers, strict=True)
        return [(price, answer) for price, answer in pairs if low <= price <= high]

    def _best_price(self, base: float, answers: Sequence[float]) -> list[Suggestion]:
        """Return the best price between the quartiles, or nothing."""
        points = self._in_market(answers)
        gain = max((answer for _, answer in points), default=base) - base
        if gain <= 0:
            return []
        today = self.ads[0].get("price")
        if today is None:  # the middle of the market, as prices are spread
            low, high = self._market or (1.0, 1.0)
            today = math.sqrt(max(1.0, low) * max(1.0, high))
        near = math.log1p(today)
        good = [point for point in points if point[1] - base >= _GAIN_SHARE * gain]
        price, answer = min(good, key=lambda point: abs(math.log1p(point[0]) - near))
        return [Suggestion("price", "price", price, answer, answer - base)]

    def _curve(self, answers: tuple[float, ...]) -> PriceCurve | None:
        points = self._in_market(answers)
        if self._market is None or len(self._prices) < _POINTS_MIN or not points:
            return None
        top = max(range(len(points)), key=lambda i: points[i][1])
        enough = points[top][1] - max(_BEST_SHARE * points[top][1], GAIN_MIN)
        before = takewhile(lambda point: point[1] >= enough, points[top::-1])
        after = takewhile(lambda point: point[1] >= enough, points[top:])
        return PriceCurve(self._prices, answers, self._market, ([*before][-1][0], [*after][-1][0]))


def plan(ad: Ad, facts: CategoryFacts | None, *, curve: bool = True) -> Plan:
    """Say what to ask the model about an ad, whose unknown fields are absent or None.

    Where facts of its category are not known, neither prices nor params are tried. For a curve,
    40 prices from the 10th to the 90th percentile, and on to today's, are asked about; without
    one only a few between the quartiles.
    """
    base = {name: value for name, value in ad.items() if value is not None}
    changes = tuple(_changes(base, facts or {}))
    spread = (facts or {}).get("price")
    market = _quartiles(spread) if spread else None
    prices = _prices(spread, base.get("price"), curve=curve) if spread else ()
    changed = [base | {field: value} for _, field, value in changes]
    priced = [base | {"price": price} for price in prices]
    return Plan((base, *changed, *priced), changes, prices, market)


def next_values(ad: Ad, facts: CategoryFacts) -> tuple[str, list[str]] | None:
    """Return the first param that the ad lacks and its values, the most common first.

    None where the ad has all params that its category knows, or a value of its own that
    no other ad has.
    """
    level: Sequence[Mapping[str, Any]] = facts.get("params", ())
    for name in PARAMS:
        if not level:
            return None
        if not ad.get(name):
            return name, [node["value"] for node in level]
        level = next((node["next"] for node in level if node["value"] == ad[name]), ())
    return None


def fuller_title(ad: Ad) -> str | None:
    """Return the title with the params' values that it lacks; None where it lacks none."""
    title = str(ad["title"]).strip()
    fuller = title
    for value in _telling(ad):
        longer = f"{fuller}, {value.lower()}"
        if value.casefold() not in fuller.casefold() and len(longer) <= TITLE_LETTERS_MAX:
            fuller = longer
    return None if fuller == title or len(fuller) > _most("title") else fuller


def longer_description(ad: Ad) -> str | None:
    """Return the seller's own text, and after it in sentences what the other fields say.

    None where the text says all of that already, or would be longer than an ad's may be.
    """
    own = str(ad.get("description") or "").strip()
    facts = [str(ad["title"]).strip(), ", ".join(_telling(ad)), ad.get("city"), _PHRASE]
    missing = [fact for fact in facts if fact and fact.casefold() not in own.casefold()]
    if not missing:
        return None
    longer = "\n".join([own, *(f"{fact.rstrip('.')}." for fact in missing)]).strip()
    return longer if len(longer) <= _most("description") else None


def _most(field: str) -> float:
    return COLUMN[field].max_length or math.inf


def _changes(ad: Ad, facts: CategoryFacts) -> list[tuple[Kind, str, Any]]:
    """Return the kind, the field and its new value of each change that is tried."""
    found: list[tuple[Kind, str, Any]] = []
    if not ad.get("image"):
        # Which picture it is, the model cannot know: that there is one, it can.
        found.append(("photo", "image", "photo"))
    letters, words = len(str(ad.get("description") or "")), len(str(ad["title"]).split())
    longer, fuller = longer_description(ad), fuller_title(ad)
    if longer is not None and letters < _usual(facts, "description_letters", "p50"):
        found.append(("description", "description", longer))
    if fuller is not None and words < _usual(facts, "title_words", "p75"):
        found.append(("title", "title", fuller))
    name, values = next_values(ad, facts) or ("", [])
    return found + [("param", name, value) for value in values[:_VALUES_TRIED]]


def _usual(facts: CategoryFacts, what: str, quantile: str) -> float:
    """Return a quantile of the category, of its most demanded ads where they are more."""
    usual = facts.get(what)
    if usual is None:
        return math.inf
    demanded = (facts.get("demanded") or {}).get(what) or {}
    return max(float(usual[quantile]), float(demanded.get(quantile, 0.0)))


def _telling(ad: Ad) -> list[str]:
    """Return the values of the ad's params that say something about the thing."""
    values = [str(ad[name]) for name in PARAMS if ad.get(name)]
    return [value for value in values if not value.casefold().startswith(_TELLS_NOTHING)]


def _prices(spread: Mapping[str, float], today: float | None, *, curve: bool) -> tuple[float, ...]:
    """Return ascending prices, evenly spaced in their logarithm and rounded as people do.

    Both quartiles are among them as they are: between near ones no other may lie. Today's
    price is among those of a curve, and not at its end.
    """
    low, high = ("p10", "p90") if curve else ("p25", "p75")
    ends = [max(1.0, float(spread[low])), max(1.0, float(spread[high]))]
    marks = [price for price in _quartiles(spread) if price >= 1.0]
    if curve and today is not None and today >= 1.0:
        ends += [max(1.0, today / _BEYOND_TODAY), today * _BEYOND_TODAY]
        marks.append(today)
    first, last = math.log(min(ends)), math.log(max(ends))
    steps = (CURVE_POINTS if curve else FEW_POINTS) - 1
    grid = [math.exp(first + (last - first) * i / steps) for i in range(steps + 1)]
    return tuple(sorted({*map(_rounded, grid), *marks}))


def _quartiles(spread: Mapping[str, float]) -> tuple[float, float]:
    """Return the quartiles of a category's prices, rounded as the prices that are tried.

    A model knows round prices from others, so a single odd one among them would stand out.
    """
    low, high = (float(spread[name]) for name in ("p25", "p75"))
    return (_rounded(low) if low >= 1.0 else low, _rounded(high) if high >= 1.0 else high)


def _rounded(price: float) -> float:
    """Round to two significant digits, such as 1 300 or 47 000 roubles."""
    digits = math.floor(math.log10(price)) - 1
    return float(round(price / 10**digits) * 10**digits) if digits > 0 else float(round(price))
