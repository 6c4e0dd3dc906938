"""The sparse part of an ad: groups of tokens, hashed into signed and weighted buckets.

Every group (the category, the words of the title, …) comes with the prior variance that
the logit is expected to owe to it. Its tokens are scaled by the square root of that
variance and, within an ad, to unit length; so one penalty on the squares of all weights
means another trust in each group: a Gaussian process with one linear kernel a group.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from demand.config import FeatureSettings
from demand.features.bins import Bins, Scale, binned
from demand.features.columns import AdColumns, Floats
from demand.features.keys import CATEGORY_LEVEL, PARAM_2_LEVEL, PARAMS, Keys
from demand.features.price_level import Prices
from demand.features.text import Hashes, Occurrences, join, mix
from demand.features.texts import RARITY_STEP, Texts, rarity_bucket

# Variance of the logit that each group explains, before the data. Found by maximising the
# marginal likelihood of a Gaussian process with these kernels on samples of real ads
# (Rasmussen and Williams, 2006, ch. 5; the likelihood linearised as by Breslow and
# Clayton, 1993). A name is the salt of its group's hashes: renaming one invalidates
# saved models.
PRIORS = {
    "parent_category": 0.256,
    "category": 0.155,
    "param_chain": 0.003,
    "user_type": 0.226,
    "user_type_image": 0.017,
    "image_class": 0.015,
    "city": 0.006,
    "price_roundness": 0.008,
    "title_grams": 0.115,
    "title_words": 0.01,
    "title_words_user_type": 0.105,
    "description_grams": 0.07,
    "description_words": 0.003,
    "description_words_user_type": 0.015,
    "param_1_words": 0.11,
    "param_2_words": 0.083,
    "param_3_words": 0.11,
    "param_words_price": 0.039,
    "price_over_level": 0.054,
    "category_price": 0.028,
    "category_user_type_price": 0.017,
    "image_price": 0.01,
    "parent_title_length": 0.042,
    "parent_description_length": 0.034,
    "user_type_description_length": 0.008,
    "parent_sequence": 0.004,
}
# Logarithm of roubles, twice; of the price over its level; of the characters of the
# description; letters of the title; logarithm of the ad's number.
SCALES = (
    Scale(0.0, 1.0, 26),
    Scale(0.0, 0.5, 51),
    Scale(-4.0, 0.7, 12),
    Scale(0.0, 1.0, 11),
    Scale(0.0, 8.0, 8),
    Scale(0.0, 1.0, 12),
)


@dataclass(frozen=True)
class SparseAds:
    """Weighted buckets of n ads, in any order.

    Parameters
    ----------
    rows
        Number of ads, n.
    row, bucket
        Ad and bucket of each token, shape (m,), int32: a million ads have 300 million.
    weight
        Signed weight of each token, shape (m,), float32.
    """

    rows: int
    row: NDArray[np.int32]
    bucket: NDArray[np.int32]
    weight: NDArray[np.float32]

    def sums(self, values: Floats) -> Floats:
        """Return the sum of weight times its bucket's value of each ad, shape (n,)."""
        products = values[self.bucket] * self.weight
        return np.bincount(self.row, products, self.rows).astype(np.float64, copy=False)

    def take(self, chosen: NDArray[np.bool_]) -> SparseAds:
        """Return the ads of a mask of shape (n,), in their order."""
        number = np.cumsum(chosen) - 1
        kept = chosen[self.row]
        row = number[self.row[kept]].astype(np.int32)
        return SparseAds(int(chosen.sum()), row, self.bucket[kept], self.weight[kept])


@dataclass
class _Groups:
    """Collects tokens, group after group."""

    rows: int
    names: list[str] = field(default_factory=list)
    row: list[NDArray[np.int64]] = field(default_factory=list)
    hashed: list[Hashes] = field(default_factory=list)
    weight: list[Floats] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._every = np.arange(self.rows)
        self._every_twice = np.repeat(self._every, 2)
        self._one = np.ones(self.rows)

    def add(self, name: str, row: NDArray[np.int64], hashed: Hashes, weight: Floats) -> None:
        self.names.append(name)
        self.row.append(row)
        self.hashed.append(hashed)
        self.weight.append(weight)

    def values(self, name: str, hashed: Hashes) -> None:
        """Add one token an ad."""
        self.add(name, self._every, hashed, self._one)

    def words(self, name: str, found: Occurrences, weight: Floats | None = None) -> Floats:
        """Add a token an occurrence; return the weights, which give a text unit length."""
        if weight is None:
            counts = np.bincount(found.row, minlength=self.rows)
            weight = 1.0 / np.sqrt(counts[found.row])
        self.add(name, found.row, found.hashed, weight)
        return weight

    def numbers(self, name: str, bins: Bins, cross: Hashes) -> None:
        """Add the two bins of a number, crossed with a value."""
        hashed = join(cross[self._every_twice], bins.number.ravel())
        self.add(name, self._every_twice, hashed, bins.weight.ravel())

    def words_and_numbers(self, name: str, found: Occurrences, bins: Bins) -> None:
        """Add each occurrence twice, crossed with the two bins of its ad's number."""
        counts = np.bincount(found.row, minlength=self.rows)
        hashed = join(np.repeat(found.hashed, 2), bins.number[found.row].ravel())
        weight = bins.weight[found.row] / np.sqrt(counts[found.row])[:, None]
        self.add(name, np.repeat(found.row, 2), hashed, weight.ravel())


