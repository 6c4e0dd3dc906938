"""Ads as columns of plain lists and arrays, and as arrays alone, as compiled kernels take them.

What Python has verbs for is done here: composing, lower-casing and hashing texts, and the
logarithms of prices. Hashes are the same on every machine. Texts are composed (macOS may write
й as two characters) and lower-cased, and ``ё`` becomes ``е``.
"""

from __future__ import annotations

import datetime
import numbers
import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from itertools import accumulate
from typing import TYPE_CHECKING, Any
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from demand.features import kernels
from demand.schema.arrays import Floats, Hashes
from demand.schema.cells import NOT_A_DATE, Parser, parse_date, parse_number, parser_of
from demand.schema.columns import INPUT_COLUMNS, PARAMS
from demand.schema.population import reference

if TYPE_CHECKING:
    import pandas as pd


TEXT_COLUMNS = {c.name: parser_of(c) for c in INPUT_COLUMNS if c.kind == "text"}
# Ads a pass. It bounds memory, and how long other threads wait for the interpreter: 5 ms.
BLOCK = 256
_NANOSECONDS = np.dtype("datetime64[ns]")
NUMBER_COLUMNS = tuple(c.name for c in INPUT_COLUMNS if c.kind in ("number", "integer"))


@dataclass(frozen=True)
class AdColumns:
    """The ads of a request, a batch or a file, column by column."""

    rows: int  # number of ads, n
    text: dict[str, list[str | None]]  # n strings a column; None where missing
    number: dict[str, Floats]  # shape (n,) a column; NaN where missing
    weekday: Floats  # of the activation date, shape (n,), Monday is 0; NaN where missing

    @classmethod
    def from_frame(cls, frame: pd.DataFrame) -> AdColumns:
        """Take the known columns of ``frame`` in any order; absent ones count as missing."""
        n = len(frame)
        text: dict[str, list[str | None]] = {}
        for name, parse in TEXT_COLUMNS.items():
            if name in frame.columns:
                # What is no text is None.
                text[name] = [
                    parse(value)[0] if isinstance(value, str) else None
                    for value in frame[name].tolist()
                ]
            else:
                text[name] = [None] * n
        number = {
            name: _numbers(frame[name]) if name in frame.columns else np.full(n, np.nan)
            for name in NUMBER_COLUMNS
        }
        weekday = np.full(n, np.nan)
        if "activation_date" in frame.columns:
            weekday = _weekdays(frame["activation_date"])
        return cls(n, text, number, weekday)

    @classmethod
    def from_record(cls, ad: Mapping[str, Any]) -> AdColumns:
        """Take one ad as a mapping; absent keys, None and blank texts count as missing."""
        text = {name: [_text(ad.get(name), parse)] for name, parse in TEXT_COLUMNS.items()}
        number = {name: np.array([_number(ad.get(name))]) for name in NUMBER_COLUMNS}
        return cls(1, text, number, np.array([_weekday(ad.get("activation_date"))]))

    @classmethod
    def from_typed(cls, typed: Mapping[str, NDArray[Any]]) -> AdColumns:
        """Take what :func:`demand.schema.records.typed_records` read."""
        weekday = weekdays(typed["activation_date"])
        text = {name: typed[name].tolist() for name in TEXT_COLUMNS}
        return cls(len(weekday), text, {name: typed[name] for name in NUMBER_COLUMNS}, weekday)

    def part(self, chosen: slice) -> AdColumns:
        """Return some of the ads."""
        text = {name: values[chosen] for name, values in self.text.items()}
        number = {name: values[chosen] for name, values in self.number.items()}
        weekday = self.weekday[chosen]
        return AdColumns(len(weekday), text, number, weekday)

    def blocks(self) -> Iterator[AdColumns]:
        """Yield all ads, some thousands at a time, at least once: this bounds memory."""
        if self.rows <= BLOCK:  # to slice one ad would cost a tenth of its answer
            yield self
            return
        for first in range(0, self.rows, BLOCK):
            yield self.part(slice(first, first + BLOCK))


def weekdays(dates: NDArray[np.datetime64]) -> Floats:
    """Return the day of the week of each date, shape (n,): Monday is 0; NaN where missing."""
    return kernels.weekdays_of(dates.astype(_NANOSECONDS).view(np.int64))


def _text(value: object, parse: Parser) -> str | None:
    """Return a text as a file of ads has it; None for anything else."""
    return parse(value)[0] if isinstance(value, str) else None


def _numbers(column: pd.Series[Any]) -> Floats:
    if column.dtype.kind in "fiu":
        return column.to_numpy(dtype=np.float64, na_value=np.nan)
    return np.array([_number(value) for value in column], dtype=np.float64)


def _number(value: object) -> float:
    """Return a number, or a text that is one, as float64; NaN for anything else."""
    if isinstance(value, str):
        return parse_number(value)[0]
    try:
        return float(value) if isinstance(value, numbers.Real) else np.nan
    except OverflowError:
        return np.nan


def _weekdays(column: pd.Series[Any]) -> Floats:
    if column.dtype.kind == "M":
        return weekdays(column.to_numpy(dtype="datetime64[ns]"))
    return np.array([_weekday(value) for value in column], dtype=np.float64)


def _weekday(value: object) -> float:
    """Return the day of the week of a date or of its ISO text; NaN for anything else.

    Texts are read one by one, as in a file of ads: pandas would read a column of them
    by the form of the first.
    """
    known = isinstance(value, str | datetime.date | np.datetime64)
    return float(weekdays(np.array([parse_date(str(value))[0] if known else NOT_A_DATE]))[0])


