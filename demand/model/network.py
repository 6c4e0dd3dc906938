"""The network: a wide path of hashed tokens, and beside it a deep one of numbers.

The wide path is a logistic regression, fitted to its exact optimum. Steps of a gradient method
that end early would trust rare tokens and frequent ones in another way than the priors of
:class:`demand.features.kernels.TokenGroup` say; the problem is convex, so its optimum is taken
instead.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.sparse import csr_matrix
from torch import Tensor, nn

from demand.features.builder import SparseAds
from demand.schema.arrays import Floats

_ITERATIONS_MAX = 500  # 8,000 real ads need about 60
_TARGET_MIN = 1e-4  # a mean target of exactly 0 or 1 has no logit


@dataclass(frozen=True)
class Wide:
    """A fitted wide path: weights of buckets, and the logit of an ad without tokens."""

    table: Floats  # shape (buckets,)
    bias: float

    def logits(self, ads: SparseAds) -> Floats:
        """Return the logit of each ad, shape (n,)."""
        return self.bias + ads.sums(self.table)

    def pruned(self, ads: SparseAds, kept: int) -> Wide:
        """Keep the weights that say most; the others become zero.

        What a weight says is the root mean square of its share in the logits of ``ads``,
        those that it was fitted to. Real ads have eight times as many n-grams as are
        worth a weight, and without them there is room for the rest in buckets of their own.
        """
        squares = np.bincount(ads.bucket, ads.weight.astype(np.float64) ** 2, len(self.table))
        return self.best(np.abs(self.table) * np.sqrt(squares), kept)

    def best(self, said: Floats, kept: int) -> Wide:
        """Keep the weights that say most, shape (buckets,); the others become zero."""
        table = self.table.copy()
        table[np.argsort(said, kind="stable")[:-kept]] = 0.0
        return Wide(table, self.bias)


def logit_of_mean(target: Floats) -> float:
    """Return the logit of a mean deal probability, also where it is exactly 0 or 1."""
    mean = np.clip(target.mean(), _TARGET_MIN, 1.0 - _TARGET_MIN)
    return float(np.log(mean / (1.0 - mean)))


def fit_wide(ads: SparseAds, target: Floats, *, buckets: int, penalty: float) -> Wide:
    """Fit a logistic regression on soft targets by maximum a posteriori estimation.

    Minimised is the mean binary cross-entropy to the target plus ``penalty / 2n`` times the
    sum of squared weights, by L-BFGS (Liu and Nocedal, 1989). With unit prior variance,
    ``penalty`` is the dispersion of the target: 1 for outcomes of 0 and 1, less for shares.
    The tokens of the n ads are scaled by the priors; ``target`` are deal probabilities, (n,).
    """
    n = len(target)
    # Most buckets are empty, and their weights zero.
    seen = np.zeros(buckets, dtype=bool)
    seen[ads.bucket] = True
    column = (np.cumsum(seen, dtype=np.int32) - 1)[ads.bucket]
    shape = n, int(seen.sum())
    tokens = csr_matrix((ads.weight.astype(np.float64), (ads.row, column)), shape)
    transposed = tokens.T

    def loss(point: Floats) -> tuple[float, Floats]:
        logit = tokens @ point[1:] + point[0]
        error = 0.5 * (1.0 + np.tanh(0.5 * logit)) - target
        likelihood = np.mean(np.logaddexp(0.0, logit) - target * logit)
        value = likelihood + penalty / (2 * n) * (point[1:] @ point[1:])
        slope = np.concatenate([[error.mean()], transposed @ error / n + penalty / n * point[1:]])
        return float(value), slope

    start = np.zeros(shape[1] + 1)
    start[0] = logit_of_mean(target)
    found = minimize(loss, start, jac=True, method="L-BFGS-B", options={"maxiter": _ITERATIONS_MAX})
    table = np.zeros(buckets)
    table[seen] = found.x[1:]
    return Wide(table, float(found.x[0]))


def cross_fitted_logits(
    ads: SparseAds, target: Floats, fold: NDArray[np.int64], *, buckets: int, penalty: float
) -> Floats:
    """Return for each ad the logit of a wide path that has not seen its seller, shape (n,).

    What is trained beside the wide path must see its mistakes as they are on new ads. Where
    there is one fold, nobody else's ads are left to learn from, and they are its own.
    ``fold`` is that of each ad, shape (n,); a seller's ads lie in one.
    """
    logits = np.empty(len(target))
    for number in np.unique(fold):
        held = fold == number
        known = ~held if not held.all() else held
        wide = fit_wide(ads.take(known), target[known], buckets=buckets, penalty=penalty)
        logits[held] = wide.logits(ads.take(held))
    return logits


class DemandNetwork(nn.Module):
    """The deep path of a wide-and-deep MLP (Cheng et al., DLRS 2016).

    The wide path, a weight for each hashed token, is fitted beforehand by
    :func:`fit_wide`; the deep one learns what has to be added to its logit, and begins
    by adding nothing. Of ``width`` dense features, with hidden layers of these sizes, of which
    the share ``dropout`` is silenced in training.

    Shape
    -----
    Input: ``dense`` (n, width), ``wide`` (n,), the wide path's logits.
    Output: logits (n,).

    Examples
    --------
    >>> network = DemandNetwork(2, hidden=[4], dropout=0.0)
    >>> network(torch.zeros(3, 2), torch.zeros(3)).shape
    torch.Size([3])
    """

    def __init__(self, width: int, *, hidden: list[int], dropout: float) -> None:
        super().__init__()
        sizes = [width, *hidden, 1]
        layers = [nn.Linear(a, b) for a, b in pairwise(sizes)]
        nn.init.zeros_(layers[-1].weight)
        nn.init.zeros_(layers[-1].bias)
        self.deep = nn.ModuleList(layers)
        self.dropout = nn.Dropout(dropout)

    def forward(self, dense: Tensor, wide: Tensor) -> Tensor:
        """Return logits, shape (n,)."""
        x = dense
        for number, layer in enumerate(self.deep):
            x = layer(self.dropout(torch.relu(x)) if number else x)
        return wide + x[:, 0]
