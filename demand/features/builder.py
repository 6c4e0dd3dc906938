"""From ads to arrays: fitted once on training ads, saved with the model.

The dense part holds lengths, counts, the price and its relation to the price level of
the category, and shrunk target means down the chain parent → category → param_1 →
param_2 → param_3. In training those means are out of fold by seller, so that no ad and
no seller sees its own outcome.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from demand.config import FeatureSettings
from demand.features.columns import AdColumns, Floats
from demand.features.keys import Keys, hash_keys
from demand.features.price_level import fit_price, prices
from demand.features.sequences import word_sequences
from demand.features.statistics import (
    STATISTICS,
    fit_statistics,
    look_up_statistics,
    statistics_keys,
)
from demand.features.text import Hashes, hash_value, hash_values, mix
from demand.features.texts import fit_rarity, read_texts
from demand.features.tokens import SparseAds, sparse_ads
from demand.reference import reference

PRICE_MISSING = 1 << 32  # more than any number of bins
CLIP = 5.0  # standard deviations, so that an absurd value cannot dominate
PIECEWISE = ("log_price", "price_over_leaf", "price_over_category", "description", "title", "seq")


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
    block: Floats


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
        keys = hash_keys(ads)
        fit_price(arrays, ads, keys, settings.price_bins)
        builder = cls(settings, arrays)
        raw = builder._raw(ads, keys, fit=True)
        # Where all sellers fall into one fold, nobody else's outcomes are left to learn from.
        statistics = np.full((ads.rows, len(STATISTICS)), target.mean())
        shrinkage = settings.statistics_shrinkage
        fold = seller_folds(ads, settings.statistics_folds, seed)
        for number in range(settings.statistics_folds):
            held, rest = np.flatnonzero(fold == number), np.flatnonzero(fold != number)
            if len(held) and len(rest):
                tables = fit_statistics(raw.groups[:, rest], target[rest], shrinkage)
                statistics[held] = look_up_statistics(tables, raw.groups[:, held])
        arrays |= fit_statistics(raw.groups, target, shrinkage)
        arrays["center"] = statistics.mean(axis=0)
        arrays["scale"] = statistics.std(axis=0) + 1e-6
        return builder, builder._assemble(raw, statistics)

    def transform(self, ads: AdColumns) -> Features:
        """Turn any ads into features; unknown values fall back to the level above."""
        keys = hash_keys(ads)
        raw = self._raw(ads, keys, fit=False)
        return self._assemble(raw, look_up_statistics(self.arrays, raw.groups))

    @property
    def width(self) -> int:
        """Number of dense features, d."""
        ones = sum(len(self.arrays[f"edges.{name}"]) for name in PIECEWISE)
        return ones + len(_flags_names()) + len(STATISTICS)

    def _assemble(self, raw: _Raw, statistics: Floats) -> Features:
        scaled = (statistics - self.arrays["center"]) / self.arrays["scale"]
        dense = np.concatenate([raw.block, np.clip(scaled, -CLIP, CLIP)], axis=1)
        return Features(raw.sparse, dense.astype(np.float32), raw.words)

    def _raw(self, ads: AdColumns, keys: Keys, *, fit: bool) -> _Raw:
        settings = self.settings
        texts, price = read_texts(ads, settings), prices(self.arrays, ads, keys)
        missing = np.isnan(price.log)
        numbers: dict[str, Floats] = {
            "log_price": np.where(missing, price.of_params, price.log),
            "price_over_leaf": np.where(missing, 0.0, price.log - price.of_params),
            "price_over_category": np.where(missing, 0.0, price.log - price.of_category),
            "description": np.log1p(texts.description_letters),
            "title": np.log1p(texts.title_letters),
            "seq": np.log1p(np.nan_to_num(ads.number["item_seq_number"], nan=1.0).clip(min=0.0)),
        }
        if fit:
            _fit_scales(self.arrays, numbers, settings)
            self.arrays["rarity"] = fit_rarity(texts, ads.rows)
        blocks = []
        for name, value in numbers.items():
            center, scale = self.arrays[f"scale.{name}"]
            blocks.append(_piecewise(value, self.arrays[f"edges.{name}"]))
            blocks.append(np.clip((value - center) / scale, -CLIP, CLIP)[:, None])
        blocks.append(_flags(ads, keys, missing, texts.description_letters == 0))
        sparse = sparse_ads(ads, keys, texts, price, self.arrays["rarity"], settings)
        place = np.searchsorted(self.arrays["price_bins"], numbers["log_price"])
        price_bin = np.where(missing, PRICE_MISSING, place).astype(np.uint64)
        words = word_sequences(texts, ads.rows, settings)
        return _Raw(sparse, words, statistics_keys(keys, price_bin), np.concatenate(blocks, axis=1))


def seller_folds(ads: AdColumns, folds: int, seed: int) -> NDArray[np.int64]:
    """Return the number of each ad's fold, shape (n,); all ads of a seller lie in one fold."""
    sellers = mix(hash_values(ads.text["user_id"]), seed)
    return (sellers % np.uint64(folds)).astype(np.int64)


def _fit_scales(
    arrays: dict[str, NDArray[Any]], numbers: dict[str, Floats], settings: FeatureSettings
) -> None:
    """Learn mean, deviation and the edges of the piecewise-linear encoding."""
    for name, value in numbers.items():
        arrays[f"scale.{name}"] = np.array([value.mean(), value.std() + 1e-6])
        edges = np.unique(np.quantile(value, np.linspace(0, 1, settings.piecewise_bins + 1)))
        arrays[f"edges.{name}"] = edges if len(edges) > 1 else np.append(edges, edges[-1] + 1.0)


def _piecewise(value: Floats, edges: Floats) -> Floats:
    """Encode numbers by how far they have come through each bin, shape (n, bins).

    (Gorishniy et al., *On embeddings for numerical features*, NeurIPS 2022.)
    """
    passed: Floats = np.clip((value[:, None] - edges[:-1]) / np.diff(edges), 0.0, 1.0)
    return passed


def _flags_names() -> list[str]:
    names = ["price_missing", "image", "no_description", "no_param_1", "no_param_2", "no_param_3"]
    return [*names, "weekday_sin", "weekday_cos", *reference().user_types]


def _flags(
    ads: AdColumns, keys: Keys, price_missing: NDArray[np.bool_], no_description: NDArray[np.bool_]
) -> Floats:
    """Yes-or-no facts and the day of the week, shape (n, number of flags)."""
    angle = np.nan_to_num(ads.weekday) * (2 * np.pi / 7)
    day_known = np.isfinite(ads.weekday)
    flags: list[NDArray[Any]] = [
        price_missing,
        np.isfinite(ads.number["image_top_1"])
        | np.array([image is not None for image in ads.text["image"]]),
        no_description,
    ]
    flags += [np.array([v is None for v in ads.text[f"param_{i}"]]) for i in (1, 2, 3)]
    flags += [np.sin(angle) * day_known, np.cos(angle) * day_known]
    flags += [keys.value["user_type"] == np.uint64(hash_value(t)) for t in reference().user_types]
    stacked: Floats = np.stack(flags, axis=1).astype(np.float64)
    return stacked
