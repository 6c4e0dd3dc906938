"""From row numbers to ads: everything about some rows of one file."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import pandas as pd

from demand.ads import COLUMN_NAMES, TARGET
from demand.demo.ads_text import write_texts
from demand.demo.chance import Facts, conditional_mean
from demand.demo.goods import Goods, draw_goods
from demand.demo.hashing import (
    Floats,
    Keys,
    combine,
    cumulative,
    derive,
    mix,
    pick,
    text_key,
    uniform,
)
from demand.demo.lexicon import ANY, Lexicon, lexicon
from demand.demo.sellers import (
    draw_sellers,
    permute48,
    places,
    sequence_numbers,
    user_ids,
)
from demand.demo.shape import SELLER_TYPES
from demand.demo.target import draw_targets
from demand.demo.wording import draw_wording
from demand.reference import reference

# As many rows are held in memory at once.
CHUNK_ROWS = 20_000


@dataclass(frozen=True)
class Batch:
    """Some rows: their keys, facts, true means and targets; arrays of shape (rows,)."""

    seed_key: Keys
    row_keys: Keys
    item_numbers: Keys
    facts: Facts
    means: Floats
    targets: Floats


def draw_batch(first: int, rows: int, seed: int) -> Batch:
    """Return rows ``first`` ... ``first + rows - 1`` of the file with this seed."""
    seed_key, row_keys = row_keys_of(first, rows, seed)
    facts = draw_facts(seed_key, row_keys)
    means = conditional_mean(facts)
    return Batch(
        seed_key=seed_key,
        row_keys=row_keys,
        item_numbers=item_numbers(first, rows, seed_key),
        facts=facts,
        means=means,
        targets=draw_targets(means, facts.goods.category, row_keys),
    )


def row_keys_of(first: int, rows: int, seed: int) -> tuple[Keys, Keys]:
    """Return the key of the file, shape (1,), and of each row, shape (rows,)."""
    seed_key = mix(np.array([seed], dtype=np.uint64) ^ np.uint64(text_key("demo ads")))
    numbers = np.arange(first, first + rows, dtype=np.uint64)
    return seed_key, combine(np.broadcast_to(seed_key, numbers.shape), numbers)


def draw_facts(seed_key: Keys, row_keys: Keys) -> Facts:
    """Return all that the deal probability of these rows depends on."""
    sellers = draw_sellers(row_keys, seed_key)
    goods = draw_goods(sellers, row_keys)
    return Facts(
        sellers=sellers,
        goods=goods,
        wording=draw_wording(goods, sellers.concepts, row_keys),
        sequence=sequence_numbers(sellers, row_keys),
    )


def item_numbers(first: int, rows: int, seed_key: Keys) -> Keys:
    """Return 48 bits an ad, another for each ad of a file, shape (rows,)."""
    numbers = np.arange(first, first + rows, dtype=np.uint64)
    return permute48(numbers + (derive(seed_key, "item") >> np.uint64(20)))


def ads(batch: Batch) -> dict[str, list[Any]]:
    """Return the 18 columns as lists: str or None, float (NaN), date as ISO text."""
    words, facts = lexicon(), batch.facts
    goods, sellers = facts.goods, facts.sellers
    titles, descriptions = write_texts(facts, batch.row_keys)
    parents = list(reference().parent_of.values())
    categories = goods.category.tolist()
    params = _params(words, goods, sellers.concepts)
    has_image = goods.image_class >= 0
    columns: dict[str, list[Any]] = {
        "item_id": _hexadecimal(batch.item_numbers),
        "user_id": _hexadecimal(user_ids(sellers, batch.seed_key)),
        "region": places().region_of_city[sellers.cities].tolist(),
        "city": places().cities[sellers.cities].tolist(),
        "parent_category_name": [parents[c] for c in categories],
        "category_name": [words.categories[c] for c in categories],
        **dict(zip(("param_1", "param_2", "param_3"), params, strict=True)),
        "title": titles,
        "description": descriptions,
        "price": goods.price.tolist(),
        "item_seq_number": facts.sequence.tolist(),
        "activation_date": _dates(batch.row_keys),
        "user_type": [SELLER_TYPES[kind] for kind in sellers.kinds.tolist()],
        "image": _image_hashes(batch.row_keys, has_image.tolist()),
        "image_top_1": np.where(has_image, goods.image_class, np.nan).tolist(),
        TARGET: batch.targets.tolist(),
    }
    return {name: columns[name] for name in COLUMN_NAMES}


def _hexadecimal(numbers: Keys) -> list[str]:
    return [f"{number:012x}" for number in numbers.tolist()]


def _params(words: Lexicon, goods: Goods, keys: Keys) -> list[list[str | None]]:
    """Return param_1, param_2 and param_3 of each ad, None where not shown."""
    columns = []
    for place, texts in enumerate(words.leaf_params):
        column = texts[goods.leaf]
        column[goods.shown_params <= place] = None
        columns.append(column)
    listed = words.third_params.choose(goods.leaf, uniform(keys, "third param"))
    is_any = columns[2] == ANY
    columns[2][is_any] = words.third_params.texts[listed[is_any]]
    return [column.tolist() for column in columns]


@cache
def _calendar() -> tuple[list[str], Floats]:
    dates: dict[str, int] = reference().raw["dates"]
    return list(dates), cumulative([float(rows) for rows in dates.values()])


def _dates(keys: Keys) -> list[str]:
    days, ends = _calendar()
    return [days[i] for i in pick(uniform(keys, "date"), ends).tolist()]


def _image_hashes(keys: Keys, has_image: list[bool]) -> list[str | None]:
    parts = [derive(keys, f"image {i}").tolist() for i in range(4)]
    return [
        f"{a:016x}{b:016x}{c:016x}{d:016x}" if has else None
        for a, b, c, d, has in zip(*parts, has_image, strict=True)
    ]


def chunks(rows: int, seed: int) -> Iterator[Batch]:
    """Yield the rows of a file in order, some at a time.

    Raises
    ------
    ValueError
        There is no row to generate, or the seed is negative.
    """
    if rows < 1:
        raise ValueError(f"at least one demo ad, not {rows}")
    if seed < 0:
        raise ValueError(f"the seed is at least 0, not {seed}")
    for first in range(0, rows, CHUNK_ROWS):
        yield draw_batch(first, min(CHUNK_ROWS, rows - first), seed)


def generate(rows: int, seed: int) -> pd.DataFrame:
    """Return demo ads as the typed frame that reading their file gives.

    Parameters
    ----------
    rows
        How many, at least 1. All are held in memory; :func:`demand.demo.write_demo` streams.
    seed
        At least 0; the same seed gives the same ads, and the first of them do not
        depend on ``rows``.

    Returns
    -------
    pandas.DataFrame
        Shape (rows, 18), columns as in :data:`demand.ads.COLUMN_NAMES`: str or None,
        float64, datetime64[ns].
    """
    frames = []
    for batch in chunks(rows, seed):
        columns = ads(batch)
        frame = pd.DataFrame(
            {
                name: np.array(values, dtype=object if name in _TEXTS else np.float64)
                for name, values in columns.items()
                if name != "activation_date"
            }
        )
        frame["activation_date"] = pd.to_datetime(
            pd.Series(columns["activation_date"]), format="%Y-%m-%d"
        ).astype("datetime64[ns]")
        frames.append(frame[list(COLUMN_NAMES)])
    return pd.concat(frames, ignore_index=True)


_TEXTS = frozenset(COLUMN_NAMES) - {"price", "item_seq_number", "image_top_1", TARGET}


def noise_floor(rows: int, seed: int, item_ids: Sequence[str] | None = None) -> float:
    """Return the RMSE of the true conditional mean: the least that any model can reach.

    The means are not in the file; they are found again from the rows' numbers.

    Parameters
    ----------
    rows, seed
        As the ads were generated.
    item_ids
        Only over these ads; None for all.

    Raises
    ------
    ValueError
        An item_id is not one of these demo ads', or there is none.
    """
    wanted = None if item_ids is None else set(item_ids)
    squares, found = 0.0, 0
    for batch in chunks(rows, seed):
        errors = (batch.targets - batch.means) ** 2
        if wanted is not None:
            errors = errors[[item in wanted for item in _hexadecimal(batch.item_numbers)]]
        squares += float(errors.sum())
        found += len(errors)
    if (wanted is not None and found < len(wanted)) or not found:
        raise ValueError(
            f"{len(wanted or ()) - found} of the {len(wanted or ())} item_ids are not among the "
            f"{rows} demo ads of seed {seed}"
        )
    return float((squares / found) ** 0.5)
