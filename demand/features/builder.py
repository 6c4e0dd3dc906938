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

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from demand.config import FeatureSettings
from demand.features import kernels
from demand.features.encoders import (
    Arrays,
    CategoryEncoder,
    NumberEncoder,
    PriceEncoder,
    TargetMeanEncoder,
    TextEncoder,
)
from demand.features.encoding import (
    AdColumns,
    encode_ads,
    encode_numeric,
    hash_texts,
    letters_table,
    user_types,
)
from demand.schema.arrays import Floats, Hashes
from demand.schema.columns import PARAMS

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
    def without_tokens(cls, rows: int) -> SparseAds:
        """Return so many ads without any."""
        none = np.empty(0, np.int32)
        return cls(rows, none, none, none.astype(np.float32))

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
        cls, ads: LabelledAds, fold: NDArray[np.int64], settings: FeatureSettings
    ) -> tuple[FeatureBuilder, Features]:
        """Fit on training ads; return their features, with target means out of ``fold``, (n,).

        With crosses there are no tokens among them: those of a million ads take gigabytes, and
        are needed once.
        """
        # All ads are read three times, or twice, since a million do not fit into memory.
        passes = 2 if settings.crosses else 3
        categories = CategoryEncoder.fit()
        logs, chains = [], []
        for block in _shown(ads, 0, passes, _PRICE_COLUMNS):
            numeric = encode_numeric(block)
            hashed = categories.transform(hash_texts(block), numeric[kernels.IMAGE_CLASS])
            logs.append(kernels.log_prices(numeric))
            chains.append(hashed.mixed_chain)
        levels = np.concatenate(logs), np.concatenate(chains, axis=1)
        prices = PriceEncoder.fit(*levels, settings.price_bins)
        measured = []
        grams = np.zeros(kernels.RARITY_BUCKETS, dtype=np.int64)
        for block in _shown(ads, 1, passes):
            read = _read(encode_ads(block, settings.description_letters_max), settings, prices)
            *found, counts = kernels.measure(read, prices.bins, categories.user_types)
            measured.append(found)
            grams += counts
        all_numbers, binary, groups = zip(*measured, strict=True)
        values = np.concatenate(all_numbers, axis=1)
        numbers = NumberEncoder.fit(values, settings.piecewise_bins)
        texts = TextEncoder.fit(grams, ads.rows)
        targets, encoded = TargetMeanEncoder.fit_transform(
            np.concatenate(groups, axis=1), ads.target, fold, settings.statistics_shrinkage
        )
        arrays = prices.to_arrays() | numbers.to_arrays() | texts.to_arrays() | targets.to_arrays()
        builder = cls(settings, arrays)
        dense = np.hstack([numbers.transform(values), np.concatenate(binary), encoded])
        if settings.crosses:
            return builder, Features(SparseAds.without_tokens(ads.rows), dense)
        tokens = [builder.transform(block).sparse for block in _shown(ads, 2, passes)]
        return builder, Features(SparseAds.joined(tokens), dense)

    def transform(self, ads: AdColumns) -> Features:
        """Turn any ads into features; unknown values fall back to the level above."""
        return Features.joined([self.transform_block(self.encode(each)) for each in ads.blocks()])

    def encode(self, ads: AdColumns) -> kernels.EncodedAds:
        """Turn ads into the arrays that :meth:`transform_block` takes."""
        return encode_ads(ads, self.settings.description_letters_max)

    def transform_block(self, ads: kernels.EncodedAds) -> Features:
        """Turn the arrays of n ads, of one block, into features."""
        row, bucket, weight, dense = kernels.transform_block(tuple(ads), self._state)
        return Features(SparseAds(len(dense), row, bucket, weight), dense)

    @property
    def width(self) -> int:
        """Number of dense features, d."""
        return kernels.dense_width(len(self.arrays["numbers.low"]), len(user_types()))

    @cached_property
    def _state(self) -> tuple[Any, ...]:
        return fitted_state(self.settings, self.arrays)


def _shown(
    ads: LabelledAds, passes_before: int, passes: int, columns: Sequence[str] | None = None
) -> Iterator[AdColumns]:
    """Yield the blocks of ads that are read several times, and show how far the step is."""
    from demand.progress import report  # with rich, which a model that only answers lacks

    done = passes_before * ads.rows
    for block in ads.blocks(columns):
        yield block
        done += block.rows
        report(done, passes * ads.rows)


def _read(
    ads: kernels.EncodedAds, settings: FeatureSettings, prices: PriceEncoder
) -> kernels.ReadAds:
    """Read n ads by the encoders."""
    numeric = ads.numeric
    categories = CategoryEncoder.fit().transform(ads.hashes, numeric[kernels.IMAGE_CLASS])
    texts = TextEncoder.transform(ads, settings.word_letters, not settings.crosses)
    levels = prices.transform(categories.mixed_chain)
    return kernels.ReadAds(numeric, categories, texts, kernels.log_prices(numeric), levels)


def seller_folds(sellers: Hashes, folds: int, seed: int) -> NDArray[np.int64]:
    """Return the number of each ad's fold by the hashes of their sellers; both of shape (n,)."""
    fold: NDArray[np.int64] = (kernels.mix(sellers, seed) % np.uint64(folds)).astype(np.int64)
    return fold


def fitted_state(settings: FeatureSettings, arrays: Arrays) -> tuple[Any, ...]:
    """Return the fields of :class:`demand.features.kernels.FittedState`, in their order.

    Tokens are hashed into signed buckets (Weinberger et al., *Feature hashing for large scale
    multitask learning*, ICML 2009).

    Raises
    ------
    LookupError, ValueError
        Arrays are missing, or do not fit together.
    """
    crosses, buckets = bool(settings.crosses), settings.table_size
    return (
        letters_table(),
        settings.word_letters,
        *PriceEncoder.from_arrays(arrays),
        *TextEncoder.from_arrays(arrays),
        *NumberEncoder.from_arrays(arrays),
        *TargetMeanEncoder.from_arrays(arrays),
        CategoryEncoder.fit().user_types,
        _SALT,
        _CROSSED_SCALE if crosses else _SCALE,
        np.uint64(buckets),
        np.uint64(buckets - 1 if buckets & (buckets - 1) == 0 else 0),
        crosses,
    )
