"""Random numbers and functions whose last bit is the same on every machine.

Everything random about a demo ad is read off hashes of (seed, row, purpose) instead of
from a running generator: a row does not depend on the rows before it, so files can be
streamed, and the generator finds a row's truth again without keeping it. The mixer is the
finaliser of SplitMix64 (Steele, Lea and Flood, *Fast splittable pseudorandom number
generators*, 2014).

IEEE 754 fixes the results of +, -, *, / and square root, but not those of exp and log,
which differ between mathematical libraries: here both are read from tables whose entries
are rounded far above such differences. Functions keep the shape of their argument.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from functools import cache

import numpy as np
from numpy.typing import NDArray

Keys = NDArray[np.uint64]
Floats = NDArray[np.float64]
Indices = NDArray[np.int64]
Flags = NDArray[np.bool_]

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_FIRST = np.uint64(0xBF58476D1CE4E5B9)
_SECOND = np.uint64(0x94D049BB133111EB)
_STEPS = 4096


@cache
def text_key(text: str) -> int:
    """Return 64 bits of a text's BLAKE2b digest, as an integer."""
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")


def text_keys(texts: Sequence[str]) -> Keys:
    """Return :func:`text_key` of each text, shape (len(texts),)."""
    return np.array([text_key(text) for text in texts], dtype=np.uint64)


def mix(keys: Keys) -> Keys:
    """Scramble 64-bit keys one to one."""
    mixed = keys + _GOLDEN
    mixed = (mixed ^ (mixed >> np.uint64(30))) * _FIRST
    mixed = (mixed ^ (mixed >> np.uint64(27))) * _SECOND
    return mixed ^ (mixed >> np.uint64(31))


def derive(keys: Keys, purpose: str) -> Keys:
    """Return keys for one purpose, independent of those for any other."""
    return mix(keys ^ np.uint64(text_key(purpose)))


def combine(*parts: Keys) -> Keys:
    """Return one key for each combination of parts, in which the order counts; they broadcast."""
    combined = mix(parts[0])
    for part in parts[1:]:
        combined = mix(combined ^ mix(part + _SECOND))
    return combined


def uniform(keys: Keys, purpose: str) -> Floats:
    """Return numbers uniform in [0, 1), multiples of 2**-53."""
    return (derive(keys, purpose) >> np.uint64(11)).astype(np.float64) * 2.0**-53


def normal(keys: Keys) -> Floats:
    """Return numbers of mean 0 and variance 1, bell-shaped within 3.5.

    The sum of four 16-bit uniform numbers, whose variance is 1/3, so that no logarithm's
    last digit matters.
    """
    mixed = mix(keys)
    total = np.zeros(mixed.shape, dtype=np.int64)
    for shift in (0, 16, 32, 48):
        total += ((mixed >> np.uint64(shift)) & np.uint64(0xFFFF)).astype(np.int64)
    return (total - 131_070).astype(np.float64) * (1.7320508075688772 / 65_536.0)


def pick(uniforms: Floats, ends: Floats) -> Indices:
    """Return for each number in [0, 1), shape (n,), the index of its interval.

    ``ends`` are the upper ends of the k intervals, ascending, shape (k,), or (n, k) where each
    number has intervals of its own; the last one is taken as 1.
    """
    passed: Indices = (uniforms[:, None] >= ends[..., :-1]).sum(axis=1)
    return passed


def below(uniforms: Floats, counts: Indices | int) -> Indices:
    """Return whole numbers uniform in [0, count), elementwise."""
    return (uniforms * counts).astype(np.int64)


def skewed(uniforms: Floats) -> Floats:
    """Return ``u ** 1.5``: the first of several phrases come oftener, as words do."""
    power: Floats = uniforms * np.sqrt(uniforms)
    return power


def cumulative(weights: Sequence[float] | Floats) -> Floats:
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


def rounded_logs(values: Sequence[float]) -> Floats:
    """Return base-2 logarithms to nine decimals, shape (len(values),)."""
    return np.array([round(float(np.log2(value)), 9) for value in values], dtype=np.float64)


@cache
def _powers() -> Floats:
    return np.array([round(2.0 ** (i / _STEPS), 10) for i in range(_STEPS)], dtype=np.float64)


@cache
def _logarithms() -> Floats:
    # The mantissa of frexp lies in [0.5, 1); each step is represented by its middle.
    middles = (0.5 + (i + 0.5) / (2 * _STEPS) for i in range(_STEPS))
    return np.array([round(math.log2(middle), 10) for middle in middles], dtype=np.float64)


def power_of_two(exponents: Floats) -> Floats:
    """Return ``2 ** exponents`` to a relative 0.02 %."""
    steps = np.floor(exponents * _STEPS).astype(np.int64)
    whole = steps // _STEPS
    powers: Floats = np.ldexp(_powers()[steps - whole * _STEPS], whole.astype(np.int32))
    return powers


def logarithm(values: Floats) -> Floats:
    """Return the base-2 logarithm of positive values to within 0.0004."""
    mantissa, exponent = np.frexp(values)
    steps = ((mantissa - 0.5) * (2 * _STEPS)).astype(np.int64)
    logs: Floats = _logarithms()[steps] + exponent
    return logs


def squash(values: Floats) -> Floats:
    """Map all numbers into (0, 1) by ``(1 + x / sqrt(1 + x^2)) / 2``."""
    curve: Floats = 0.5 * (1.0 + values / np.sqrt(1.0 + values * values))
    return curve


def piecewise(positions: Floats, knots: Floats, values: Floats) -> Floats:
    """Interpolate linearly between ascending knots, and stay flat outside them.

    ``np.interp`` would do, but compilers fuse its multiply and add on some processors.
    Positions have shape (n,), knots (k,), and values (k,), or (n, k) where each position
    has values of its own.
    """
    last = len(knots) - 1
    index = np.clip(np.searchsorted(knots, positions, side="right") - 1, 0, last - 1)
    low, high = knots[index], knots[index + 1]
    share = np.clip((positions - low) / (high - low), 0.0, 1.0)
    values = np.broadcast_to(values, (len(positions), len(knots)))
    rows = np.arange(len(positions))
    start, end = values[rows, index], values[rows, index + 1]
    between: Floats = start + share * (end - start)
    return between
