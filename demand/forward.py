"""The network's forward pass, compiled, so that serving needs no torch."""

from __future__ import annotations

from collections.abc import Mapping
from math import exp
from typing import Any

import numpy as np
from numpy.typing import NDArray

from demand.features.builder import Features
from demand.features.columns import Floats
from demand.features.compiled import compilable, compiled
from demand.features.sequences import PADDING

Weights = Mapping[str, NDArray[Any]]


class Forward:
    """From features to deal probabilities.

    The same arithmetic as :class:`demand.wide.Wide` and
    :class:`demand.network.DemandNetwork` in evaluation; a test holds them together.

    Parameters
    ----------
    weights
        Of the wide path, ``wide.table`` (buckets,) and ``wide.bias`` (1,); of the layers of
        the deep one, ``deep.0.weight`` (outputs, inputs), ``deep.0.bias`` and so on; and of
        the text encoder.

    Raises
    ------
    LookupError, ValueError
        Arrays are missing, or do not fit together.
    """

    def __init__(self, weights: Weights) -> None:
        self._encoder = {name: w for name, w in weights.items() if name.startswith("encoder.")}
        self._table = np.require(weights["wide.table"], np.float32, ("C", "W"))
        self._bias = float(weights["wide.bias"][0])
        self._deep, self._sizes = _layers(weights)

    def __call__(self, features: Features) -> Floats:
        """Return deal probabilities, shape (n,), in [0, 1].

        Raises
        ------
        ValueError
            The network is for other features.
        """
        dense, sparse = features.dense, features.sparse
        if features.words.shape[1]:
            dense = np.concatenate([dense, _encoded(self._encoder, features.words)], axis=1)
        if dense.shape[1] != self._sizes[0]:
            raise ValueError(f"{dense.shape[1]} features, but weights for {self._sizes[0]}")
        return _probabilities(
            sparse.row,
            sparse.bucket,
            sparse.weight,
            self._table,
            self._bias,
            dense,
            self._deep,
            self._sizes,
        )


def _layers(weights: Weights) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Return all layers as one array, and their sizes, the inputs' first.

    A layer's weights come as (inputs, outputs), and then its biases.
    """
    parts: list[NDArray[Any]] = []
    sizes = [weights["deep.0.weight"].shape[1]]
    while (name := f"deep.{len(sizes) - 1}") in {key.rpartition(".")[0] for key in weights}:
        weight, bias = weights[f"{name}.weight"], weights[f"{name}.bias"]
        if weight.shape != (len(bias), sizes[-1]) or bias.ndim != 1:
            raise ValueError(f"{name} is of shape {weight.shape}, and {bias.shape} its bias")
        parts += [weight.T.ravel(), bias]
        sizes.append(len(bias))
    if sizes[-1] != 1:
        raise ValueError(f"the last layer has {sizes[-1]} outputs")
    return np.concatenate(parts).astype(np.float32), np.array(sizes, np.int64)


@compiled
def _probabilities(
    row: NDArray[np.int32],
    bucket: NDArray[np.int32],
    weight: NDArray[np.float32],
    table: NDArray[np.float32],
    bias: float,
    dense: NDArray[np.float32],
    deep: NDArray[np.float32],
    sizes: NDArray[np.int64],
) -> Floats:
    logits = np.zeros(len(dense))
    for token in range(len(row)):
        logits[row[token]] += table[bucket[token]] * weight[token]
    sides = np.empty((2, max(sizes)), np.float32)
    for ad in range(len(dense)):
        for place in range(sizes[0]):
            sides[0, place] = dense[ad, place]
        logit = logits[ad] + bias + _deep_logit(sides, deep, sizes)
        small = exp(-abs(logit))  # which does not overflow, as e^x would
        logits[ad] = 1.0 / (1.0 + small) if logit >= 0 else small / (1.0 + small)
    return logits


@compilable
def _deep_logit(
    sides: NDArray[np.float32], deep: NDArray[np.float32], sizes: NDArray[np.int64]
) -> float:
    """Return the output of the last layer for the inputs on the first of two sides.

    From layer to layer the numbers go from one side to the other and back.
    """
    first, layers = 0, len(sizes) - 1
    for layer in range(layers):
        inputs, outputs = sizes[layer], sizes[layer + 1]
        before, after = sides[layer % 2], sides[(layer + 1) % 2]
        biases = first + inputs * outputs
        for output in range(outputs):
            after[output] = deep[biases + output]
        # Input by input, not output by output: the processor takes several outputs at once.
        for place in range(inputs):
            of_input = deep[first + place * outputs : first + (place + 1) * outputs]
            for output in range(outputs):
                after[output] += before[place] * of_input[output]
        for output in range(outputs if layer < layers - 1 else 0):
            if after[output] < 0:
                after[output] = 0
        first = biases + outputs
    return float(sides[layers % 2, 0])


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
