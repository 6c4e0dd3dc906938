"""Text of an ad as stable hashes.

Texts are composed (macOS may write й as two characters) and lower-cased, and ``ё``
becomes ``е``. Hashes are the same on every machine.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from functools import cache, lru_cache
from itertools import accumulate
from typing import Any, TypeVar
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from demand.features.compiled import compilable, compiled

Hashes = NDArray[np.uint64]
H = TypeVar("H", bound=Any)  # hashes as an array, or one in compiled code

# The hash of "no value": the golden ratio's bits, which no text is likely to have.
MISSING = 0x9E3779B9
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_SHIFTS = np.uint64(30), np.uint64(27), np.uint64(31)
_MIXERS = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)
_HALF = np.uint64(32)
BEYOND = 0x10000


def normalise(text: str) -> str:
    """Compose letters and accents (NFC), lower-case, and fold ``ё`` into ``е``."""
    return unicodedata.normalize("NFC", text).lower().replace("ё", "е")


@lru_cache(maxsize=1 << 15)
def hash_value(value: str) -> int:
    """Hash a category-like value, blind to case, ``ё`` and outer white space: CRC-32 of UTF-8."""
    return crc32(normalise(value).strip().encode("utf-8", "surrogatepass"))


def hash_values(values: list[str | None]) -> Hashes:
    """Hash a column of category-like values, shape (n,); missing has a hash of its own."""
    return np.array([MISSING if v is None else hash_value(v) for v in values], dtype=np.uint64)


@compilable
def join(first: H, second: H | int) -> H:
    """Combine two hashes into one that depends on their order; it wraps around.

    Cheap, and different wherever they are; but its bits are not evenly mixed.
    """
    joined: H = first * _GOLDEN + second
    return joined


@compilable
def mix(first: H, second: H | int) -> H:
    """Combine two hashes into a 64-bit one of evenly mixed bits that depends on their order.

    The finaliser is splitmix64 (Steele, Lea and Flood, OOPSLA 2014).
    """
    z: Any = join(first, second)
    z = (z ^ (z >> _SHIFTS[0])) * _MIXERS[0]
    z = (z ^ (z >> _SHIFTS[1])) * _MIXERS[1]
    mixed: H = z ^ (z >> _SHIFTS[2])
    return mixed


@compilable
def short_key(hashed: H, salt: Any) -> H:
    """Return 32 bits of a hash mixed with a salt: collisions at 1 in 4 billion."""
    key: H = mix(hashed, salt) >> _HALF
    return key


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


def count_letters(text: str) -> int:
    """Return how many letters and digits a text has."""
    code, _ = code_points([text])
    return int(_count(code, letters_table()))


@compiled
def _count(code: NDArray[np.uint32], is_letter: NDArray[np.bool_]) -> int:
    letters = 0
    for point in code:
        letters += is_letter[min(point, BEYOND)]
    return letters


@cache
def letters_table() -> NDArray[np.bool_]:
    """Say of each code point whether it is a letter or digit, shape (``BEYOND`` + 1,).

    The last stands for all beyond the basic plane, emoji and mathematical letters above
    all: they separate words.
    """
    return np.array([chr(code).isalnum() for code in range(BEYOND)] + [False])
