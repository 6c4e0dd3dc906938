"""Who sells: an endless crowd of sellers, each known by a number.

Every ad draws its seller from three layers: the many with one or two ads, those who come
back, and the few with very many ads. All else about a seller follows from the number, so
no table of sellers is kept.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

import numpy as np

from demand.demo.exact import logarithm, piecewise, power_of_two
from demand.demo.hashing import (
    Floats,
    Indices,
    Keys,
    below,
    combine,
    cumulative,
    derive,
    mix,
    pick,
    text_key,
    uniform,
)
from demand.demo.pool import Texts
from demand.demo.shape import (
    PARENT_SHAPES,
    SELLER_TYPES,
    SEQUENCE_LEVELS,
    SEQUENCE_QUANTILES,
)
from demand.reference import reference

# Share of the ads, number of sellers, and how many different things each sells. Fitted to
# 771,769 sellers in 1,503,424 ads and 7,766 in 8,006.
LAYERS = ((0.44, 1_750_000, 2), (0.345, 240_000, 4), (0.215, 12_000, 60))
# Private sellers, companies and shops among the ads of the busiest layer.
BUSY_TYPES = (0.40, 0.45, 0.15)


@dataclass(frozen=True)
class Places:
    """Regions, and cities region by region; a city's index names its region too."""

    region_ends: Floats
    city_first: Indices
    city_ends: tuple[Floats, ...]
    region_of_city: Texts
    cities: Texts
    keys: Keys


@cache
def places() -> Places:
    """Read the cities that are shipped with the package."""
    text = (files("demand.demo") / "cities.json").read_text(encoding="utf-8")
    by_region: dict[str, dict[str, int]] = json.loads(text)
    regions = reference().regions
    names = [(region, city) for region in regions for city in by_region[region]]
    counts = np.array([len(by_region[region]) for region in regions], dtype=np.int64)
    return Places(
        region_ends=cumulative([float(rows) for rows in regions.values()]),
        city_first=np.cumsum(counts) - counts,
        city_ends=tuple(
            cumulative([float(w) for w in by_region[region].values()]) for region in regions
        ),
        region_of_city=np.array([region for region, _ in names], dtype=object),
        cities=np.array([city for _, city in names], dtype=object),
        keys=np.array([text_key(f"{region}|{city}") for region, city in names], dtype=np.uint64),
    )


@dataclass(frozen=True)
class Market:
    """How often each kind of seller sells in each category.

    Parameters
    ----------
    type_ends
        Upper ends of the seller types' intervals for sellers of each layer,
        shape (layers, 3).
    category_shares
        Share of each category among a type's ads, shape (3, categories).
    """

    type_ends: Floats
    category_shares: Floats


@cache
def market() -> Market:
    """Combine the categories' counts, the types' counts and types by parent category.

    Rows and columns are scaled in turn until both margins fit (iterative proportional
    fitting).
    """
    known = reference()
    counts = list(known.category_counts.values())
    columns = [count / sum(counts) for count in counts]
    rows = [known.user_types[name] / sum(known.user_types.values()) for name in SELLER_TYPES]
    table = [
        [
            PARENT_SHAPES[known.parent_of[name]].seller_shares[t] * share
            for name, share in zip(known.parent_of, columns, strict=True)
        ]
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
    return Market(
        type_ends=_types_by_layer(rows),
        category_shares=np.array([[v / math.fsum(row) for v in row] for row in table]),
    )


def _types_by_layer(shares: list[float]) -> Floats:
    busy_part = LAYERS[-1][0]
    others = [
        (share - busy_part * busy) / (1.0 - busy_part)
        for share, busy in zip(shares, BUSY_TYPES, strict=True)
    ]
    return np.array([cumulative(others)] * (len(LAYERS) - 1) + [cumulative(list(BUSY_TYPES))])


@dataclass(frozen=True)
class Sellers:
    """The seller of each ad; every array has shape (ads,)."""

    numbers: Keys
    keys: Keys
    concepts: Keys
    kinds: Indices
    cities: Indices


def draw_sellers(row_keys: Keys, seed_key: Keys) -> Sellers:
    """Return the seller of each row, and which of the seller's things the ad is about.

    Parameters
    ----------
    row_keys
        One key an ad, shape (ads,).
    seed_key
        The key of the whole file, shape (1,).
    """
    layer = pick(uniform(row_keys, "seller layer"), cumulative([share for share, _, _ in LAYERS]))
    sizes = np.array([size for _, size, _ in LAYERS], dtype=np.int64)
    first = np.cumsum(sizes) - sizes
    position = uniform(row_keys, "seller")
    # Within the layer of the busy, the first have by far the most ads.
    position = np.where(layer == 2, position * position, position)
    numbers = (first[layer] + below(position, sizes[layer])).astype(np.uint64)
    keys = combine(np.broadcast_to(seed_key, numbers.shape), derive(numbers, "seller"))
    goods = np.array([goods for _, _, goods in LAYERS], dtype=np.int64)
    slots = below(uniform(row_keys, "slot"), goods[layer]).astype(np.uint64)
    type_ends = market().type_ends[layer]
    kinds = (uniform(keys, "type")[:, None] >= type_ends[:, :-1]).sum(axis=1)
    return Sellers(
        numbers=numbers,
        keys=keys,
        concepts=combine(keys, slots),
        kinds=kinds,
        cities=_cities(keys),
    )


def _cities(keys: Keys) -> Indices:
    known = places()
    region = pick(uniform(keys, "region"), known.region_ends)
    uniforms = uniform(keys, "city")
    cities = np.empty(len(keys), dtype=np.int64)
    for index, ends in enumerate(known.city_ends):
        here = region == index
        cities[here] = known.city_first[index] + pick(uniforms[here], ends)
    return cities


def sequence_numbers(sellers: Sellers, row_keys: Keys) -> Floats:
    """Return item_seq_number: the ad's number among the ads of its seller, from 1.

    A seller's ads lie near each other: the seller has a place in the distribution of the
    type, and the ad moves a little around it.
    """
    place = uniform(sellers.keys, "sequence")
    move = (uniform(row_keys, "sequence") - 0.5) * 0.06
    place = np.abs(place + move)
    place = np.where(place >= 1.0, 1.999999 - place, place)
    levels = np.array(SEQUENCE_LEVELS)
    numbers = np.empty(len(row_keys))
    for kind, name in enumerate(SELLER_TYPES):
        here = sellers.kinds == kind
        logs = np.array([round(float(np.log2(q)), 9) for q in SEQUENCE_QUANTILES[name]])
        numbers[here] = power_of_two(piecewise(place[here], levels, logs))
    # Small numbers are whole steps apart: a fraction decides between two of them.
    whole: Floats = np.floor(numbers + uniform(row_keys, "sequence step"))
    return np.maximum(whole, 1.0)


def sequence_place(numbers: Floats) -> Floats:
    """Return log2 of the sequence number as a share of its range, in [0, 1]."""
    return np.minimum(logarithm(numbers) / 18.0, 1.0)


def user_ids(sellers: Sellers, seed_key: Keys) -> Keys:
    """Return 48 bits a seller, another for each seller of a file."""
    return permute48(sellers.numbers + (mix(seed_key) >> np.uint64(20)))


def permute48(numbers: Keys) -> Keys:
    """Scramble numbers below 2**48 one to one, so that ids never collide."""
    mask = np.uint64((1 << 48) - 1)
    mixed = numbers & mask
    for factor in (0x9E3779B97F4B, 0x5851F42D4C95):
        mixed = (mixed * np.uint64(factor)) & mask
        mixed ^= mixed >> np.uint64(25)
    return mixed
