"""Who sells what: an endless crowd of sellers, each known by a number, and their goods.

Every ad draws its seller from three layers: the many with one or two ads, those who come
back, and the few with very many ads. All else about a seller follows from the number, so
no table of sellers is kept.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache

import numpy as np

from demand.demo.exact import (
    Floats,
    Indices,
    Keys,
    below,
    combine,
    cumulative,
    derive,
    logarithm,
    pick,
    piecewise,
    power_of_two,
    rounded_logs,
    skewed,
    text_keys,
    uniform,
)
from demand.demo.lexicon import (
    CATEGORIES,
    PARENTS,
    SELLER_TYPES,
    SEQUENCE_LEVELS,
    SEQUENCE_QUANTILES,
    Lexicon,
    Texts,
    by_category,
    lexicon,
    packaged,
)
from demand.schema.population import reference

# Share of the ads, number of sellers, and how many different things each sells, by layer.
# Fitted to 771,769 sellers in 1,503,424 ads and 7,766 in 8,006.
_SHARES = (0.44, 0.345, 0.215)
_SELLERS = np.array([1_750_000, 240_000, 12_000])
_THINGS = np.array([2, 4, 60])
# Private sellers, companies and shops among the ads of the busiest layer.
_BUSY_TYPES = (0.40, 0.45, 0.15)


@dataclass(frozen=True)
class Places:
    """Regions, and cities region by region; a city's index names its region too."""

    region_ends: Floats
    city_first: Indices
    city_ends: Floats  # of the cities of each region, shape (28, most cities)
    region_of_city: Texts
    cities: Texts
    keys: Keys


@cache
def places() -> Places:
    """Read the cities that are shipped with the package."""
    by_region: dict[str, dict[str, int]] = packaged("cities.json")
    regions = reference().regions
    names = [(region, city) for region in regions for city in by_region[region]]
    counts = np.array([len(by_region[region]) for region in regions], dtype=np.int64)
    ends = np.ones((len(regions), max(counts)))
    for row, region in zip(ends, regions, strict=True):
        row[: len(by_region[region])] = cumulative(list(by_region[region].values()))
    return Places(
        region_ends=cumulative(list(regions.values())),
        city_first=np.cumsum(counts) - counts,
        city_ends=ends,
        region_of_city=np.array([region for region, _ in names], dtype=object),
        cities=np.array([city for _, city in names], dtype=object),
        keys=text_keys([f"{region}|{city}" for region, city in names]),
    )


@cache
def market() -> tuple[Floats, Floats]:
    """Combine the categories' counts, the types' counts and types by parent category.

    Rows and columns are scaled in turn until both margins fit (iterative proportional
    fitting). Returns the upper ends of the seller types' intervals for sellers of each layer,
    (layers, 3), and of the categories' among the ads of each type of sellers, (3, categories).
    """
    known = reference()
    counts = list(known.category_counts.values())
    columns = [count / sum(counts) for count in counts]
    rows = [known.user_types[name] / sum(known.user_types.values()) for name in SELLER_TYPES]
    parents = [PARENTS[known.parent_of[name]]["seller_shares"] for name in CATEGORIES]
    table = [
        [shares[t] * column for shares, column in zip(parents, columns, strict=True)]
        for t in range(len(SELLER_TYPES))
    ]
    for _ in range(50):
        for t, share in enumerate(rows):
            scale = share / math.fsum(table[t])
            table[t] = [value * scale for value in table[t]]
        for c, share in enumerate(columns):
            scale = share / math.fsum(row[c] for row in table)
            for row in table:
                row[c] *= scale
    # What the busiest layer leaves of each type goes to the others.
    busy, rest = _SHARES[-1], 1.0 - _SHARES[-1]
    others = [(s - busy * own) / rest for s, own in zip(rows, _BUSY_TYPES, strict=True)]
    type_ends = np.array([cumulative(others)] * 2 + [cumulative(_BUSY_TYPES)])
    return type_ends, np.array([cumulative([v / math.fsum(row) for v in row]) for row in table])


