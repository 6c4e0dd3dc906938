"""The wide path: a logistic regression on hashed tokens, fitted to its exact optimum.

Steps of a gradient method that end early would trust rare tokens and frequent ones in
another way than the priors of :mod:`demand.features.tokens` say; the problem is convex,
so its optimum is taken instead.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.sparse import csr_matrix

from demand.features.columns import Floats
from demand.features.tokens import SparseAds

_ITERATIONS_MAX = 500  # 8,000 real ads need about 60
_TARGET_MIN = 1e-4  # a mean target of exactly 0 or 1 has no logit


@dataclass(frozen=True)
class Wide:
    """A fitted wide path.

    Parameters
    ----------
    table
        Weight of each bucket, shape (buckets,).
    bias
        The logit of an ad without tokens.
    """

    table: Floats
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
        least = np.argsort(np.abs(self.table) * np.sqrt(squares), kind="stable")[:-kept]
        table = self.table.copy()
        table[least] = 0.0
        return Wide(table, self.bias)


def fit_wide(ads: SparseAds, target: Floats, *, buckets: int, penalty: float) -> Wide:
    """Find the weights that are most likely after the data and before them.

    Minimised is the mean binary cross-entropy to the soft target plus
    ``penalty / 2n`` times the sum of squared weights, by L-BFGS (Liu and Nocedal, 1989).
    With unit prior variance, ``penalty`` is the dispersion of the target: 1 for
    outcomes of 0 and 1, less for shares.

    Parameters
    ----------
    ads
        n ads with their tokens scaled by the priors.
    target
        Deal probabilities, shape (n,), in [0, 1].
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
    mean = np.clip(target.mean(), _TARGET_MIN, 1.0 - _TARGET_MIN)
    start[0] = np.log(mean / (1.0 - mean))
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

    Parameters
    ----------
    fold
        Fold of each ad, shape (n,); a seller's ads lie in one.
    """
    logits = np.empty(len(target))
    for number in np.unique(fold):
        held = fold == number
        known = ~held if not held.all() else held
        wide = fit_wide(ads.take(known), target[known], buckets=buckets, penalty=penalty)
        logits[held] = wide.logits(ads.take(held))
    return logits
