"""From row numbers to ads: as a file, as a frame, and their noise floor."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd

from demand.demo.exact import (
    Floats,
    Keys,
    combine,
    cumulative,
    derive,
    mix,
    pick,
    text_keys,
    uniform,
)
from demand.demo.lexicon import ANY, CATEGORIES, SELLER_TYPES, Texts, lexicon
from demand.demo.offers import draw_goods, draw_sellers, permute48, places
from demand.demo.target import Facts, conditional_mean, draw_targets
from demand.demo.wording import draw_wording, write_texts
from demand.schema.columns import COLUMN_NAMES, TARGET
from demand.schema.population import reference
from demand.workspace.workspace import write_aside

# As many rows are held in memory at once.
CHUNK_ROWS = 20_000
_SHORT = np.uint64(20)


@dataclass(frozen=True)
class Batch:
    """Some rows: their keys and facts; arrays of shape (rows,)."""

    seed_key: Keys  # of the file, shape (1,)
    row_keys: Keys
    item_ids: list[str]
    facts: Facts

    @cached_property
    def means(self) -> Floats:
        """The true means of the targets."""
        return conditional_mean(self.facts)

    @cached_property
    def targets(self) -> Floats:
        """The deal probabilities of the ads."""
        return draw_targets(self.means, self.facts.goods.category, self.row_keys)


def draw_batch(first: int, rows: int, seed: int) -> Batch:
    """Return rows ``first`` ... ``first + rows - 1`` of the file with this seed."""
    seed_key = mix(np.array([seed], dtype=np.uint64) ^ text_keys(["demo ads"]))
    numbers = np.arange(first, first + rows, dtype=np.uint64)
    row_keys = combine(seed_key, numbers)
    sellers = draw_sellers(row_keys, seed_key)
    goods = draw_goods(sellers, row_keys)
    facts = Facts(sellers, goods, draw_wording(goods, sellers.concepts, row_keys))
    # 48 bits an ad, others for each ad of a file.
    item_numbers = permute48(numbers + (derive(seed_key, "item") >> _SHORT))
    return Batch(seed_key, row_keys, _hexadecimal(item_numbers), facts)


def ads(batch: Batch) -> pd.DataFrame:
    """Return the rows as the typed frame of :func:`generate`."""
    goods, sellers = batch.facts.goods, batch.facts.sellers
    titles, descriptions = write_texts(sellers, goods, batch.facts.wording, batch.row_keys)
    parents = np.array(list(reference().parent_of.values()), dtype=object)
    params = _params(batch.facts)
    has_image = goods.image_class >= 0
    days: dict[str, int] = reference().raw["dates"]
    day = pick(uniform(batch.row_keys, "date"), cumulative(list(days.values())))
    columns = {
        "item_id": batch.item_ids,
        # 48 bits a seller, others for each seller of a file.
        "user_id": _hexadecimal(permute48(sellers.numbers + (mix(batch.seed_key) >> _SHORT))),
        "region": places().region_of_city[sellers.cities],
        "city": places().cities[sellers.cities],
        "parent_category_name": parents[goods.category],
        "category_name": np.array(CATEGORIES, dtype=object)[goods.category],
        **{f"param_{place}": params[:, place - 1] for place in (1, 2, 3)},
        "title": titles,
        "description": np.array(descriptions, dtype=object),
        "price": goods.price,
        "item_seq_number": sellers.sequence,
        "activation_date": np.array(list(days), dtype="datetime64[ns]")[day],
        "user_type": np.array(SELLER_TYPES, dtype=object)[sellers.kinds],
        "image": _image_hashes(batch.row_keys, has_image.tolist()),
        "image_top_1": np.where(has_image, goods.image_class, np.nan),
        TARGET: batch.targets,
    }
    return pd.DataFrame(columns)[list(COLUMN_NAMES)]


def _hexadecimal(numbers: Keys) -> list[str]:
    return [f"{number:012x}" for number in numbers.tolist()]


def _params(facts: Facts) -> Texts:
    """Return param_1, param_2 and param_3 of each ad, None where not shown, shape (rows, 3)."""
    goods, words = facts.goods, lexicon()
    params = words.leaf_params[goods.leaf]
    params[goods.shown_params[:, None] <= np.arange(3)] = None
    third = words.third_params.choose(goods.leaf, uniform(facts.sellers.concepts, "third param"))
    is_any = params[:, 2] == ANY
    params[is_any, 2] = words.third_params.texts[third[is_any]]
    return params


def _image_hashes(keys: Keys, has_image: list[bool]) -> Texts:
    parts = [derive(keys, f"image {i}").tolist() for i in range(4)]
    hashes = [
        f"{a:016x}{b:016x}{c:016x}{d:016x}" if has else None
        for a, b, c, d, has in zip(*parts, has_image, strict=True)
    ]
    return np.array(hashes, dtype=object)


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

    All are held in memory; :func:`write_demo` streams. The same seed gives the same ads, and
    the first of them do not depend on ``rows``. Shape (rows, 18), columns as in
    :data:`demand.schema.columns.COLUMN_NAMES`: str or None, float64, datetime64[ns].

    Raises
    ------
    ValueError
        There is no row to generate, or the seed is negative.
    """
    return pd.concat([ads(batch) for batch in chunks(rows, seed)], ignore_index=True)


def write_demo(
    path: Path, rows: int, seed: int, progress: Callable[[int], None] | None = None
) -> str:
    r"""Write demo ads; the same rows and seed give the same bytes on every machine.

    A CSV file in the style of Kaggle's, UTF-8 with ``\n`` between lines; one from before is
    replaced only when the new one is whole. Memory does not grow with ``rows``. ``progress``
    is called after each chunk with the number of ads written so far. Returns the file's md5,
    32 hex characters: its version as DVC names it.

    Raises
    ------
    StateError
        The file cannot be written.
    ValueError
        There is no row to generate, or the seed is negative.
    """
    digest = hashlib.md5(usedforsecurity=False)
    done = 0
    with write_aside(path) as temporary, temporary.open("wb") as file:
        for batch in chunks(rows, seed):
            text = _as_csv(ads(batch), header=not done)
            digest.update(text)
            file.write(text)
            done += len(batch.row_keys)
            if progress is not None:
                progress(done)
    return digest.hexdigest()


def _as_csv(frame: pd.DataFrame, *, header: bool) -> bytes:
    """Return rows as CSV, quoted where needed, numbers as in Kaggle's file."""
    texts = {name: frame[name].map("{:.1f}".format) for name in ("price", "image_top_1")}
    frame = frame.assign(
        **{name: column.mask(frame[name].isna()) for name, column in texts.items()},
        item_seq_number=frame["item_seq_number"].map("{:.0f}".format),
        **{TARGET: [repr(round(target, 5)) for target in frame[TARGET].tolist()]},
    )
    return frame.to_csv(index=False, header=header, lineterminator="\n").encode()


def noise_floor(rows: int, seed: int, item_ids: Sequence[str] | None = None) -> float:
    """Return the RMSE of the true conditional mean: the least that any model can reach.

    The means are not in the file; they are found again from the rows' numbers, those of the
    ads with these item_ids, None for all.

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
            errors = errors[[item in wanted for item in batch.item_ids]]
        squares += float(errors.sum())
        found += len(errors)
    if (wanted is not None and found < len(wanted)) or not found:
        raise ValueError(
            f"{len(wanted or ()) - found} of the {len(wanted or ())} item_ids are not among the "
            f"{rows} demo ads of seed {seed}"
        )
    return float((squares / found) ** 0.5)