@dataclass(frozen=True)
class Sellers:
    """The seller of each ad; every array has shape (ads,)."""

    numbers: Keys
    keys: Keys
    concepts: Keys  # of the thing, which the seller may sell again
    kinds: Indices
    cities: Indices
    sequence: Floats  # item_seq_number: the ad's number among the ads of its seller, from 1


def draw_sellers(row_keys: Keys, seed_key: Keys) -> Sellers:
    """Return the seller of each row, and which of the seller's things the ad is about.

    ``row_keys`` has one key an ad, shape (ads,); ``seed_key`` is that of the file, shape (1,).
    """
    layer = pick(uniform(row_keys, "seller layer"), cumulative(_SHARES))
    first = np.cumsum(_SELLERS) - _SELLERS
    position = uniform(row_keys, "seller")
    # Within the layer of the busy, the first have by far the most ads.
    position = np.where(layer == 2, position * position, position)
    numbers = (first[layer] + below(position, _SELLERS[layer])).astype(np.uint64)
    keys = combine(seed_key, derive(numbers, "seller"))
    slots = below(uniform(row_keys, "slot"), _THINGS[layer]).astype(np.uint64)
    kinds = pick(uniform(keys, "type"), market()[0][layer])
    region = pick(uniform(keys, "region"), places().region_ends)
    city = pick(uniform(keys, "city"), places().city_ends[region])
    return Sellers(
        numbers=numbers,
        keys=keys,
        concepts=combine(keys, slots),
        kinds=kinds,
        cities=places().city_first[region] + city,
        sequence=_sequence_numbers(keys, kinds, row_keys),
    )


def _sequence_numbers(keys: Keys, kinds: Indices, row_keys: Keys) -> Floats:
    """Return the numbers of ads, for the keys and types of their sellers.

    A seller's ads lie near each other: the seller has a place in the distribution of the
    type, and the ad moves a little around it.
    """
    place = np.abs(uniform(keys, "sequence") + (uniform(row_keys, "sequence") - 0.5) * 0.06)
    place = np.where(place >= 1.0, 1.999999 - place, place)
    logs = np.array([rounded_logs(quantiles) for quantiles in SEQUENCE_QUANTILES.values()])
    numbers = power_of_two(piecewise(place, np.array(SEQUENCE_LEVELS), logs[kinds]))
    # Small numbers are whole steps apart: a fraction decides between two of them.
    whole: Floats = np.floor(numbers + uniform(row_keys, "sequence step"))
    return np.maximum(whole, 1.0)


def permute48(numbers: Keys) -> Keys:
    """Scramble numbers below 2**48 one to one, so that ids never collide."""
    mask = np.uint64((1 << 48) - 1)
    mixed = numbers & mask
    for factor in (0x9E3779B97F4B, 0x5851F42D4C95):
        mixed = (mixed * np.uint64(factor)) & mask
        mixed ^= mixed >> np.uint64(25)
    return mixed


IMAGE_CLASSES = 3_067
# Quantiles that the population's figures give of the price in each category, and those beyond,
# as factors of the outermost two.
_PRICE_LEVELS = np.array([0.0005, 0.05, 0.25, 0.5, 0.75, 0.95, 0.9995])
_LOW_TAIL, _HIGH_TAIL = 0.15, 6.0
# Foreign real estate has no quantiles of its own: those of houses serve.
_NO_QUANTILES = {"Недвижимость за рубежом": "Дома, дачи, коттеджи"}


@dataclass(frozen=True)
class Goods:
    """The thing of each ad, shape (ads,); indices point into the lexicon's pools, -1 means none."""

    category: Indices
    leaf: Indices
    shown_params: Indices  # how many of the leaf's three the seller gave
    thing: Indices
    brand: Indices
    detail: Indices
    second_detail: Indices
    price: Floats  # in roubles, NaN where the seller gave none
    image_class: Indices  # -1 where there is no picture


