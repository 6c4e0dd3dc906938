"""A fitted model as few and small arrays, and back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from demand.config import FeatureSettings
from demand.features.builder import FeatureBuilder
from demand.forward import Weights

_FEATURES, _WEIGHTS, _WIDE = "features.", "weights.", "weights.wide."
_STEP_MAX = np.iinfo(np.uint16).max


def pack(builder: FeatureBuilder, weights: Weights) -> dict[str, NDArray[Any]]:
    """Round to what is worth keeping.

    Of the wide path's table, those weights that are not zero, in 8 bits; 16 bits for the
    rest of the network and for group means.
    """
    packed: dict[str, NDArray[Any]] = {}
    for name, array in builder.arrays.items():
        small = name.endswith(".means")
        packed[f"{_FEATURES}{name}"] = array.astype(np.float16) if small else array
    for name, weight in weights.items():
        if name == "wide.table":
            packed |= {f"{_WIDE}{part}": array for part, array in pack_table(weight).items()}
        else:
            packed[f"{_WEIGHTS}{name}"] = weight.astype(np.float16)
    return {name: np.ascontiguousarray(array) for name, array in packed.items()}


def unpack(
    packed: Mapping[str, NDArray[Any]], settings: FeatureSettings
) -> tuple[FeatureBuilder, dict[str, NDArray[Any]]]:
    """Undo :func:`pack`, into the types that compute fast; other arrays are left alone.

    Raises
    ------
    LookupError, ValueError
        Arrays are missing, or do not fit together.
    """
    arrays, weights = {}, {}
    for name, array in packed.items():
        wide = array.astype(np.float32) if array.dtype == np.float16 else array
        if name.startswith(_FEATURES):
            arrays[name.removeprefix(_FEATURES)] = wide
        elif name.startswith(_WEIGHTS):
            weights[name.removeprefix(_WEIGHTS)] = wide
    table = {part: weights.pop(f"wide.{part}") for part in ("step", "weight", "scale")}
    weights["wide.table"] = unpack_table(table, settings.buckets)
    return FeatureBuilder(settings, arrays), weights


def pack_table(table: NDArray[Any]) -> dict[str, NDArray[Any]]:
    """Keep what is not zero of a table: the steps from place to place, and 8 bits each.

    Returns
    -------
    dict
        ``step``, uint16, and ``weight``, int8, both of shape (kept,); ``scale``, float32,
        shape (1,).
    """
    scale = np.maximum(np.abs(table).max(initial=0.0), 1e-12) / 127.0
    rounded = np.rint(table / scale).astype(np.int8)
    place = np.flatnonzero(rounded)
    step = np.diff(place, prepend=-1)
    # A step that is too long for 16 bits is made in several, over weights of zero.
    between = (step - 1) // _STEP_MAX
    last = np.cumsum(between + 1) - 1
    steps = np.full(len(place) + between.sum(), _STEP_MAX, dtype=np.uint16)
    steps[last] = step - between * _STEP_MAX
    weight = np.zeros(len(steps), dtype=np.int8)
    weight[last] = rounded[place]
    return {"step": steps, "weight": weight, "scale": np.array([scale], dtype=np.float32)}


def unpack_table(packed: Mapping[str, NDArray[Any]], buckets: int) -> NDArray[np.float32]:
    """Undo :func:`pack_table`: the whole table, shape (buckets,).

    Raises
    ------
    IndexError, ValueError
        There are more places than buckets, or not as many steps as weights.
    """
    table = np.zeros(buckets, dtype=np.float32)
    place = np.cumsum(packed["step"].astype(np.int64)) - 1
    table[place] = packed["weight"] * packed["scale"]
    return table
