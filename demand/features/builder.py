"""From ads to arrays: fitted once on training ads, saved with the model.

The dense part holds lengths, counts, the price and its relation to the price level of
the category, and smoothed target means down the chain parent → category → param_1 →
param_2 → param_3. In training those means are out of fold by seller, so that no ad and
no seller sees its own outcome.

The sparse part is groups of tokens, hashed into signed and weighted buckets. Every group (the
category, the words of the title, …) comes with the prior variance that the logit is expected to
owe to it. Its tokens are scaled by the square root of that variance and, within an ad, to unit
length; so one penalty on the squares of all weights means another trust in each group: a
Gaussian process with one linear kernel a group.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol
from zlib import crc32

import numpy as np
from numpy.typing import DTypeLike, NDArray

from demand.config import FeatureSettings
from demand.features import kernels
from demand.features.encoding import (
    AdColumns,
    encode_ads,
    encode_numeric,
    hash_texts,
    letters_table,
    user_types,
)
from demand.features.target_encoding import fit_price_levels, fit_target_means, out_of_fold
from demand.schema.arrays import Floats, Hashes
from demand.schema.columns import PARAMS

Arrays = Mapping[str, NDArray[Any]]
_GROUPS = (*kernels.TokenGroup, *kernels.CrossGroup)
_SALT = np.array([crc32(group.name.lower().encode()) for group in _GROUPS], dtype=np.uint64)
_SCALE = np.sqrt([group.prior for group in kernels.TokenGroup] + [0.0] * len(kernels.CrossGroup))
# With crosses each group has the same say, since an adaptive step finds what it is worth; what
# cuts texts finer than words is left out.
_CROSSED_SCALE = np.ones(len(_GROUPS))
_CROSSED_SCALE[
    [
        kernels.TokenGroup.TITLE_GRAMS,
        kernels.TokenGroup.DESCRIPTION_GRAMS,
        kernels.TokenGroup.DESCRIPTION_WORDS_USER_TYPE,
    ]
] = 0.0
# What prices and their levels are read from.
_PRICE_COLUMNS = ("parent_category_name", "category_name", *PARAMS, "price")
# Stands in while target means are not yet known.
_KINDS = len(kernels.TARGET_GROUPS)
_NO_TABLE = np.empty(0, np.uint32), np.empty(0, np.float32)
_NO_MEANS = kernels.TargetMeans(*_NO_TABLE, 0.0, np.zeros(_KINDS), np.ones(_KINDS))


class LabelledAds(Protocol):
    """What is learnt from: :class:`demand.features.training_ads.TrainingAds`.

    Of n ads; it is named here by what it can, since an answer needs none of its imports.
    """

    @property
    def rows(self) -> int:
        """Number of ads, n."""

    @property
    def target(self) -> Floats:
        """Deal probabilities, shape (n,)."""

    def blocks(self, columns: Sequence[str] | None = None) -> Iterator[AdColumns]:
        """Yield all ads in their order."""


@dataclass(frozen=True)
class SparseAds:
    """Weighted buckets of n ads, in any order: int32, since a million ads have 300 million."""

    rows: int  # number of ads, n
    row: NDArray[np.int32]  # ad of each token, shape (m,)
    bucket: NDArray[np.int32]
    weight: NDArray[np.float32]  # signed

    def sums(self, values: Floats) -> Floats:
        """Return the sum of weight times its bucket's value of each ad, shape (n,)."""
        products = values[self.bucket] * self.weight
        return np.bincount(self.row, products, self.rows).astype(np.float64, copy=False)

    @classmethod
    def joined(cls, parts: Sequence[SparseAds]) -> SparseAds:
        """Return the ads of all parts, one part after the other."""
        first = np.cumsum([0, *(part.rows for part in parts)])
        return cls(
            int(first[-1]),
            np.concatenate([part.row + np.int32(n) for part, n in zip(parts, first, strict=False)]),
            np.concatenate([part.bucket for part in parts]),
            np.concatenate([part.weight for part in parts]),
        )

    def take(self, chosen: NDArray[np.bool_]) -> SparseAds:
        """Return the ads of a mask of shape (n,), in their order."""
        number = np.cumsum(chosen) - 1
        kept = chosen[self.row]
        row = number[self.row[kept]].astype(np.int32)
        return SparseAds(int(chosen.sum()), row, self.bucket[kept], self.weight[kept])