# The columns of texts that are hashed as values, in the order of the kernels' rows.
CHAIN = ("parent_category_name", "category_name", *PARAMS)
TEXTS = (*CHAIN, "region", "city", "user_type")
# Characters of a title that are read: the bound of the schema.
TITLE_LETTERS_MAX = 200
# What is read at most for one letter that is kept: a description may be of 5 MB.
_SEPARATORS_MAX = 8
_WORD = re.compile(r"[^\W_]+")


def encode_ads(ads: AdColumns, letters_max: int) -> kernels.EncodedAds:
    """Turn n ads into arrays; of a description the first ``letters_max`` characters are read."""
    text, descriptions = ads.text, ads.text["description"]
    # One column after the other, read at once: a call costs more than a text.
    texts = [_beginning(value, TITLE_LETTERS_MAX) for value in text["title"]]
    texts += [_beginning(value, letters_max) for value in descriptions]
    for name in PARAMS:
        texts += [_beginning(value, TITLE_LETTERS_MAX) for value in text[name]]
    numeric = encode_numeric(ads)
    for ad, value in enumerate(descriptions):
        if value and len(value) > letters_max:
            numeric[kernels.ALL_LETTERS, ad] = kernels.count_letters(
                code_points([value])[0], letters_table()
            )
    return kernels.EncodedAds(*code_points(texts), hash_texts(ads), numeric)


def encode_numeric(ads: AdColumns) -> Floats:
    """Return :attr:`EncodedAds.numeric`, as of descriptions that are read whole."""
    number = ads.number
    numeric = np.empty((7, ads.rows))
    numeric[kernels.ROUBLES] = number["price"]
    # By numpy, as the edges of bins are: prices lie on edges, and libraries differ in the last bit.
    np.log1p(np.maximum(number["price"], 0.0), out=numeric[kernels.LOG_PRICE])
    numeric[kernels.SEQUENCE_NUMBER] = number["item_seq_number"]
    numeric[kernels.IMAGE_CLASS] = number["image_top_1"]
    numeric[kernels.HAS_IMAGE] = [image is not None for image in ads.text["image"]]
    numeric[kernels.WEEKDAY] = ads.weekday
    numeric[kernels.ALL_LETTERS] = kernels.READ_WHOLE
    return numeric


def hash_texts(ads: AdColumns) -> Hashes:
    """Hash the columns ``TEXTS`` of n ads, shape (8, n), with :func:`parents` for the first."""
    text = ads.text
    values = list(parents(text[CHAIN[0]], text[CHAIN[1]]))
    for name in TEXTS[1:]:
        values += text[name]
    return hash_values(values).reshape(len(TEXTS), ads.rows)


def parents(given: list[str | None], categories: list[str | None]) -> list[str | None]:
    """Return the parent category of n ads: the one given, else that of a known category."""
    if None not in given:
        return given
    known = _parent_of()
    return [
        # As hashes are, blind to case, and here only where the usual spelling is not found.
        known.get(category) or known.get(normalise(category).strip())
        if parent is None and category
        else parent
        for parent, category in zip(given, categories, strict=True)
    ]


@cache
def _parent_of() -> dict[str, str]:
    usual = reference().parent_of
    return {normalise(category): parent for category, parent in usual.items()} | usual


@cache
def user_types() -> Hashes:
    """Return the hash of each known type of seller, shape (types,)."""
    return hash_values(list(reference().user_types))


def _beginning(text: str | None, limit: int) -> str | None:
    """Cut a text to ``limit`` characters, of which what only separates words is one a gap."""
    if text is None or len(text) <= limit:
        return text
    composed = unicodedata.normalize("NFC", text[: _SEPARATORS_MAX * limit])
    return " ".join(_WORD.findall(composed))[:limit]


def normalise(text: str) -> str:
    """Compose letters and accents (NFC), lower-case, and fold ``ё`` into ``е``."""
    return unicodedata.normalize("NFC", text).lower().replace("ё", "е")


@lru_cache(maxsize=1 << 15)
def hash_value(value: str) -> int:
    """Hash a category-like value, blind to case, ``ё`` and outer white space: CRC-32 of UTF-8."""
    return crc32(normalise(value).strip().encode("utf-8", "surrogatepass"))


def hash_values(values: Sequence[str | None]) -> Hashes:
    """Hash a column of category-like values, shape (n,); missing has a hash of its own."""
    return np.array(
        [kernels.MISSING if v is None else hash_value(v) for v in values], dtype=np.uint64
    )


def code_points(texts: Sequence[str | None]) -> tuple[NDArray[np.uint32], NDArray[np.int64]]:
    """Return the characters of n normalised texts one after the other, and where each begins.

    Returns
    -------
    code, first
        Shapes (m,) and (n + 1,); the last of ``first`` is m. None counts as empty.
    """
    normal = [normalise(text) if text else "" for text in texts]
    code = np.frombuffer("".join(normal).encode("utf-32-le", "surrogatepass"), dtype=np.uint32)
    ends = accumulate(map(len, normal), initial=0)
    return code, np.fromiter(ends, np.int64, len(normal) + 1)


@cache
def letters_table() -> NDArray[np.bool_]:
    """Say of each code point whether it is a letter or digit, shape (``BEYOND`` + 1,).

    The last stands for all beyond the basic plane, emoji and mathematical letters above
    all: they separate words.
    """
    return np.array([chr(code).isalnum() for code in range(kernels.BEYOND)] + [False])
