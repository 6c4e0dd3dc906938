"""What is sold: category, params, words, price and picture of each ad."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
import numpy.typing as npt

from demand.demo.exact import logarithm, piecewise, power_of_two
from demand.demo.hashing import (
    Floats,
    Indices,
    Keys,
    below,
    combine,
    cumulative,
    derive,
    pick,
    skewed,
    text_key,
    uniform,
)
from demand.demo.lexicon import Lexicon, lexicon
from demand.demo.sellers import Sellers, market
from demand.demo.shape import IMAGE_CLASSES, PARENT_SHAPES, PRICE_LEVELS
from demand.reference import reference

Flags = npt.NDArray[np.bool_]

# Quantiles beyond those that the reference gives, as factors of the outermost two.
_TAIL_LEVELS = (0.0005, 0.9995)
_LOW_TAIL, _HIGH_TAIL = 0.15, 6.0
# Foreign real estate has no quantiles of its own: those of houses serve.
_NO_QUANTILES = {"Недвижимость за рубежом": "Дома, дачи, коттеджи"}


@dataclass(frozen=True)
class Goods:
    """The thing of each ad; indices point into the lexicon's pools, -1 means none.

    ``shown_params`` says how many of the leaf's three params the seller gave. ``price`` is
    in roubles, NaN where the seller gave none; ``image_class`` is -1 where
    there is no picture. Every array has shape (ads,).
    """

    category: Indices
    leaf: Indices
    shown_params: Indices
    thing: Indices
    brand: Indices
    detail: Indices
    second_detail: Indices
    price: Floats
    image_class: Indices


def draw_goods(sellers: Sellers, row_keys: Keys) -> Goods:
    """Return what each ad sells.

    A seller has one main category, and sells the same thing again under the same key of
    ``sellers.concepts``; the picture and the second detail may be new each time.
    """
    words = lexicon()
    keys = sellers.concepts
    at_home = uniform(keys, "home") < 0.7
    place = np.where(at_home, uniform(sellers.keys, "category"), uniform(keys, "category"))
    category = np.empty(len(keys), dtype=np.int64)
    for kind, shares in enumerate(market().category_shares):
        here = sellers.kinds == kind
        category[here] = pick(place[here], cumulative(shares))
    leaf = words.choose_leaf(category, uniform(keys, "leaf"))
    thing = words.things.choose(leaf, uniform(keys, "thing"))
    return Goods(
        category=category,
        leaf=leaf,
        shown_params=_shown_params(words, category, keys),
        thing=thing,
        brand=words.brands.choose(leaf, uniform(keys, "brand")),
        detail=words.details.choose(leaf, uniform(keys, "detail")),
        second_detail=words.details.choose(leaf, uniform(row_keys, "second detail")),
        price=_prices(words, category, leaf, keys),
        image_class=_image_classes(words, category, thing, keys, row_keys),
    )


def _shown_params(words: Lexicon, category: Indices, keys: Keys) -> Indices:
    """Return how many of its params each ad shows; who leaves out one leaves out the next."""
    filled = uniform(keys, "params")[:, None] >= words.hidden_params[category]
    shown: Indices = np.cumprod(filled, axis=1).sum(axis=1)
    return shown


@dataclass(frozen=True)
class _PriceTable:
    """log2 of the price at each level for each category, and the share without price."""

    levels: Floats
    logs: Floats
    missing: Floats
    spread: Floats


@cache
def price_table() -> _PriceTable:
    """Return the price quantiles of the reference with tails added."""
    raw = reference().raw
    known = raw["price_quantiles_by_category"]
    logs = []
    for name in reference().parent_of:
        middle = [max(1.0, float(q)) for q in known[_NO_QUANTILES.get(name, name)]]
        knots = [max(1.0, middle[0] * _LOW_TAIL), *middle, middle[-1] * _HIGH_TAIL]
        logs.append([round(float(np.log2(knot)), 9) for knot in knots])
    table = np.array(logs)
    missing = raw["price_missing_by_category"]
    share = raw["missing_share"]["price"]
    return _PriceTable(
        levels=np.array([_TAIL_LEVELS[0], *PRICE_LEVELS, _TAIL_LEVELS[1]]),
        logs=table,
        missing=np.array([missing.get(name, share) for name in reference().parent_of]),
        spread=(table[:, 4] - table[:, 2]) / 1.349,
    )


def _prices(words: Lexicon, category: Indices, leaf: Indices, keys: Keys) -> Floats:
    """Return prices whose quantiles in each category are those of the reference.

    The place in the category's distribution comes from the leaf's place on the price
    scale and from chance; their weighted sum is made uniform again by its own
    distribution, a trapezoid's.
    """
    table = price_table()
    of_leaf = words.leaf_price_low[leaf] + words.leaf_price_width[leaf] * uniform(keys, "p1")
    # The more the leaves' prices differ, the less is left to chance.
    weight = np.clip(0.7 * words.price_factor_spread, 0.1, 0.97)[category]
    total = weight * of_leaf + (1.0 - weight) * uniform(keys, "p2")
    place = _trapezoid(total, np.minimum(weight, 1.0 - weight))
    price = power_of_two(piecewise(place, table.levels, table.logs[category]))
    # A few type a zero too many, or hold the key down.
    slip = uniform(keys, "slip")
    price = price * np.where(slip < 2e-4, 1000.0, np.where(slip < 1e-3, 10.0, 1.0))
    price = _as_people_write(price, uniform(keys, "rounding"))
    price = np.where(uniform(keys, "free") < 0.004, 0.0, price)
    return np.where(uniform(keys, "no price") < table.missing[category], np.nan, price)


def _trapezoid(totals: Floats, narrow: Floats) -> Floats:
    """Return the distribution function of ``narrow * U + (1 - narrow) * V``, U, V uniform."""
    wide = 1.0 - narrow
    rising = totals * totals / (2.0 * narrow * wide)
    falling = 1.0 - (1.0 - totals) * (1.0 - totals) / (2.0 * narrow * wide)
    level = (totals - narrow / 2.0) / wide
    place = np.where(totals < narrow, rising, np.where(totals > wide, falling, level))
    return np.clip(place, 0.0, 0.999999999)


def _as_people_write(price: Floats, style: Floats) -> Floats:
    """Round as sellers do: mostly to two leading digits, often to fives, seldom exactly."""
    powers = np.array([10.0**k for k in range(16)])
    digits = np.floor(logarithm(np.maximum(price, 1.0)) * 0.30103).astype(np.int64)
    power = powers[digits]
    # Below a thousand people count in fifties and fives, above in two digits.
    unit = np.where(digits >= 3, power / 10.0, power / 2.0)
    unit = np.where(style < 0.45, power / 2.0, unit)
    unit = np.where(style < np.where(digits == 2, 0.5, 0.18), power, unit)
    unit = np.where(style >= 0.88, powers[np.maximum(digits - 1, 0)], unit)
    unit = np.where(style >= 0.97, powers[np.maximum(digits - 3, 0)], unit)
    unit = np.maximum(unit, 1.0)
    rounded = np.maximum(np.floor(price / unit + 0.5) * unit, 1.0)
    # 990 and 4900 instead of 1000 and 5000.
    charm = (style > 0.15) & (style < 0.18) & (digits >= 2) & (rounded >= power)
    return np.where(charm, rounded - power / 10.0, rounded)


def _image_classes(
    words: Lexicon, category: Indices, thing: Indices, keys: Keys, row_keys: Keys
) -> Indices:
    """Return what a classifier of pictures that is often wrong would say, -1 for none.

    The right class belongs to the thing, the near ones to the category; lower classes
    are commoner, as in the real column.
    """
    how = uniform(row_keys, "image class")
    nothing = np.uint64(text_key("image"))
    right = combine(words.things.keys[thing], np.full(len(keys), nothing))
    spot = below(uniform(row_keys, "near"), 12).astype(np.uint64)
    near = combine(_category_keys()[category], spot)
    source = np.where(how < 0.45, right, np.where(how < 0.85, near, derive(row_keys, "wrong")))
    place = uniform(source, "class")
    # Skewed, so that a quarter of the classes is below 12.5 % of the range.
    classes = below(skewed(place), IMAGE_CLASSES)
    without = np.array(
        [PARENT_SHAPES[parent].no_image for parent in reference().parent_of.values()]
    )
    return np.where(uniform(keys, "no image") < without[category], -1, classes)


@cache
def _category_keys() -> Keys:
    return np.array([text_key(f"category {name}") for name in reference().parent_of], np.uint64)
