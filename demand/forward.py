"""The network's forward pass in numpy, so that serving needs no torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from demand.features.builder import Features
from demand.features.columns import Floats
from demand.features.sequences import PADDING

Weights = Mapping[str, NDArray[Any]]


def forward(weights: Weights, features: Features) -> Floats:
    """Return deal probabilities, shape (n,), in [0, 1].

    The same arithmetic as :class:`demand.wide.Wide` and
    :class:`demand.network.DemandNetwork` in evaluation; a test holds them together.
    """
    x = features.dense
    if features.words.shape[1]:
        x = np.concatenate([x, _encoded(weights, features.words)], axis=1)
    layer = 0
    while f"deep.{layer}.weight" in weights:
        x = np.maximum(x, 0.0) if layer else x
        x = x @ weights[f"deep.{layer}.weight"].T + weights[f"deep.{layer}.bias"]
        layer += 1
    wide = features.sparse.sums(weights["wide.table"]) + weights["wide.bias"][0]
    return _sigmoid(wide + x[:, 0].astype(np.float64))


def _encoded(weights: Weights, words: NDArray[np.int64]) -> NDArray[np.float32]:
    """Return what the encoder makes of each text, shape (n, embedding)."""
    if "encoder.question" in weights:
        return _attention(weights, words)
    return _gru(weights, words)


def _attention(weights: Weights, words: NDArray[np.int64]) -> NDArray[np.float32]:
    vectors = weights["encoder.table"][words]
    score = np.exp(np.clip(vectors @ weights["encoder.question"], -20.0, 20.0))
    score *= words != PADDING
    share = score / np.maximum(score.sum(axis=1, keepdims=True), 1e-12)
    mean: NDArray[np.float32] = (share[:, :, None] * vectors).sum(axis=1)
    return mean


def _gru(weights: Weights, words: NDArray[np.int64]) -> NDArray[np.float32]:
    table = weights["encoder.table"]
    of_input, of_state = weights["encoder.cell.weight_ih"].T, weights["encoder.cell.weight_hh"].T
    size = table.shape[1]
    state = np.zeros((len(words), size), dtype=np.float32)
    longest = int((words != PADDING).sum(axis=1).max(initial=0))
    for place in range(longest):
        there = words[:, place] != PADDING
        seen = table[words[:, place]] @ of_input + weights["encoder.cell.bias_ih"]
        kept = state @ of_state + weights["encoder.cell.bias_hh"]
        reset = _sigmoid(seen[:, :size] + kept[:, :size])
        update = _sigmoid(seen[:, size : 2 * size] + kept[:, size : 2 * size])
        new = np.tanh(seen[:, 2 * size :] + reset * kept[:, 2 * size :])
        state = np.where(there[:, None], (1.0 - update) * new + update * state, state)
    return state.astype(np.float32)


def _sigmoid(logit: Floats) -> Floats:
    """Return 1 / (1 + e^-x) without overflow for any finite x."""
    small = np.exp(-np.abs(logit))
    return np.where(logit >= 0, 1.0 / (1.0 + small), small / (1.0 + small))