@dataclass(frozen=True)
class Features:
    """Arrays of n ads: hashed tokens, and dense numbers of shape (n, d), float32."""

    sparse: SparseAds
    dense: NDArray[np.float32]

    def without_tokens(self) -> Features:
        """Return the dense features alone; the tokens' memory is not held."""
        none = np.empty(0, np.int32)
        return Features(
            SparseAds(self.sparse.rows, none, none, none.astype(np.float32)), self.dense
        )

    @classmethod
    def joined(cls, parts: Sequence[Features]) -> Features:
        """Return the features of some ads and then of others."""
        if len(parts) == 1:
            return parts[0]
        return cls(
            SparseAds.joined([part.sparse for part in parts]),
            np.concatenate([part.dense for part in parts]),
        )


@dataclass(frozen=True)
class FeatureBuilder:
    """The fitted transformation; ``arrays`` is all of its state: plain numpy by name."""

    settings: FeatureSettings
    arrays: dict[str, NDArray[Any]]

    @classmethod
    def fit(
        cls, ads: LabelledAds, fold: NDArray[np.int64], settings: FeatureSettings
    ) -> tuple[FeatureBuilder, Features]:
        """Fit on training ads; return their features, with target means out of ``fold``, (n,).

        With crosses there are no tokens among them: those of a million ads take gigabytes, and
        are needed once.
        """
        # All ads are read three times, since a million do not fit into memory.
        logs, chains = [], []
        for block in _shown(ads, 0, _PRICE_COLUMNS):
            numeric = encode_numeric(block)
            image_class = numeric[kernels.IMAGE_CLASS]
            logs.append(kernels.log_prices(numeric))
            chains.append(kernels.category_hashes(hash_texts(block), image_class).mixed_chain)
        levels = np.concatenate(logs), np.concatenate(chains, axis=1)
        arrays = fit_price_levels(*levels, settings.price_bins)
        builder = cls(settings, arrays)
        measured, grams = [], np.zeros(kernels.RARITY_BUCKETS, dtype=np.int64)
        how = letters_table(), settings.word_letters, *_price_levels(arrays)
        for block in _shown(ads, 1):
            read = tuple(builder.encode(block))
            numbers, counts = kernels.measure(read, how, not settings.crosses)
            measured.append(numbers)
            grams += counts
        arrays |= _fit_numbers(np.concatenate(measured, axis=1), settings.piecewise_bins)
        arrays["rarity"] = rarity_of(grams, ads.rows)
        fitted = tuple(fitted_state(settings, arrays))
        parts, block_groups = [], []
        for block in _shown(ads, 2):
            found, of_block = _transformed(builder.encode(block), fitted, tuple(_NO_MEANS))
            parts.append(found.without_tokens() if settings.crosses else found)
            block_groups.append(of_block)
        features, groups = Features.joined(parts), np.concatenate(block_groups, axis=1)
        encoded = out_of_fold(groups, ads.target, fold, settings.statistics_shrinkage)
        arrays |= fit_target_means(groups, ads.target, settings.statistics_shrinkage)
        arrays["center"] = encoded.mean(axis=1)
        arrays["scale"] = encoded.std(axis=1) + 1e-6
        last = features.dense[:, features.dense.shape[1] - len(encoded) :]
        kernels.write_scaled(last, encoded, arrays["center"], arrays["scale"])
        return builder, features

    def transform(self, ads: AdColumns) -> Features:
        """Turn any ads into features; unknown values fall back to the level above."""
        return Features.joined([self.transform_block(self.encode(each)) for each in ads.blocks()])

    def encode(self, ads: AdColumns) -> kernels.EncodedAds:
        """Turn ads into the arrays that :meth:`transform_block` takes."""
        return encode_ads(ads, self.settings.description_letters_max)

    def transform_block(self, ads: kernels.EncodedAds) -> Features:
        """Turn the arrays of n ads, of one block, into features."""
        return _transformed(ads, *self._state)[0]

    @property
    def width(self) -> int:
        """Number of dense features, d."""
        return kernels.dense_width(len(self.arrays["numbers.low"]), len(user_types()))

    @cached_property
    def _state(self) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
        return tuple(fitted_state(self.settings, self.arrays)), tuple(target_means(self.arrays))


def _shown(
    ads: LabelledAds, passes_before: int, columns: Sequence[str] | None = None
) -> Iterator[AdColumns]:
    """Yield the blocks of ads that are read three times, and show how far the step is."""
    from demand.progress import report  # with rich, which a model that only answers lacks

    done = passes_before * ads.rows
    for block in ads.blocks(columns):
        yield block
        done += block.rows
        report(done, 3 * ads.rows)


def _transformed(
    ads: kernels.EncodedAds, fitted: tuple[Any, ...], targets: tuple[Any, ...]
) -> tuple[Features, Hashes]:
    """Return the features of n ads, and the groups of their target encoding."""
    row, bucket, weight, dense, groups = kernels.transform_block(tuple(ads), fitted, targets)
    return Features(SparseAds(len(dense), row, bucket, weight), dense), groups