def sparse_ads(
    ads: AdColumns,
    keys: Keys,
    texts: Texts,
    prices: Prices,
    rarity: NDArray[np.uint8],
    settings: FeatureSettings,
) -> SparseAds:
    """Hash all tokens of n ads into ``settings.buckets`` signed buckets.

    (Weinberger et al., *Feature hashing for large scale multitask learning*, ICML 2009.)

    Parameters
    ----------
    rarity
        How rare the n-grams of each bucket are, see :func:`demand.features.texts.fit_rarity`.
    """
    groups = _Groups(ads.rows)
    values = (
        prices.log,
        prices.log,
        prices.log - prices.of_params,
        np.log1p(texts.description_letters),
        texts.title_letters,
        np.log1p(np.nan_to_num(ads.number["item_seq_number"], nan=1.0).clip(min=0.0)),
    )
    bins = binned(values, SCALES)
    _add_values(groups, ads, keys)
    if settings.text_encoder == "ngrams":
        _add_texts(groups, keys, texts, rarity)
    _add_params(groups, texts, bins[0])
    _add_numbers(groups, keys, bins)
    return _hashed(groups, settings.buckets)


def _add_values(groups: _Groups, ads: AdColumns, keys: Keys) -> None:
    value = keys.value
    groups.values("parent_category", keys.chain[0])
    groups.values("category", keys.chain[CATEGORY_LEVEL])
    groups.values("param_chain", keys.chain[PARAM_2_LEVEL])
    groups.values("user_type", value["user_type"])
    groups.values("user_type_image", join(value["user_type"], _no_image(keys)))
    groups.values("image_class", value["image_top_1"])
    groups.values("city", join(value["region"], value["city"]))
    groups.values("price_roundness", _roundness(ads.number["price"]))


def _add_texts(groups: _Groups, keys: Keys, texts: Texts, rarity: NDArray[np.uint8]) -> None:
    user_type = keys.value["user_type"]
    for name, words in (("title", texts.title), ("description", texts.description)):
        weight = groups.words(f"{name}_words", words)
        crossed = Occurrences(words.row, join(words.hashed, user_type[words.row]))
        groups.words(f"{name}_words_user_type", crossed, weight)
    for name, grams in (("title", texts.title_grams), ("description", texts.description_grams)):
        of_bucket = rarity[rarity_bucket(grams)] * RARITY_STEP
        squares = np.bincount(grams.row, of_bucket**2, groups.rows)
        groups.words(f"{name}_grams", grams, of_bucket / np.sqrt(squares[grams.row]))


def _add_params(groups: _Groups, texts: Texts, price: Bins) -> None:
    for name, words in zip(PARAMS, texts.params, strict=True):
        groups.words(f"{name}_words", words)
    together = Occurrences(
        np.concatenate([words.row for words in texts.params]),
        np.concatenate([words.hashed for words in texts.params]),
    )
    groups.words_and_numbers("param_words_price", together, price)


def _add_numbers(groups: _Groups, keys: Keys, bins: list[Bins]) -> None:
    price, fine_price, over_level, description_length, title_length, sequence = bins
    parent, category = keys.chain[0], keys.chain[CATEGORY_LEVEL]
    user_type = keys.value["user_type"]
    groups.numbers("price_over_level", over_level, np.zeros_like(parent))
    groups.numbers("category_price", fine_price, category)
    groups.numbers("category_user_type_price", price, join(category, user_type))
    groups.numbers("image_price", price, _no_image(keys))
    groups.numbers("parent_description_length", description_length, parent)
    groups.numbers("user_type_description_length", description_length, user_type)
    groups.numbers("parent_title_length", title_length, parent)
    groups.numbers("parent_sequence", sequence, parent)


def _no_image(keys: Keys) -> Hashes:
    return np.equal(keys.value["image_top_1"], 0).astype(np.uint64)


def _roundness(price: Floats) -> Hashes:
    """Say by which power of ten, up to a thousand, a price can be divided, shape (n,)."""
    known = np.where(np.isfinite(price), price, -1.0)
    kinds = [known < 0, known == 0, known % 1000 == 0, known % 100 == 0, known % 10 == 0]
    number: Hashes = np.select(kinds, [0, 1, 2, 3, 4], 5).astype(np.uint64)
    return number


def _hashed(groups: _Groups, buckets: int) -> SparseAds:
    """Put all groups into the same buckets, each with its salt and prior."""
    sizes = [len(row) for row in groups.row]
    salts = np.array([crc32(name.encode()) for name in groups.names], dtype=np.uint64)
    scales = np.sqrt([PRIORS[name] for name in groups.names])
    hashed = mix(np.concatenate(groups.hashed), np.repeat(salts, sizes))
    sign = np.where((hashed >> np.uint64(40)) & np.uint64(1), 1.0, -1.0)
    weight = np.concatenate(groups.weight) * np.repeat(scales, sizes) * sign
    return SparseAds(
        groups.rows,
        np.concatenate(groups.row).astype(np.int32),
        (hashed % np.uint64(buckets)).astype(np.int32),
        weight.astype(np.float32),
    )
