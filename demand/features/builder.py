"""From ads to arrays: fitted once on training ads, saved with the model.

The dense part holds lengths, counts, the price and its relation to the price level of
the category, and shrunk target means down the chain parent → category → param_1 →
param_2 → param_3. In training those means are out of fold by seller, so that no ad and
no seller sees its own outcome.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from demand.config import FeatureSettings
from demand.features.coding import IMAGE_CLASS, CodedAds, code_ads, code_numbers
from demand.features.columns import AdColumns, Floats
from demand.features.compiled import plain
from demand.features.flags import user_types
from demand.features.keys import hash_texts, join_keys
from demand.features.learned import NO_MEANS, learned, price_levels, reading, target_means
from demand.features.numbers import fit_numbers
from demand.features.price_level import fit_price, log_prices
from demand.features.statistics import fit_statistics, out_of_fold, put_statistics
from demand.features.text import Hashes, hash_values, mix
from demand.features.texts import RARITY_BUCKETS, rarity_of
from demand.features.tokens import SparseAds
from demand.features.transformation import dense_width, features, measure


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

    @classmethod
    def joined(cls, parts: Sequence[Features]) -> Features:
        """Return the features of some ads and then of others."""
        if len(parts) == 1:
            return parts[0]
        return cls(
            SparseAds.joined([part.sparse for part in parts]),
            np.concatenate([part.dense for part in parts]),
            np.concatenate([part.words for part in parts]),
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
        builder = cls(settings, arrays)
        of_ads = code_numbers(ads)
        chain = join_keys(hash_texts(ads), of_ads[IMAGE_CLASS]).mixed_chain
        fit_price(arrays, log_prices(of_ads), chain, settings.price_bins)
        # All texts are read twice, since those of a million ads do not fit into memory.
        numbers, grams = [], np.zeros(RARITY_BUCKETS, dtype=np.int64)
        how, levels = reading(settings), price_levels(arrays)
        for block in ads.blocks():
            of_block, counts = measure(builder.coded(block), how, levels)
            numbers.append(of_block)
            grams += counts
        arrays |= fit_numbers(np.concatenate(numbers, axis=1), settings.piecewise_bins)
        arrays["rarity"] = rarity_of(grams, ads.rows)
        unknown = plain(NO_MEANS)
        looked = [builder._look(builder.coded(block), unknown) for block in ads.blocks()]
        made = Features.joined([part for part, _ in looked])
        groups = np.concatenate([part for _, part in looked], axis=1)
        shrinkage = settings.statistics_shrinkage
        fold = seller_folds(ads, settings.statistics_folds, seed)
        statistics = out_of_fold(groups, target, fold, shrinkage)
        arrays |= fit_statistics(groups, target, shrinkage)
        arrays["center"] = statistics.mean(axis=1)
        arrays["scale"] = statistics.std(axis=1) + 1e-6
        put_statistics(made.dense, statistics, arrays["center"], arrays["scale"])
        return builder, made

    def transform(self, ads: AdColumns) -> Features:
        """Turn any ads into features; unknown values fall back to the level above."""
        return Features.joined([self.of_block(self.coded(block)) for block in ads.blocks()])

    def coded(self, ads: AdColumns) -> CodedAds:
        """Turn ads into the arrays that :meth:`of_block` takes."""
        return code_ads(ads, self.settings.description_letters_max)

    def of_block(self, ads: CodedAds) -> Features:
        """Turn the arrays of n ads, of one block, into features."""
        return self._look(ads, self._target)[0]

    @property
    def width(self) -> int:
        """Number of dense features, d."""
        return dense_width(len(self.arrays["numbers.low"]), len(user_types()))

    def _look(self, ads: CodedAds, target: tuple[Any, ...]) -> tuple[Features, Hashes]:
        """Return the features of n ads and the groups that their statistics are of."""
        row, bucket, weight, dense, words, groups = features(tuple(ads), self._learned, target)
        return Features(SparseAds(len(dense), row, bucket, weight), dense, words), groups

    @cached_property
    def _learned(self) -> tuple[Any, ...]:
        return plain(learned(self.settings, self.arrays))

    @cached_property
    def _target(self) -> tuple[Any, ...]:
        return plain(target_means(self.arrays))


def seller_folds(ads: AdColumns, folds: int, seed: int) -> NDArray[np.int64]:
    """Return the number of each ad's fold, shape (n,); all ads of a seller lie in one fold."""
    sellers = mix(hash_values(ads.text["user_id"]), seed)
    fold: NDArray[np.int64] = (sellers % np.uint64(folds)).astype(np.int64)
    return fold
