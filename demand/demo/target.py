"""The true conditional mean of the deal probability given an ad, and targets drawn from it.

A score adds up many effects, each of unit variance times an amplitude. Plain ones (params,
price, seller) a model finds in some thousand ads, words need tens of thousands, and pairs
of words millions. The category's calibration turns the score into a mean. An ad then gets
exactly zero, a small value, or one of the high levels where the real targets pile up. How
often each, follows from the mean alone.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import pairwise

import numpy as np

from demand.demo.exact import (
    Flags,
    Floats,
    Indices,
    Keys,
    combine,
    cumulative,
    logarithm,
    normal,
    pick,
    piecewise,
    squash,
    text_keys,
    uniform,
)
from demand.demo.lexicon import (
    CATEGORIES,
    PARENT_OF_CATEGORY,
    PARENTS,
    SMALL_LEVELS,
    by_category,
    lexicon,
    packaged,
)
from demand.demo.offers import Goods, Sellers, places, price_table
from demand.demo.wording import TELLING_SENTENCES, Wording, side_of

# A mean cannot lie above the level at which the high targets of its parent pile up.
LOWEST, HIGHEST = 0.002, 0.70
_LOWEST_HIGH = 0.65
# Amplitudes of the three groups, whose effects are found from thousands, tens of thousands, and
# millions of ads: they set how much can be learned from few ads.
_PLAIN, _WORDS, _PAIRS = 0.70, 0.57, 0.45
# Of the whole score: it sets the noise floor.
_SCALE = 0.76


@dataclass(frozen=True)
class Facts:
    """All of the ads that their deal probability depends on."""

    sellers: Sellers
    goods: Goods
    wording: Wording


def _effect(purpose: str, *parts: Keys) -> Floats:
    """Return one fixed number of mean 0 and variance 1 for each combination of parts."""
    return normal(combine(text_keys([purpose]), *parts))


def _shown_effect(shown: Flags, purpose: str, *parts: Keys) -> Floats:
    """Return :func:`_effect` where the ad shows what it is of, else 0."""
    return np.where(shown, _effect(purpose, *parts), 0.0)


def _as_keys(values: Indices) -> Keys:
    return values.astype(np.uint64)


def _price_place(goods: Goods) -> tuple[Floats, Keys]:
    """Return log price relative to its category in spreads, and a coarse step of it.

    0 where there is no price; the steps are -4 ... 4, and 99 for no price.
    """
    table = price_table()[0][goods.category]
    spread = (table[:, 4] - table[:, 2]) / 1.349
    known = ~np.isnan(goods.price)
    logs = logarithm(np.where(known, np.maximum(goods.price, 1.0), 1.0))
    place = np.clip((logs - table[:, 3]) / np.maximum(spread, 0.5), -3.0, 3.0)
    place = np.where(known, place, 0.0)
    steps = np.where(known, np.floor(place * 1.5 + 0.5), 99.0)
    return place, _as_keys(steps.astype(np.int64) + 10)


def score(facts: Facts) -> Floats:
    """Return the score of each ad, shape (ads,): mean near 0, not yet calibrated."""
    place, step = _price_place(facts.goods)
    # Keys of category and params, as far as the ads show them.
    leaf = lexicon().leaf_keys[facts.goods.leaf, facts.goods.shown_params]
    total = _PLAIN * _plain(facts, leaf, place, step)
    total = total + _WORDS * _words(facts, leaf, place)
    total = total + _PAIRS * _pairs(facts, leaf, step)
    scaled: Floats = (_SCALE * by_category("spread"))[facts.goods.category] * total
    return scaled


def _plain(facts: Facts, leaf: Keys, place: Floats, step: Keys) -> Floats:
    goods, sellers, wording = facts.goods, facts.sellers, facts.wording
    category = _as_keys(goods.category)
    slope = 0.75 + 0.5 * _effect("price slope", category)
    no_price = np.isnan(goods.price)
    total: Floats = 0.70 * _effect("leaf", leaf) - 0.45 * slope * place
    total += 0.3 * _shown_effect(no_price, "no price", category)
    total += 0.20 * _effect("price step", category, step)
    # log2 of the sequence number as a share of its range, in [0, 1].
    sequence = np.minimum(logarithm(sellers.sequence) / 18.0, 1.0)
    total -= 1.3 * (sequence - 0.25)
    total += 0.20 * _effect("seller type", category, _as_keys(sellers.kinds))
    total -= np.where(goods.image_class < 0, 0.45, 0.0)
    total += np.where(wording.has_description, 0.0, 0.25)
    total -= 0.05 * (np.minimum(wording.sentences, 10) - 3.0)
    total += 0.35 * side_of(wording.extra) + 0.25 * side_of(wording.remark)
    return total


def _words(facts: Facts, leaf: Keys, place: Floats) -> Floats:
    goods, wording, words = facts.goods, facts.wording, lexicon()
    category = _as_keys(goods.category)
    brand, detail = words.brands.keys[goods.brand], words.details.keys[goods.detail]
    second, second_shown = (
        words.details.keys[goods.second_detail],
        wording.second_detail_shown(goods),
    )
    image = _as_keys(goods.image_class)
    total: Floats = 0.62 * _effect("thing", words.things.keys[goods.thing], category)
    total += 0.50 * _shown_effect(wording.shown("brand"), "brand", brand, category)
    total += 0.50 * _shown_effect(wording.shown("detail"), "detail", detail, category)
    total += 0.30 * _shown_effect(second_shown, "second detail", second, category)
    total += 0.35 * _shown_effect(goods.image_class >= 0, "image", image)
    total += 0.20 * _effect("pattern", _as_keys(wording.pattern + 1), category)
    total += 0.25 * _effect("city", places().keys[facts.sellers.cities])
    total += 0.25 * place * _effect("leaf price", leaf)
    for which in range(TELLING_SENTENCES):
        keys = words.sentences.keys[wording.sentence(which, goods.category)]
        total += 0.20 * _shown_effect(wording.sentences > which, "sentence", keys, category)
    return total


def _pairs(facts: Facts, leaf: Keys, step: Keys) -> Floats:
    goods, wording, words = facts.goods, facts.wording, lexicon()
    thing = words.things.keys[goods.thing]
    brand = words.brands.keys[np.where(wording.shown("brand"), goods.brand, -1)]
    detail = words.details.keys[np.where(wording.shown("detail"), goods.detail, -1)]
    first = np.where(wording.sentences > 0, wording.sentence(0, goods.category), -1)
    total: Floats = 0.42 * _effect("thing, brand", thing, brand, leaf)
    total += 0.36 * _effect("thing, detail", thing, detail, leaf)
    total += 0.32 * _effect("thing, price", thing, step, leaf)
    total += 0.30 * _effect("brand, detail", brand, detail, leaf)
    total += 0.30 * _effect("thing, city", thing, places().keys[facts.sellers.cities])
    total += 0.30 * _effect("thing, seller", thing, _as_keys(facts.sellers.kinds), leaf)
    total += 0.30 * _effect("image, leaf", _as_keys(goods.image_class + 1), leaf)
    total += 0.30 * _effect("extra, thing", words.words.keys[wording.extra], thing)
    total += 0.26 * _effect("remark, thing", words.words.keys[wording.remark], thing)
    total += 0.30 * _effect("sentence, leaf", words.sentences.keys[first], leaf)
    return total


def conditional_mean(facts: Facts) -> Floats:
    """Return the mean of the deal probability given each ad, shape (ads,), in [0, 1].

    The score is moved by offsets by category and seller type, which
    ``benchmarks.demo_calibration`` found.
    """
    offsets = packaged("calibration.json")
    of_category = np.array([offsets["category"][name] for name in CATEGORIES])
    of_type = np.array(list(offsets["seller_type"].values()))
    raw = score(facts) + of_category[facts.goods.category]
    return mean_of(raw + of_type[facts.sellers.kinds])


def mean_of(scores: Floats) -> Floats:
    """Return the mean that belongs to each calibrated score; the shape stays."""
    return np.clip(squash(scores), LOWEST, HIGHEST)


@dataclass(frozen=True)
class _Levels:
    """Where the nonzero targets of one parent category lie: on piles and between."""

    piles: Sequence[tuple[float, float]]  # levels, with their shares
    knots: Sequence[float]  # of what lies between: its quantiles at
    values: Sequence[float]

    @property
    def rest(self) -> float:
        """Share of what lies between."""
        return 1.0 - math.fsum(share for _, share in self.piles)

    def mean(self) -> float:
        """Return the mean of drawing from both."""
        between = 0.0
        for (start, low), (end, high) in pairwise(zip(self.knots, self.values, strict=True)):
            between += (end - start) * (low + high) / 2.0
        mean = self.rest * between
        for level, share in self.piles:
            mean += level * share
        return mean

    def draw(self, keys: Keys) -> Floats:
        """Return a target with five decimals for each key, shape (n,)."""
        ends = cumulative([*(share for _, share in self.piles), self.rest])
        knots, values = np.array(self.knots), np.array(self.values)
        between = piecewise(uniform(keys, "between"), knots, values)
        between = np.floor(between * 100_000.0 + 0.5) / 100_000.0
        # The last interval is that of what lies between.
        levels = np.array([*(level for level, _ in self.piles), np.nan])
        drawn = levels[pick(uniform(keys, "pile"), ends)]
        return np.where(np.isnan(drawn), between, drawn)


@cache
def _small_and_high() -> tuple[list[_Levels], list[_Levels]]:
    """Return the levels of the small and of the high targets of each parent category."""
    small, high = [], []
    for parent in PARENTS.values():
        spikes = parent["spikes"]
        small.append(_Levels(parent["small_piles"], SMALL_LEVELS, parent["small_levels"]))
        high.append(_Levels(spikes, (0.0, 1.0), (_LOWEST_HIGH, spikes[0][0])))
    return small, high


def chances(
    means: Floats, parents: Indices, small_part: Floats | None = None
) -> tuple[Floats, Floats]:
    """Return the chances of a small and of a high value that give each mean.

    ``means`` are at most 0.70 and ``parents`` indices of the parent categories, both of shape
    (ads,). ``small_part`` is the part of a low mean that comes from small values, by parent,
    shape (9,); without it that which ``benchmarks.demo_calibration`` fitted to the parents'
    shares of zeros.
    """
    if small_part is None:
        fitted = packaged("calibration.json")["small_part"]
        small_part = np.array([fitted[name] for name in PARENTS], dtype=np.float64)
    small, high = (np.array([each.mean() for each in t])[parents] for t in _small_and_high())
    # A high mean leaves no room for many small values: both chances sum up to at most
    # 98 % here, or the part of small values is cut.
    room = np.maximum(0.98 - means / high, 0.0) / (means * (1.0 / small - 1.0 / high))
    part = np.minimum(small_part[parents], room)
    return part * means / small, (1.0 - part) * means / high


def draw_targets(means: Floats, category: Indices, row_keys: Keys) -> Floats:
    """Return deal probabilities with five decimals, shape (ads,)."""
    parents = PARENT_OF_CATEGORY[category]
    small, high = chances(means, parents)
    which = uniform(row_keys, "deal")
    targets = np.zeros(len(means))
    for index, (of_small, of_high) in enumerate(zip(*_small_and_high(), strict=True)):
        here = parents == index
        is_high = here & (which < high)
        is_small = here & (which >= high) & (which < high + small)
        for levels, chosen in ((of_high, is_high), (of_small, is_small)):
            targets[chosen] = levels.draw(row_keys[chosen])
    return targets
