"""Random numbers that depend on a key alone, the same on every machine.

Everything random about a demo ad is read off hashes of (seed, row, purpose) instead of
from a running generator: a row does not depend on the rows before it, so files can be
streamed, and the generator finds a row's truth again without keeping it. The mixer is the
finaliser of SplitMix64 (Steele, Lea and Flood, *Fast splittable pseudorandom number
generators*, 2014). Only integer arithmetic and exact multiplications are used.
"""

from __future__ import annotations

import hashlib
from functools import cache

import numpy as np
import numpy.typing as npt

Keys = npt.NDArray[np.uint64]
Floats = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int64]

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_FIRST = np.uint64(0xBF58476D1CE4E5B9)
_SECOND = np.uint64(0x94D049BB133111EB)
_UNIT = 2.0**-53
# The sum of four uniform numbers has variance 1/3.
_NORMAL_SCALE = 1.7320508075688772


@cache
def text_key(text: str) -> int:
    """Return 64 bits of a text's BLAKE2b digest, as an integer."""
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")


def text_keys(texts: list[str]) -> Keys:
    """Return :func:`text_key` of each text, shape (len(texts),)."""
    return np.array([text_key(text) for text in texts], dtype=np.uint64)


def mix(keys: Keys) -> Keys:
    """Scramble 64-bit keys one to one; the shape stays."""
    mixed = keys + _GOLDEN
    mixed = (mixed ^ (mixed >> np.uint64(30))) * _FIRST
    mixed = (mixed ^ (mixed >> np.uint64(27))) * _SECOND
    return mixed ^ (mixed >> np.uint64(31))


def derive(keys: Keys, purpose: str) -> Keys:
    """Return keys for one purpose, independent of those for any other; the shape stays."""
    return mix(keys ^ np.uint64(text_key(purpose)))


def combine(*parts: Keys) -> Keys:
    """Return one key for each combination of parts, in which the order counts."""
    combined = mix(parts[0])
    for part in parts[1:]:
        combined = mix(combined ^ mix(part + _SECOND))
    return combined


def uniform(keys: Keys, purpose: str) -> Floats:
    """Return numbers uniform in [0, 1), multiples of 2**-53; the shape of ``keys``."""
    return (derive(keys, purpose) >> np.uint64(11)).astype(np.float64) * _UNIT


def normal(keys: Keys) -> Floats:
    """Return numbers of mean 0 and variance 1, bell-shaped within 3.5; the shape of ``keys``.

    The sum of four 16-bit uniform numbers, so that no logarithm's last digit matters.
    """
    mixed = mix(keys)
    total = np.zeros(mixed.shape, dtype=np.int64)
    for shift in (0, 16, 32, 48):
        total += ((mixed >> np.uint64(shift)) & np.uint64(0xFFFF)).astype(np.int64)
    return (total - 131_070).astype(np.float64) * (_NORMAL_SCALE / 65_536.0)


def pick(uniforms: Floats, cumulative: Floats) -> Indices:
    """Return for each uniform number the index of its interval.

    Parameters
    ----------
    uniforms
        Numbers in [0, 1), any shape.
    cumulative
        Upper ends of the intervals, ascending; the last one is taken as 1.
    """
    return np.searchsorted(cumulative[:-1], uniforms, side="right").astype(np.int64)


def below(uniforms: Floats, counts: Indices | int) -> Indices:
    """Return whole numbers uniform in [0, count), elementwise."""
    return (uniforms * counts).astype(np.int64)


def skewed(uniforms: Floats) -> Floats:
    """Return ``u ** 1.5``: the first of several phrases come oftener, as words do."""
    power: Floats = uniforms * np.sqrt(uniforms)
    return power


def cumulative(weights: list[float] | Floats) -> Floats:
    """Return the upper ends of intervals in [0, 1] as long as the weights say.

    Added up in the order given: numpy's sum depends on the processor, and Python's on its
    version.
    """
    total = 0.0
    ends = []
    for weight in weights:
        total += float(weight)
        ends.append(total)
    return np.array([end / total for end in ends], dtype=np.float64)
