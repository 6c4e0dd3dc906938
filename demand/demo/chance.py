"""The true conditional mean of the deal probability, given an ad.

A score adds up many effects, each of unit variance times an amplitude. Plain ones (params,
price, seller) a model finds in some thousand ads, words need tens of thousands, and pairs
of words millions. The category's calibration turns the score into a mean.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

import numpy as np

from demand.demo.exact import logarithm, squash
from demand.demo.goods import Goods, price_table
from demand.demo.hashing import Floats, Indices, Keys, combine, normal, text_key
from demand.demo.lexicon import lexicon
from demand.demo.sellers import Sellers, places, sequence_place
from demand.demo.shape import PARENT_SHAPES, parent_of_category
from demand.demo.wording import (
    TELLING_SENTENCES,
    Wording,
    second_detail_shown,
    side_of,
    word_keys,
)

# A mean cannot lie above the level at which the high targets of its parent pile up.
LOWEST, HIGHEST = 0.002, 0.70


@dataclass(frozen=True)
class Amplitudes:
    """How much each group of effects counts in the score, and how much the score does.

    Parameters
    ----------
    plain, words, pairs
        Amplitudes of the three groups: found from thousands, tens of thousands, and
        millions of ads. They set how much can be learned from few ads.
    scale
        Amplitude of the whole score: it sets the noise floor.
    """

    plain: float = 0.70
    words: float = 0.57
    pairs: float = 0.45
    scale: float = 0.76


@dataclass(frozen=True)
class Calibration:
    """Offsets of the score by category, shape (47,), and by seller type, shape (3,)."""

    category: Floats
    seller_type: Floats


@cache
def calibration() -> Calibration:
    """Read the offsets that ``benchmarks.demo_calibration`` found."""
    raw = json.loads((files("demand.demo") / "calibration.json").read_text(encoding="utf-8"))
    return Calibration(
        category=np.array([raw["category"][name] for name in lexicon().categories]),
        seller_type=np.array(list(raw["seller_type"].values())),
    )


@dataclass(frozen=True)
class Facts:
    """All of the ads that their deal probability depends on; arrays of shape (ads,)."""

    sellers: Sellers
    goods: Goods
    wording: Wording
    sequence: Floats


def _effect(purpose: str, *parts: Keys) -> Floats:
    """Return one fixed number of mean 0 and variance 1 for each combination of parts."""
    return normal(combine(np.full(len(parts[0]), np.uint64(text_key(purpose))), *parts))


def _as_keys(values: Indices) -> Keys:
    return values.astype(np.uint64)


def _price_place(goods: Goods) -> tuple[Floats, Keys]:
    """Return log price relative to its category in spreads, and a coarse step of it.

    0 where there is no price; the steps are -4 ... 4, and 99 for no price.
    """
    table = price_table()
    known = ~np.isnan(goods.price)
    logs = logarithm(np.where(known, np.maximum(goods.price, 1.0), 1.0))
    middle = table.logs[goods.category, 3]
    place = np.clip((logs - middle) / np.maximum(table.spread[goods.category], 0.5), -3.0, 3.0)
    place = np.where(known, place, 0.0)
    steps = np.where(known, np.floor(place * 1.5 + 0.5), 99.0)
    return place, _as_keys(steps.astype(np.int64) + 10)


def score(facts: Facts) -> Floats:
    """Return the score of each ad, shape (ads,): mean near 0, not yet calibrated."""
    amplitudes = Amplitudes()
    spread = np.array([shape.spread for shape in PARENT_SHAPES.values()])
    scale = (amplitudes.scale * spread)[parent_of_category()[facts.goods.category]]
    place, step = _price_place(facts.goods)
    total = amplitudes.plain * _plain(facts, place, step)
    total = total + amplitudes.words * _words(facts, place)
    total = total + amplitudes.pairs * _pairs(facts, step)
    scaled: Floats = scale * total
    return scaled


def _plain(facts: Facts, place: Floats, step: Keys) -> Floats:
    goods, sellers = facts.goods, facts.sellers
    leaf = _leaf_keys(goods)
    category = _as_keys(goods.category)
    kind = _as_keys(sellers.kinds)
    slope = 0.75 + 0.5 * _effect("price slope", category)
    no_price = np.isnan(goods.price)
    sequence = sequence_place(facts.sequence)
    total: Floats = 0.70 * _effect("leaf", leaf) - 0.45 * slope * place
    total = total + np.where(no_price, 0.3 * _effect("no price", category), 0.0)
    total = total + 0.20 * _effect("price step", category, step)
    total = total - 1.3 * (sequence - 0.25)
    total = total + 0.20 * _effect("seller type", category, kind)
    total = total - np.where(goods.image_class < 0, 0.45, 0.0)
    total = total + np.where(facts.wording.has_description, 0.0, 0.25)
    total = total - 0.05 * (np.minimum(facts.wording.sentences, 10) - 3.0)
    side = side_of(facts.wording.extra, facts.wording.extra_is_good)
    remark = side_of(facts.wording.remark, facts.wording.remark_is_good)
    total += 0.35 * side + 0.25 * remark
    return total


def _words(facts: Facts, place: Floats) -> Floats:
    goods, wording = facts.goods, facts.wording
    words = lexicon()
    leaf = _leaf_keys(goods)
    category = _as_keys(goods.category)
    thing = words.things.keys[goods.thing]
    total: Floats = 0.62 * _effect("thing", thing, category)
    total = total + 0.50 * _shown("brand", facts)
    total = total + 0.50 * _shown("detail", facts)
    total = total + 0.30 * np.where(
        second_detail_shown(wording, goods),
        _effect("second detail", _keys_of("details", goods.second_detail), category),
        0.0,
    )
    total = total + 0.35 * np.where(
        goods.image_class >= 0, _effect("image", _as_keys(goods.image_class)), 0.0
    )
    total = total + 0.20 * _effect("pattern", _as_keys(wording.pattern + 1), category)
    total = total + 0.25 * _effect("city", places().keys[facts.sellers.cities])
    total = total + 0.25 * place * _effect("leaf price", leaf)
    for which in range(TELLING_SENTENCES):
        used = wording.sentences > which
        keys = words.sentences.keys[wording.sentence(which, goods.category)]
        total = total + 0.20 * np.where(used, _effect("sentence", keys, category), 0.0)
    return total


def _pairs(facts: Facts, step: Keys) -> Floats:
    goods, wording = facts.goods, facts.wording
    words = lexicon()
    leaf = _leaf_keys(goods)
    thing = words.things.keys[goods.thing]
    brand = _keys_of("brands", np.where(wording.brand_shown, goods.brand, -1))
    detail = _keys_of("details", np.where(wording.detail_shown, goods.detail, -1))
    city = places().keys[facts.sellers.cities]
    kind = _as_keys(facts.sellers.kinds)
    image = _as_keys(goods.image_class + 1)
    extra = word_keys(wording.extra, wording.extra_is_good)
    remark = word_keys(wording.remark, wording.remark_is_good)
    first = words.sentences.keys[wording.sentence(0, goods.category)]
    first = np.where(wording.sentences > 0, first, np.uint64(0))
    total: Floats = 0.42 * _effect("thing, brand", thing, brand, leaf)
    total = total + 0.36 * _effect("thing, detail", thing, detail, leaf)
    total = total + 0.32 * _effect("thing, price", thing, step, leaf)
    total = total + 0.30 * _effect("brand, detail", brand, detail, leaf)
    total = total + 0.30 * _effect("thing, city", thing, city)
    total = total + 0.30 * _effect("thing, seller", thing, kind, leaf)
    total = total + 0.30 * _effect("image, leaf", image, leaf)
    total = total + 0.30 * _effect("extra, thing", extra, thing)
    total = total + 0.26 * _effect("remark, thing", remark, thing)
    return total + 0.30 * _effect("sentence, leaf", first, leaf)


def _leaf_keys(goods: Goods) -> Keys:
    """Return the keys of category and params, as far as the ads show them."""
    return lexicon().leaf_keys[goods.leaf, goods.shown_params]


def _keys_of(pool: str, chosen: Indices) -> Keys:
    keys: Keys = getattr(lexicon(), pool).keys
    return np.where(chosen >= 0, keys[np.maximum(chosen, 0)], np.uint64(0))


def _shown(part: str, facts: Facts) -> Floats:
    """Return the effect of a brand or detail where the title shows it, else 0."""
    shown = facts.wording.brand_shown if part == "brand" else facts.wording.detail_shown
    chosen = facts.goods.brand if part == "brand" else facts.goods.detail
    keys = _keys_of(f"{part}s", chosen)
    return np.where(shown, _effect(part, keys, _as_keys(facts.goods.category)), 0.0)


def conditional_mean(facts: Facts) -> Floats:
    """Return the mean of the deal probability given each ad, shape (ads,), in [0, 1]."""
    offsets = calibration()
    raw = score(facts) + offsets.category[facts.goods.category]
    return mean_of(raw + offsets.seller_type[facts.sellers.kinds])


def mean_of(scores: Floats) -> Floats:
    """Return the mean that belongs to each calibrated score; the shape stays."""
    return np.clip(squash(scores), LOWEST, HIGHEST)
