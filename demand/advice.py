"""What would help an ad, found by asking the model about the ad with one thing changed.

Asking is left to the caller, since a file of ads is asked about in a few large requests:
:func:`plan` says which ads to ask about, :meth:`Plan.read` makes advice of the answers.
Nothing is advised that the model did not answer with a gain.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from demand.ads import COLUMN

Ad = Mapping[str, Any]
# Facts of one category, as `GET /market` lists them.
CategoryFacts = Mapping[str, Any]
Kind = Literal["photo", "description", "title", "param", "price"]

PARAMS = ("param_1", "param_2", "param_3")
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
    """One change, and what the model answers to the ad with it.

    Parameters
    ----------
    kind
        What is changed.
    field
        The ad's field that the model was asked about with another value.
    value
        That value: a price in roubles, or a text.
    probability
        The answer, in [0, 1].
    gain
        By how much it is above the answer to the ad as it is.
    """

    kind: Kind
    field: str
    value: Any
    probability: float
    gain: float


@dataclass(frozen=True)
class PriceCurve:
    """Deal probability over price, all else as it is.

    Parameters
    ----------
    prices, probabilities
        Ascending prices in roubles, and the model's answer to each; equally long.
    market
        Lower and upper quartile of the category's prices; best prices are looked for
        there, so that nobody is told to give a thing away.
    best
        First and last price of the range in which the probability is at most 5 %, or half a
        percentage point, below its highest between the quartiles.
    """

    prices: tuple[float, ...]
    probabilities: tuple[float, ...]
    market: tuple[float, float]
    best: tuple[float, float]


@dataclass(frozen=True)
class Advice:
    """What the model's answers say; the best suggestion comes first, at most five."""

    probability: float
    curve: PriceCurve | None
    suggestions: tuple[Suggestion, ...]


@dataclass(frozen=True)
class _Change:
    kind: Kind
    field: str
    value: Any


@dataclass(frozen=True)
class Plan:
    """The ads to ask the model about.

    Parameters
    ----------
    ads
        The ad as it is, then one for each change, then one for each price.
    """

    ads: tuple[dict[str, Any], ...]
    _changes: tuple[_Change, ...]
    _prices: tuple[float, ...]
    _market: tuple[float, float] | None

    def read(self, probabilities: Sequence[float]) -> Advice:
        """Make advice of the model's answers.

        Parameters
        ----------
        probabilities
            Deal probability of each of :attr:`ads`, in their order.

        Raises
        ------
        ValueError
            There are more or fewer answers than ads.
        """
        if len(probabilities) != len(self.ads):
            raise ValueError(f"{len(probabilities)} answers to {len(self.ads)} ads")
        base = probabilities[0]
        first_price = 1 + len(self._changes)
        found = [
            Suggestion(change.kind, change.field, change.value, answer, answer - base)
            for change, answer in zip(self._changes, probabilities[1:first_price], strict=True)
        ]
        at_prices = tuple(probabilities[first_price:])
        price = self._best_price(base, at_prices)
        kept = _one_param([s for s in (*found, price) if s is not None and s.gain >= GAIN_MIN])
        kept.sort(key=lambda suggestion: -suggestion.gain)
        return Advice(base, self._curve(at_prices), tuple(kept[:SUGGESTIONS_MAX]))

    def alone(self) -> Plan:
        """Return the plan that asks about the ad as it is, and nothing else."""
        return Plan(self.ads[:1], (), (), None)

    def _in_market(self, answers: Sequence[float]) -> list[tuple[float, float]]:
        if self._market is None:
            return []
        low, high = self._market
        pairs = zip(self._prices, answers, strict=True)
        return [(price, answer) for price, answer in pairs if low <= price <= high]

    def _best_price(self, base: float, answers: Sequence[float]) -> Suggestion | None:
        points = self._in_market(answers)
        if not points:
            return None
        gain = max(answer for _, answer in points) - base
        today = self.ads[0].get("price")
        near = math.log1p(_median(self._market) if today is None else today)
        good = [point for point in points if point[1] - base >= _GAIN_SHARE * gain]
        if gain <= 0 or not good:
            return None
        price, answer = min(good, key=lambda point: abs(math.log1p(point[0]) - near))
        return Suggestion("price", "price", price, answer, answer - base)

    def _curve(self, answers: tuple[float, ...]) -> PriceCurve | None:
        points = self._in_market(answers)
        if self._market is None or len(self._prices) < _POINTS_MIN or not points:
            return None
        top = max(range(len(points)), key=lambda i: points[i][1])
        enough = points[top][1] - max(_BEST_SHARE * points[top][1], GAIN_MIN)
        first = last = top
        while first > 0 and points[first - 1][1] >= enough:
            first -= 1
        while last + 1 < len(points) and points[last + 1][1] >= enough:
            last += 1
        return PriceCurve(self._prices, answers, self._market, (points[first][0], points[last][0]))


def plan(ad: Ad, facts: CategoryFacts | None, *, curve: bool = True) -> Plan:
    """Say what to ask the model about an ad.

    Parameters
    ----------
    ad
        As a request carries it; fields that are not known are absent or None.
    facts
        Of the ad's category; None where they are not known, and then neither prices nor
        params are tried.
    curve
        Ask about 40 prices from the 10th to the 90th percentile, and on to today's; or
        only about a few between the quartiles.
    """
    base = {name: value for name, value in ad.items() if value is not None}
    changes = tuple(_changes(base, facts or {}))
    spread = (facts or {}).get("price")
    market = None if spread is None else _quartiles(spread)
    prices = _prices(spread, base.get("price"), curve=curve) if spread else ()
    asked = [base]
    asked += [base | {change.field: change.value} for change in changes]
    asked += [base | {"price": price} for price in prices]
    return Plan(tuple(asked), changes, prices, market)


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
    return None if fuller == title or not _allowed("title", fuller) else fuller


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
    return longer if _allowed("description", longer) else None


def _allowed(field: str, value: str) -> bool:
    most = COLUMN[field].max_length
    return most is None or len(value) <= most


def _changes(ad: Ad, facts: CategoryFacts) -> list[_Change]:
    found: list[_Change] = []
    if not ad.get("image"):
        # Which picture it is, the model cannot know: that there is one, it can.
        found.append(_Change("photo", "image", "photo"))
    longer = longer_description(ad)
    if longer is not None and len(str(ad.get("description") or "")) < _usual(
        facts, "description_letters", "p50"
    ):
        found.append(_Change("description", "description", longer))
    fuller = fuller_title(ad)
    if fuller is not None and len(str(ad["title"]).split()) < _usual(facts, "title_words", "p75"):
        found.append(_Change("title", "title", fuller))
    missing = next_values(ad, facts)
    if missing is not None:
        name, values = missing
        found += [_Change("param", name, value) for value in values[:_VALUES_TRIED]]
    return found


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


def _one_param(suggestions: list[Suggestion]) -> list[Suggestion]:
    """Keep the first example of a param: its most common value that brings something.

    The best of some values would promise more than most things can keep.
    """
    params = [s for s in suggestions if s.kind == "param"]
    return [s for s in suggestions if s.kind != "param" or s is params[0]]


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


def _median(market: tuple[float, float] | None) -> float:
    """Return the middle of a price band on the logarithmic scale of prices."""
    low, high = market or (1.0, 1.0)
    return math.sqrt(max(1.0, low) * max(1.0, high))
