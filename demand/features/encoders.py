"""Encoders: each is fitted on training ads, and its state is arrays that are saved with a model.

They transform what ads are read into, some block at a time. An answer needs all of them in one
compiled call, :func:`demand.features.kernels.transform_block`, which takes their states and does
the same; a test holds them together.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import DTypeLike, NDArray

from demand.features import kernels
from demand.features.encoding import letters_table, user_types
from demand.features.kernels import LEVEL_ABOVE, TARGET_ABOVE, smoothed_means
from demand.schema.arrays import Floats, Hashes, Rows

Arrays = Mapping[str, NDArray[Any]]
Masks = NDArray[np.bool_]
COUNT_MIN = 2  # rows of a group that has a mean of its own
_PRICE_SHRINKAGE = 5.0  # rows; price levels settle faster than outcomes
_KINDS = len(kernels.TARGET_GROUPS)


class CategoryEncoder(NamedTuple):
    """Categories, params, places, sellers and images as hashes; nothing of them is learnt."""

    user_types: Hashes  # of each known type of seller, shape (types,)

    @classmethod
    def fit(cls) -> Self:
        """Take the known values from the published figures."""
        return cls(user_types())

    def transform(self, hashes: Hashes, image_class: Floats) -> kernels.CategoryHashes:
        """Join hashes of texts, shape (8, n), down the chain of category and params."""
        return kernels.category_hashes(hashes, image_class)


class PriceEncoder(NamedTuple):
    """What a price is usual where: smoothed means of its logarithm down the chain, and bins."""

    keys: NDArray[np.uint32]  # as of :func:`fit_means`, shape (g,)
    means: NDArray[np.float32]
    overall: float  # median of all
    bins: Floats  # inner edges of bins of equal count

    @classmethod
    def fit(cls, logs: Floats, mixed_chain: Hashes, bins: int) -> Self:
        """Learn from log(1 + roubles), shape (n,), NaN where missing, and chains, shape (5, n)."""
        known = np.flatnonzero(np.isfinite(logs))
        log_price = logs[known]
        overall = float(np.median(log_price)) if len(known) else 0.0
        inner = np.linspace(0, 1, bins + 1)[1:-1]
        groups = mixed_chain[:, known]
        keys, means = fit_means(groups, log_price, LEVEL_ABOVE, overall, _PRICE_SHRINKAGE)
        return cls(
            keys, means, overall, np.quantile(log_price, inner) if len(known) else np.zeros(1)
        )

    def transform(self, mixed_chain: Hashes) -> Floats:
        """Return the usual log price at each level of the chain, shape (5, n)."""
        return smoothed_means(self.keys, self.means, mixed_chain, LEVEL_ABOVE, self.overall)

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """Return the state by name."""
        told = {"price_bins": self.bins, "price_overall": np.array([self.overall])}
        return told | {"price.keys": self.keys, "price.means": self.means}

    @classmethod
    def from_arrays(cls, arrays: Arrays) -> Self:
        """Undo :meth:`to_arrays`; LookupError, ValueError: missing, or of another shape."""
        keys = _array(arrays, "price.keys", np.uint32)
        means = _array(arrays, "price.means", np.float32, len(keys))
        overall = float(_array(arrays, "price_overall", np.float64, 1)[0])
        return cls(keys, means, overall, _array(arrays, "price_bins", np.float64))


class TextEncoder(NamedTuple):
    """Words and n-grams of letters, and how rare these are."""

    rarity: NDArray[np.uint8]  # of the n-grams of each bucket, shape (``RARITY_BUCKETS``,)

    @classmethod
    def fit(cls, counts: NDArray[np.int64], rows: int) -> Self:
        """Learn from the number of texts with n-grams of each bucket, and that of ads.

        The inverse document frequency, 1 + log((1 + ads) / (1 + ads with it)), rounded to
        ``RARITY_STEP`` (Spärck Jones, *Journal of Documentation* 1972).
        """
        rarity = 1.0 + np.log((1.0 + rows) / (1.0 + np.minimum(counts, rows)))
        return cls(np.minimum(np.rint(rarity / kernels.RARITY_STEP), 255).astype(np.uint8))

    @staticmethod
    def transform(ads: kernels.EncodedAds, stem: int, with_grams: bool) -> kernels.Texts:
        """Read the words of n ads, of each the first ``stem`` letters, and the n-grams."""
        return kernels.read_texts(ads, letters_table(), stem, with_grams)

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """Return the state by name."""
        return {"rarity": self.rarity}

    @classmethod
    def from_arrays(cls, arrays: Arrays) -> Self:
        """Undo :meth:`to_arrays`; LookupError, ValueError: missing, or of another shape."""
        return cls(_array(arrays, "rarity", np.uint8, kernels.RARITY_BUCKETS))


class NumberEncoder(NamedTuple):
    """Numbers as standard deviations, and by how far they have come through bins.

    (Gorishniy et al., *On embeddings for numerical features*, NeurIPS 2022.)
    """

    low: Floats  # lower edge of each bin, shape (bins,)
    width: Floats
    which: NDArray[np.int64]  # the number that each bin belongs to
    center: Floats  # mean of each number, shape (6,)
    scale: Floats  # and its standard deviation

    @classmethod
    def fit(cls, numbers: Floats, bins: int) -> Self:
        """Learn from numbers without NaN, shape (6, n); the edges of bins are their quantiles."""
        low, high, which = [], [], []
        for row, values in enumerate(numbers):
            edges = np.unique(np.quantile(values, np.linspace(0, 1, bins + 1)))
            if len(edges) == 1:
                edges = np.append(edges, edges[0] + 1.0)
            low.append(edges[:-1])
            high.append(edges[1:])
            which.append(np.full(len(edges) - 1, row))
        lower = np.concatenate(low)
        spread = numbers.mean(axis=1), numbers.std(axis=1) + 1e-6
        return cls(lower, np.concatenate(high) - lower, np.concatenate(which), *spread)

    def transform(self, numbers: Floats) -> NDArray[np.float32]:
        """Return shares of bins and standard deviations, shape (n, bins + 6)."""
        dense = np.empty((numbers.shape[1], len(self.low) + len(self.center)), np.float32)
        kernels.write_numbers(dense, numbers, *self)
        return dense

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """Return the state by name."""
        return {f"numbers.{name}": array for name, array in self._asdict().items()}

    @classmethod
    def from_arrays(cls, arrays: Arrays) -> Self:
        """Undo :meth:`to_arrays`; LookupError, ValueError: missing, or do not fit together."""
        low = _array(arrays, "numbers.low", np.float64)
        which = _array(arrays, "numbers.which", np.int64, len(low))
        if not ((which >= 0) & (which < kernels.DENSE_NUMBERS)).all():
            raise ValueError(f"numbers.which lies outside [0, {kernels.DENSE_NUMBERS})")
        return cls(
            low,
            _array(arrays, "numbers.width", np.float64, len(low)),
            which,
            _array(arrays, "numbers.center", np.float64, kernels.DENSE_NUMBERS),
            _array(arrays, "numbers.scale", np.float64, kernels.DENSE_NUMBERS),
        )


class TargetMeanEncoder(NamedTuple):
    """Smoothed mean target of each of ``TARGET_GROUPS`` that an ad lies in."""

    keys: NDArray[np.uint32]  # as of :func:`fit_means`, shape (g,)
    means: NDArray[np.float32]
    overall: float  # mean of all ads
    center: Floats  # mean of each kind of group among training ads, shape (s,)
    scale: Floats  # and its standard deviation

    @classmethod
    def fit_transform(
        cls, groups: Hashes, target: Floats, fold: NDArray[np.int64], shrinkage: float
    ) -> tuple[Self, NDArray[np.float32]]:
        """Learn from groups, shape (s, n), and targets, (n,); return the features of these ads.

        For these the means are out of fold, (n,): nobody in an ad's fold has a say in its own.
        """
        overall = float(target.mean())
        keys, means = fit_means(groups, target, TARGET_ABOVE, overall, shrinkage)
        encoded = out_of_fold(groups, target, fold, shrinkage)
        fitted = cls(keys, means, overall, encoded.mean(axis=1), encoded.std(axis=1) + 1e-6)
        return fitted, fitted.scaled(encoded)

    def scaled(self, encoded: Floats) -> NDArray[np.float32]:
        """Return means, shape (s, n), as bounded standard deviations, shape (n, s)."""
        dense = np.empty(encoded.shape[::-1], np.float32)
        kernels.write_scaled(dense, encoded, self.center, self.scale)
        return dense

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """Return the state by name."""
        told = {"overall": np.array([self.overall]), "center": self.center, "scale": self.scale}
        return told | {"target.keys": self.keys, "target.means": self.means}

    @classmethod
    def from_arrays(cls, arrays: Arrays) -> Self:
        """Undo :meth:`to_arrays`; LookupError, ValueError: missing, or of another shape."""
        keys = _array(arrays, "target.keys", np.uint32)
        return cls(
            keys,
            _array(arrays, "target.means", np.float32, len(keys)),
            float(_array(arrays, "overall", np.float64, 1)[0]),
            _array(arrays, "center", np.float64, _KINDS),
            _array(arrays, "scale", np.float64, _KINDS),
        )


def fit_means(
    groups: Hashes, values: Floats, above: NDArray[np.int64], overall: float, shrinkage: float
) -> tuple[NDArray[np.uint32], NDArray[np.float32]]:
    """Estimate the mean value of each group, kind of groups after kind.

    The estimate is (sum of values + shrinkage · mean above) / (count + shrinkage),
    the posterior mean under a normal prior centred on the group above
    (Micci-Barreca, SIGKDD Explorations 2001). Groups of fewer than ``COUNT_MIN`` rows are left
    to the one above.

    Takes the groups of n rows, well mixed hashes that differ between the s kinds, shape (s, n);
    values without NaN, shape (n,); ``above`` and ``overall`` as in
    :func:`demand.features.kernels.smoothed_means`; and the weight of the level above, in rows.
    Returns that function's keys and means of the g groups that are kept, each of shape (g,).
    """
    kinds = [_Groups.of(group) for group in groups]
    found = list(_estimates(kinds, values, slice(None), above, overall, shrinkage))
    joined = np.concatenate([of.key[kept] for of, (_, _, kept) in zip(kinds, found, strict=True)])
    means = np.concatenate([smoothed[kept] for _, smoothed, kept in found])
    order = np.argsort(joined, kind="stable")
    return joined[order], means[order]


def out_of_fold(
    groups: Hashes, target: Floats, fold: NDArray[np.int64], shrinkage: float
) -> Floats:
    """Return mean targets of groups, shape (s, n), that none of an ad's fold have a say in.

    As :func:`fit_means` has them for the ads of all other folds.
    """
    # Where all ads fall into one fold, nobody else's outcomes are left to learn from.
    encoded = np.full(groups.shape, target.mean())
    kinds = [_Groups.of(group) for group in groups]
    for number in np.unique(fold):
        held, others = np.flatnonzero(fold == number), np.flatnonzero(fold != number)
        if len(others):
            overall = float(target[others].mean())
            found = _estimates(kinds, target, others, TARGET_ABOVE, overall, shrinkage)
            for kind, (estimate, _, _) in enumerate(found):
                encoded[kind, held] = estimate[held]
    return encoded


class _Groups(NamedTuple):
    """The g groups of one kind among n rows; found by a sort, which serves all folds."""

    key: NDArray[np.uint32]  # sorted, shape (g,)
    member: NDArray[np.int32]  # which group each row lies in, shape (n,)

    @classmethod
    def of(cls, group: Hashes) -> Self:
        # The upper 32 bits: half the size, collisions at 1 in 4 billion.
        short = (group >> np.uint64(32)).astype(np.uint32)
        key, member = np.unique(short, return_inverse=True)
        return cls(key, member.astype(np.int32))


def _estimates(
    kinds: Sequence[_Groups],
    values: Floats,
    learnt: Rows | slice,
    above: NDArray[np.int64],
    overall: float,
    shrinkage: float,
) -> Iterator[tuple[Floats, NDArray[np.float32], Masks]]:
    """Yield of each kind the estimates of all rows, (n,), and means and which are kept, (g,)."""
    estimates: list[Floats] = []
    for of, fallback in zip(kinds, above, strict=True):
        prior = estimates[fallback] if fallback >= 0 else np.full(len(values), overall)
        member, size = of.member[learnt], len(of.key)
        counts = np.bincount(member, minlength=size)
        mean_above = np.bincount(member, prior[learnt], size) / np.maximum(counts, 1)
        sums = np.bincount(member, values[learnt], size)
        smoothed = ((sums + shrinkage * mean_above) / (counts + shrinkage)).astype(np.float32)
        kept = counts >= COUNT_MIN
        estimates.append(np.where(kept[of.member], smoothed[of.member], prior))
        yield estimates[-1], smoothed, kept


def _array(arrays: Arrays, name: str, dtype: DTypeLike, length: int | None = None) -> NDArray[Any]:
    """Demand the shape (length,) of an array."""
    array = np.array(arrays[name], dtype)  # a copy: compiled code differs for one that is read-only
    if array.ndim != 1 or length not in (None, len(array)):
        raise ValueError(f"{name} has the shape {array.shape}, not ({length or 'rows'},)")
    return array
