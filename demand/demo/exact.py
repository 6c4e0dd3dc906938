"""Logarithms, powers and an S-curve whose last bit is the same on every processor.

IEEE 754 fixes the results of +, -, *, / and square root, but not those of exp and log,
which differ between mathematical libraries. Here both are read from tables whose entries
are rounded far above such differences.
"""

from __future__ import annotations

import math
from functools import cache

import numpy as np

from demand.demo.hashing import Floats

_STEPS = 4096


@cache
def _power_table() -> Floats:
    return np.array([round(2.0 ** (i / _STEPS), 10) for i in range(_STEPS)], dtype=np.float64)


@cache
def _logarithm_table() -> Floats:
    # The mantissa of frexp lies in [0.5, 1); each step is represented by its middle.
    return np.array(
        [round(math.log2(0.5 + (i + 0.5) / (2 * _STEPS)), 10) for i in range(_STEPS)],
        dtype=np.float64,
    )


def power_of_two(exponents: Floats) -> Floats:
    """Return ``2 ** exponents`` to a relative 0.02 %; the shape stays."""
    steps = np.floor(exponents * _STEPS).astype(np.int64)
    whole = steps // _STEPS
    powers: Floats = np.ldexp(_power_table()[steps - whole * _STEPS], whole.astype(np.int32))
    return powers


def logarithm(values: Floats) -> Floats:
    """Return the base-2 logarithm of positive values to within 0.0004; the shape stays."""
    mantissa, exponent = np.frexp(values)
    steps = ((mantissa - 0.5) * (2 * _STEPS)).astype(np.int64)
    logs: Floats = _logarithm_table()[steps] + exponent
    return logs


def squash(values: Floats) -> Floats:
    """Map all numbers into (0, 1) by ``(1 + x / sqrt(1 + x^2)) / 2``; the shape stays."""
    curve: Floats = 0.5 * (1.0 + values / np.sqrt(1.0 + values * values))
    return curve


def piecewise(positions: Floats, knots: Floats, values: Floats) -> Floats:
    """Interpolate linearly between knots, elementwise, and stay flat outside them.

    ``np.interp`` would do, but compilers fuse its multiply and add on some processors.

    Parameters
    ----------
    positions
        Shape (n,).
    knots
        Shape (k,), ascending.
    values
        Shape (k,), or (n, k) where each position has values of its own.
    """
    last = len(knots) - 1
    index = np.clip(np.searchsorted(knots, positions, side="right") - 1, 0, last - 1)
    low, high = knots[index], knots[index + 1]
    share = np.clip((positions - low) / (high - low), 0.0, 1.0)
    if values.ndim == 1:
        start, end = values[index], values[index + 1]
    else:
        rows = np.arange(len(positions))
        start, end = values[rows, index], values[rows, index + 1]
    between: Floats = start + share * (end - start)
    return between
