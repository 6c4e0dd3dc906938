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
from typing import TYPE_CHECKING, Any
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
    hash_values,
    letters_table,
    user_types,
)
from demand.features.target_encoding import fit_price_levels, fit_target_means, out_of_fold
from demand.schema.arrays import Floats, Hashes
from demand.schema.columns import TARGET

if TYPE_CHECKING:
    import pandas as pd


Arrays = Mapping[str, NDArray[Any]]
_SALT = np.array(
    [crc32(group.name.lower().encode()) for group in kernels.TokenGroup], dtype=np.uint64
)
_SCALE = np.sqrt(np.array([group.prior for group in kernels.TokenGroup]))
# Stands in while target means are not yet known.
_KINDS = len(kernels.TARGET_GROUPS)
_NO_TABLE = np.empty(0, np.uint32), np.empty(0, np.float32)
_NO_MEANS = kernels.TargetMeans(*_NO_TABLE, 0.0, np.zeros(_KINDS), np.ones(_KINDS))


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
        cls, ads: AdColumns, target: Floats, settings: FeatureSettings, seed: int
    ) -> tuple[FeatureBuilder, Features]:
        """Fit on training ads and their targets, shape (n,); return their features out of fold."""
        numeric = encode_numeric(ads)
        chain = kernels.category_hashes(hash_texts(ads), numeric[kernels.IMAGE_CLASS]).mixed_chain
        arrays = fit_price_levels(kernels.log_prices(numeric), chain, settings.price_bins)
        builder, levels = cls(settings, arrays), _price_levels(arrays)
        # All texts are read twice, since those of a million ads do not fit into memory.
        measured, grams = [], np.zeros(kernels.RARITY_BUCKETS, dtype=np.int64)
        how = letters_table(), settings.word_letters, *levels
        for block in _shown(ads, passes_before=0):
            numbers, counts = kernels.measure(tuple(builder.encode(block)), how)
            measured.append(numbers)
            grams += counts
        arrays |= _fit_numbers(np.concatenate(measured, axis=1), settings.piecewise_bins)
        arrays["rarity"] = rarity_of(grams, ads.rows)
        fitted = tuple(fitted_state(settings, arrays))
        read = _shown(ads, passes_before=1)
        blocks = (_transformed(builder.encode(b), fitted, tuple(_NO_MEANS)) for b in read)
        parts, block_groups = zip(*blocks, strict=True)
        features, groups = Features.joined(parts), np.concatenate(block_groups, axis=1)
        fold = seller_folds(ads, settings.statistics_folds, seed)
        encoded = out_of_fold(groups, target, fold, settings.statistics_shrinkage)
        arrays |= fit_target_means(groups, target, settings.statistics_shrinkage)
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


def _shown(ads: AdColumns, *, passes_before: int) -> Iterator[AdColumns]:
    """Yield the blocks of ads that are read twice, and show how far the step that runs is."""
    from demand.progress import report  # with rich, which a model that only answers lacks

    done = passes_before * ads.rows
    for block in ads.blocks():
        yield block
        done += block.rows
        report(done, 2 * ads.rows)


def _transformed(
    ads: kernels.EncodedAds, fitted: tuple[Any, ...], targets: tuple[Any, ...]
) -> tuple[Features, Hashes]:
    """Return the features of n ads, and the groups of their target encoding."""
    row, bucket, weight, dense, groups = kernels.transform_block(tuple(ads), fitted, targets)
    return Features(SparseAds(len(dense), row, bucket, weight), dense), groups


def seller_folds(ads: AdColumns, folds: int, seed: int) -> NDArray[np.int64]:
    """Return the number of each ad's fold, shape (n,); all ads of a seller lie in one fold."""
    sellers = kernels.mix(hash_values(ads.text["user_id"]), seed)
    fold: NDArray[np.int64] = (sellers % np.uint64(folds)).astype(np.int64)
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
    buckets = settings.buckets
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
        _SCALE,
        np.uint64(buckets),
        np.uint64(buckets - 1 if buckets & (buckets - 1) == 0 else 0),
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


_PART = ("row", "bucket", "weight", "dense", "target")


@dataclass(frozen=True)
class Part:
    """Features of n ads, and their targets: deal probabilities, shape (n,)."""

    features: Features
    target: Floats

    def to_arrays(self, name: str) -> dict[str, NDArray[Any]]:
        """Return all arrays under names that begin with ``name``."""
        sparse = self.features.sparse
        arrays: tuple[NDArray[Any], ...] = (sparse.row, sparse.bucket, sparse.weight)
        arrays += (self.features.dense, self.target)
        return {f"{name}.{key}": array for key, array in zip(_PART, arrays, strict=True)}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]], name: str) -> Part:
        """Undo :meth:`to_arrays`."""
        row, bucket, weight, dense, target = (arrays[f"{name}.{key}"] for key in _PART)
        return cls(Features(SparseAds(len(target), row, bucket, weight), dense), target)


@dataclass(frozen=True)
class FeatureSet:
    """The arrays of a training run."""

    builder: FeatureBuilder  # fitted on the training part
    training: Part  # n ads; their target means are out of fold
    fold: NDArray[np.int64]  # of each training ad, shape (n,); a seller's ads lie in one
    validation: Part | None  # ads of other sellers; None where all ads are learnt from

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """Return all arrays by name; with the builder's settings they are all there is."""
        arrays = {f"builder.{name}": array for name, array in self.builder.arrays.items()}
        arrays |= self.training.to_arrays("training") | {"fold": self.fold}
        if self.validation is not None:
            arrays |= self.validation.to_arrays("validation")
        return {name: np.ascontiguousarray(array) for name, array in arrays.items()}

    @classmethod
    def from_arrays(
        cls, settings: FeatureSettings, arrays: Mapping[str, NDArray[Any]]
    ) -> FeatureSet:
        """Undo :meth:`to_arrays`."""
        prefix = "builder."
        fitted = {k.removeprefix(prefix): v for k, v in arrays.items() if k.startswith(prefix)}
        held = "validation.target" in arrays
        return cls(
            FeatureBuilder(settings, fitted),
            Part.from_arrays(arrays, "training"),
            arrays["fold"],
            Part.from_arrays(arrays, "validation") if held else None,
        )


def build_features(
    training_ads: pd.DataFrame,
    validation_ads: pd.DataFrame | None,
    settings: FeatureSettings,
    seed: int,
) -> FeatureSet:
    """Fit the features on the training ads and apply them to the validation ads.

    Both are typed ads with their target, without a common seller; there are no validation ads
    where the number of epochs is known.
    """
    columns = AdColumns.from_frame(training_ads)
    target = _target(training_ads)
    builder, features = FeatureBuilder.fit(columns, target, settings, seed)
    fold = seller_folds(columns, settings.statistics_folds, seed)
    validation = None
    if validation_ads is not None:
        held = builder.transform(AdColumns.from_frame(validation_ads))
        validation = Part(held, _target(validation_ads))
    return FeatureSet(builder, Part(features, target), fold, validation)


def _target(ads: pd.DataFrame) -> Floats:
    return ads[TARGET].to_numpy(dtype=np.float64)