def draw_goods(sellers: Sellers, row_keys: Keys) -> Goods:
    """Return what each ad sells.

    A seller has one main category, and sells the same thing again under the same key of
    ``sellers.concepts``; the picture and the second detail may be new each time.
    """
    words = lexicon()
    keys = sellers.concepts
    at_home = uniform(keys, "home") < 0.7
    place = np.where(at_home, uniform(sellers.keys, "category"), uniform(keys, "category"))
    category = pick(place, market()[1][sellers.kinds])
    leaf = words.choose_leaf(category, uniform(keys, "leaf"))
    # Who leaves out one param leaves out the next.
    filled = uniform(keys, "params")[:, None] >= words.hidden_params[category]
    thing = words.things.choose(leaf, uniform(keys, "thing"))
    return Goods(
        category=category,
        leaf=leaf,
        shown_params=np.cumprod(filled, axis=1).sum(axis=1),
        thing=thing,
        brand=words.brands.choose(leaf, uniform(keys, "brand")),
        detail=words.details.choose(leaf, uniform(keys, "detail")),
        second_detail=words.details.choose(leaf, uniform(row_keys, "second detail")),
        price=_prices(words, category, leaf, keys),
        image_class=_image_classes(words, category, thing, keys, row_keys),
    )


@cache
def price_table() -> tuple[Floats, Floats]:
    """Return log2 of the price at each of ``_PRICE_LEVELS``, (47, 7); and the shares without."""
    raw = reference().raw
    known = raw["price_quantiles_by_category"]
    logs = []
    for name in CATEGORIES:
        middle = [max(1.0, float(q)) for q in known[_NO_QUANTILES.get(name, name)]]
        knots = [max(1.0, middle[0] * _LOW_TAIL), *middle, middle[-1] * _HIGH_TAIL]
        logs.append(rounded_logs(knots))
    missing, share = raw["price_missing_by_category"], raw["missing_share"]["price"]
    return np.array(logs), np.array([missing.get(name, share) for name in CATEGORIES])


def _prices(words: Lexicon, category: Indices, leaf: Indices, keys: Keys) -> Floats:
    """Return prices whose quantiles in each category are those of the reference.

    The place in the category's distribution comes from the leaf's place on the price
    scale and from chance; their weighted sum is made uniform again by its own
    distribution, a trapezoid's.
    """
    logs, missing = price_table()
    of_leaf = words.leaf_price_low[leaf] + words.leaf_price_width[leaf] * uniform(keys, "p1")
    # The more the leaves' prices differ, the less is left to chance.
    weight = np.clip(0.7 * words.price_factor_spread, 0.1, 0.97)[category]
    total = weight * of_leaf + (1.0 - weight) * uniform(keys, "p2")
    place = _trapezoid(total, np.minimum(weight, 1.0 - weight))
    price = power_of_two(piecewise(place, _PRICE_LEVELS, logs[category]))
    # A few type a zero too many, or hold the key down.
    slip = uniform(keys, "slip")
    price = price * np.where(slip < 2e-4, 1000.0, np.where(slip < 1e-3, 10.0, 1.0))
    price = _as_people_write(price, uniform(keys, "rounding"))
    price = np.where(uniform(keys, "free") < 0.004, 0.0, price)
    return np.where(uniform(keys, "no price") < missing[category], np.nan, price)


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
    right = combine(words.things.keys[thing], text_keys(["image"]))
    spot = below(uniform(row_keys, "near"), 12).astype(np.uint64)
    near = combine(text_keys([f"category {name}" for name in CATEGORIES])[category], spot)
    source = np.where(how < 0.45, right, np.where(how < 0.85, near, derive(row_keys, "wrong")))
    # Skewed, so that a quarter of the classes is below 12.5 % of the range.
    classes = below(skewed(uniform(source, "class")), IMAGE_CLASSES)
    without = uniform(keys, "no image") < by_category("no_image")[category]
    return np.where(without, -1, classes)
