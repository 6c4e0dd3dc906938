"""The network's forward pass in numpy, so that serving needs no torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from demand.features.builder import Features

Weights = Mapping[str, NDArray[np.float32]]


def forward(weights: Weights, features: Features) -> NDArray[np.float64]:
    """Return deal probabilities, shape (n,), in [0, 1].

    The same arithmetic as :class:`demand.network.DemandNetwork` in evaluation, first
    head only; a test holds the two together.
    """
    sparse, dense = features.sparse, features.dense
    gathered = weights["table"][sparse.buckets] * sparse.weights[:, None]
    # Every ad has tokens (its columns' values, missing ones too), as reduceat demands.
    tokens = np.add.reduceat(gathered, sparse.starts[:-1], axis=0)
    x = tokens[:, 1:] + dense @ weights["first.weight"].T + weights["first.bias"]
    layer = 0
    while f"deep.{layer}.weight" in weights:
        x = np.maximum(x, 0.0) @ weights[f"deep.{layer}.weight"].T + weights[f"deep.{layer}.bias"]
        layer += 1
    logit = x[:, 0] + tokens[:, 0] + dense @ weights["wide.weight"][0] + weights["wide.bias"][0]
    return _sigmoid(logit.astype(np.float64))


def _sigmoid(logit: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return 1 / (1 + e^-x) without overflow for any finite x."""
    small = np.exp(-np.abs(logit))
    return np.where(logit >= 0, 1.0 / (1.0 + small), small / (1.0 + small))


def serving_weights(state: Mapping[str, Any], heads: int) -> dict[str, NDArray[np.float32]]:
    """Take from a network's state what serving needs: the first head only."""
    weights = {name: np.asarray(value, dtype=np.float32) for name, value in state.items()}
    weights["table"] = np.delete(weights["table"], np.s_[1:heads], axis=1)
    last = max(int(name.split(".")[1]) for name in weights if name.startswith("deep."))
    for name in ("wide", f"deep.{last}"):
        weights[f"{name}.weight"] = weights[f"{name}.weight"][:1]
        weights[f"{name}.bias"] = weights[f"{name}.bias"][:1]
    return weights


def quantise(table: NDArray[np.float32]) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Round a table to 8 bits with one scale a column: int8 (r, c) and float32 (c,)."""
    scale = np.maximum(np.abs(table).max(axis=0), 1e-12) / 127.0
    return np.rint(table / scale).astype(np.int8), scale.astype(np.float32)