def seller_folds(sellers: Hashes, folds: int, seed: int) -> NDArray[np.int64]:
    """Return the number of each ad's fold by the hashes of their sellers; both of shape (n,)."""
    fold: NDArray[np.int64] = (kernels.mix(sellers, seed) % np.uint64(folds)).astype(np.int64)
    return fold


def rarity_of(counts: NDArray[np.int64], rows: int) -> NDArray[np.uint8]:
    """Return how rare the n-grams of each bucket are, shape (``RARITY_BUCKETS``,).

    The inverse document frequency, 1 + log((1 + ads) / (1 + ads with it)), rounded to
    ``RARITY_STEP`` (Spärck Jones, *Journal of Documentation* 1972).
    """
    rarity = 1.0 + np.log((1.0 + rows) / (1.0 + np.minimum(counts, rows)))
    steps = np.minimum(np.rint(rarity / kernels.RARITY_STEP), 255)
    rounded: NDArray[np.uint8] = steps.astype(np.uint8)
    return rounded


def _fit_numbers(numbers: Floats, bins: int) -> dict[str, NDArray[Any]]:
    """Learn mean, deviation and the edges of the piecewise-linear encoding, at quantiles."""
    low, high, which = [], [], []
    for row, values in enumerate(numbers):
        edges = np.unique(np.quantile(values, np.linspace(0, 1, bins + 1)))
        if len(edges) == 1:
            edges = np.append(edges, edges[0] + 1.0)
        low.append(edges[:-1])
        high.append(edges[1:])
        which.append(np.full(len(edges) - 1, row))
    return {
        "numbers.low": np.concatenate(low),
        "numbers.width": np.concatenate(high) - np.concatenate(low),
        "numbers.which": np.concatenate(which),
        "numbers.center": numbers.mean(axis=1),
        "numbers.scale": numbers.std(axis=1) + 1e-6,
    }


def fitted_state(settings: FeatureSettings, arrays: Arrays) -> kernels.FittedState:
    """Take what was learned before target means.

    Tokens are hashed into signed buckets (Weinberger et al., *Feature hashing for large scale
    multitask learning*, ICML 2009).

    Raises
    ------
    LookupError, ValueError
        Arrays are missing, or do not fit together.
    """
    low = _array(arrays, "numbers.low", np.float64)
    which = _array(arrays, "numbers.which", np.int64, len(low))
    if not ((which >= 0) & (which < kernels.DENSE_NUMBERS)).all():
        raise ValueError(f"numbers.which lies outside [0, {kernels.DENSE_NUMBERS})")
    crosses, buckets = bool(settings.crosses), settings.table_size
    return kernels.FittedState(
        letters_table(),
        settings.word_letters,
        *_price_levels(arrays),
        _array(arrays, "price_bins", np.float64),
        low,
        _array(arrays, "numbers.width", np.float64, len(low)),
        which,
        _array(arrays, "numbers.center", np.float64, kernels.DENSE_NUMBERS),
        _array(arrays, "numbers.scale", np.float64, kernels.DENSE_NUMBERS),
        _array(arrays, "rarity", np.uint8, kernels.RARITY_BUCKETS),
        user_types(),
        _SALT,
        _CROSSED_SCALE if crosses else _SCALE,
        np.uint64(buckets),
        np.uint64(buckets - 1 if buckets & (buckets - 1) == 0 else 0),
        crosses,
    )


def target_means(arrays: Arrays) -> kernels.TargetMeans:
    """Take the target means; as :func:`fitted_state`."""
    keys = _array(arrays, "target.keys", np.uint32)
    return kernels.TargetMeans(
        keys,
        _array(arrays, "target.means", np.float32, len(keys)),
        float(_array(arrays, "overall", np.float64, 1)[0]),
        _array(arrays, "center", np.float64, _KINDS),
        _array(arrays, "scale", np.float64, _KINDS),
    )


def _price_levels(arrays: Arrays) -> tuple[NDArray[np.uint32], NDArray[np.float32], float]:
    keys = _array(arrays, "price.keys", np.uint32)
    means = _array(arrays, "price.means", np.float32, len(keys))
    return keys, means, float(_array(arrays, "price_overall", np.float64, 1)[0])


def _array(arrays: Arrays, name: str, dtype: DTypeLike, length: int | None = None) -> NDArray[Any]:
    """Demand the shape (length,) of an array."""
    array = np.array(arrays[name], dtype)  # a copy: compiled code differs for one that is read-only
    if array.ndim != 1 or length not in (None, len(array)):
        raise ValueError(f"{name} has the shape {array.shape}, not ({length or 'rows'},)")
    return array
