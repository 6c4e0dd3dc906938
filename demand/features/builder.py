"""From ads to arrays: fitted once on training ads, saved with the model.

The dense part holds lengths, counts, the price and its relation to the price level of
the category, and shrunk target means down the chain parent → category → param_1 →
param_2 → param_3. In training those means are out of fold by seller, so that no ad and
no seller sees its own outcome.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from demand.config import FeatureSettings
from demand.features.columns import AdColumns, Floats
from demand.features.flags import flags, width_of_flags
from demand.features.keys import hash_keys
from demand.features.numbers import (
    ad_numbers,
    clipped,
    encode_numbers,
    fit_numbers,
    sequence_number,
    width_of_numbers,
)
from demand.features.price_level import fit_price, prices
from demand.features.sequences import word_sequences
from demand.features.statistics import (
    STATISTICS,
    fit_statistics,
    look_up_statistics,
    statistics_keys,
)
from demand.features.text import Hashes, hash_values, mix
from demand.features.texts import RARITY_BUCKETS, count_grams, rarity_of, read_texts
from demand.features.tokens import SparseAds, sparse_ads

PRICE_MISSING = 1 << 32  # more than any number of bins


@dataclass(frozen=True)
class Features:
    """Arrays of n ads.

    Parameters
    ----------
    sparse
        Hashed tokens.
    dense
        Numbers, shape (n, d), float32.
    words
        Buckets of the words in their order, shape (n, words); without columns where the
        text encoder reads none.
    """

    sparse: SparseAds
    dense: NDArray[np.float32]
    words: NDArray[np.int64]


@dataclass(frozen=True)
class _Raw:
    """What can be said of ads before target means are known."""

    sparse: SparseAds
    words: NDArray[np.int64]
    groups: Hashes
    dense: Floats

    @classmethod
    def joined(cls, parts: Sequence[_Raw]) -> _Raw:
        """Return what was said of some ads and then of others."""
        return cls(
            SparseAds.joined([part.sparse for part in parts]),
            np.concatenate([part.words for part in parts]),
            np.concatenate([part.groups for part in parts], axis=1),
            np.concatenate([part.dense for part in parts], axis=1),
        )


@dataclass(frozen=True)
class FeatureBuilder:
    """The fitted transformation; ``arrays`` is all of its state.

    Parameters
    ----------
    settings
        The configuration it was fitted with.
    arrays
        Edges, group means and scales by name; plain numpy, no objects.
    """

    settings: FeatureSettings
    arrays: dict[str, NDArray[Any]]

    @classmethod
    def fit(
        cls, ads: AdColumns, target: Floats, settings: FeatureSettings, seed: int
    ) -> tuple[FeatureBuilder, Features]:
        """Fit on training ads and return their own features, out of fold.

        Parameters
        ----------
        ads
            Training ads; ``user_id`` decides the folds.
        target
            Deal probabilities, shape (n,).
        """
        arrays: dict[str, NDArray[Any]] = {}
        fit_price(arrays, ads, hash_keys(ads), settings.price_bins)
        builder = cls(settings, arrays)
        # All texts are read twice, since those of a million ads do not fit into memory.
        numbers, grams = [], np.zeros(RARITY_BUCKETS, dtype=np.int64)
        for block in ads.blocks():
            texts, price = read_texts(block, settings), prices(arrays, block, hash_keys(block))
            numbers.append(ad_numbers(texts, price, sequence_number(block)))
            grams += count_grams(texts)
        arrays |= fit_numbers(np.concatenate(numbers, axis=1), settings.piecewise_bins)
        arrays["rarity"] = rarity_of(grams, ads.rows)
        raw = builder._raw(ads)
        # Where all sellers fall into one fold, nobody else's outcomes are left to learn from.
        statistics = np.full((len(STATISTICS), ads.rows), target.mean())
        shrinkage = settings.statistics_shrinkage
        fold = seller_folds(ads, settings.statistics_folds, seed)
        for number in range(settings.statistics_folds):
            held, rest = np.flatnonzero(fold == number), np.flatnonzero(fold != number)
            if len(held) and len(rest):
                tables = fit_statistics(raw.groups[:, rest], target[rest], shrinkage)
                statistics[:, held] = look_up_statistics(tables, raw.groups[:, held])
        arrays |= fit_statistics(raw.groups, target, shrinkage)
        arrays["center"] = statistics.mean(axis=1)
        arrays["scale"] = statistics.std(axis=1) + 1e-6
        return builder, builder._assemble(raw, statistics)

    def transform(self, ads: AdColumns) -> Features:
        """Turn any ads into features; unknown values fall back to the level above."""
        raw = self._raw(ads)
        return self._assemble(raw, look_up_statistics(self.arrays, raw.groups))

    @property
    def width(self) -> int:
        """Number of dense features, d."""
        return width_of_numbers(self.arrays) + width_of_flags() + len(STATISTICS)

    def _assemble(self, raw: _Raw, statistics: Floats) -> Features:
        scaled = clipped(statistics, self.arrays["center"], self.arrays["scale"])
        dense = np.concatenate([raw.dense, scaled]).T.astype(np.float32, order="C")
        return Features(raw.sparse, dense, raw.words)

    def _raw(self, ads: AdColumns) -> _Raw:
        blocks = [self._raw_block(block) for block in ads.blocks()]
        return _Raw.joined(blocks) if len(blocks) > 1 else blocks[0]

    def _raw_block(self, ads: AdColumns) -> _Raw:
        settings, arrays = self.settings, self.arrays
        keys, texts, sequence = hash_keys(ads), read_texts(ads, settings), sequence_number(ads)
        price = prices(arrays, ads, keys)
        missing = np.isnan(price.log)
        dense = [
            *encode_numbers(arrays, ad_numbers(texts, price, sequence)),
            flags(ads, keys, missing, texts.description_letters == 0),
        ]
        sparse = sparse_ads(ads, keys, texts, price, sequence, arrays["rarity"], settings)
        place = arrays["price_bins"].searchsorted(np.where(missing, 0.0, price.log))
        groups = statistics_keys(keys, np.where(missing, PRICE_MISSING, place).astype(np.uint64))
        return _Raw(
            sparse, word_sequences(texts, ads.rows, settings), groups, np.concatenate(dense)
        )


def seller_folds(ads: AdColumns, folds: int, seed: int) -> NDArray[np.int64]:
    """Return the number of each ad's fold, shape (n,); all ads of a seller lie in one fold."""
    sellers = mix(hash_values(ads.text["user_id"]), seed)
    fold: NDArray[np.int64] = (sellers % np.uint64(folds)).astype(np.int64)
    return fold
