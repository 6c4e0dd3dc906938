"""The sparse part of an ad: groups of tokens, hashed into signed and weighted buckets.

Every group (the category, the words of the title, …) comes with the prior variance that
the logit is expected to owe to it. Its tokens are scaled by the square root of that
variance and, within an ad, to unit length; so one penalty on the squares of all weights
means another trust in each group: a Gaussian process with one linear kernel a group.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from demand.features.bins import (
    DESCRIPTION,
    FINE_PRICE,
    OVER_LEVEL,
    PRICE,
    SCALES,
    SEQUENCE,
    TITLE,
)
from demand.features.coding import ROUBLES, SEQUENCE_NUMBER, CodedAds
from demand.features.columns import Floats
from demand.features.compiled import compilable
from demand.features.groups import (
    TOKENS_AN_AD,
    Group,
    Hashing,
    Tokens,
    add_grams,
    add_numbers,
    add_values,
    add_words,
)
from demand.features.keys import USER_TYPE, Keys
from demand.features.numbers import log_of_sequence
from demand.features.price_level import Prices
from demand.features.texts import Texts

# Variance of the logit that each group explains, before the data. Found by maximising the
# marginal likelihood of a Gaussian process with these kernels on samples of real ads
# (Rasmussen and Williams, 2006, ch. 5; the likelihood linearised as by Breslow and
# Clayton, 1993). A name is the salt of its group's hashes: renaming one invalidates
# saved models.
PRIORS = {
    Group.PARENT_CATEGORY: 0.256,
    Group.CATEGORY: 0.155,
    Group.PARAM_CHAIN: 0.003,
    Group.USER_TYPE: 0.226,
    Group.USER_TYPE_IMAGE: 0.017,
    Group.IMAGE_CLASS: 0.015,
    Group.CITY: 0.006,
    Group.PRICE_ROUNDNESS: 0.008,
    Group.TITLE_GRAMS: 0.115,
    Group.TITLE_WORDS: 0.01,
    Group.TITLE_WORDS_USER_TYPE: 0.105,
    Group.DESCRIPTION_GRAMS: 0.07,
    Group.DESCRIPTION_WORDS: 0.003,
    Group.DESCRIPTION_WORDS_USER_TYPE: 0.015,
    Group.PARAM_1_WORDS: 0.11,
    Group.PARAM_2_WORDS: 0.083,
    Group.PARAM_3_WORDS: 0.11,
    Group.PARAM_WORDS_PRICE: 0.039,
    Group.PRICE_OVER_LEVEL: 0.054,
    Group.CATEGORY_PRICE: 0.028,
    Group.CATEGORY_USER_TYPE_PRICE: 0.017,
    Group.IMAGE_PRICE: 0.01,
    Group.PARENT_TITLE_LENGTH: 0.042,
    Group.PARENT_DESCRIPTION_LENGTH: 0.034,
    Group.USER_TYPE_DESCRIPTION_LENGTH: 0.008,
    Group.PARENT_SEQUENCE: 0.004,
}
_SALT = np.array([crc32(group.name.lower().encode()) for group in Group], dtype=np.uint64)
_SCALE = np.sqrt(np.array([PRIORS[group] for group in Group]))


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


def hashing(buckets: int) -> Hashing:
    """Return how tokens are hashed into ``buckets`` signed buckets.

    (Weinberger et al., *Feature hashing for large scale multitask learning*, ICML 2009.)
    """
    mask = buckets - 1 if buckets & (buckets - 1) == 0 else 0
    return Hashing(_SALT, _SCALE, np.uint64(buckets), np.uint64(mask))


@compilable
def hash_tokens(
    ads: CodedAds,
    keys: Keys,
    texts: Texts,
    prices: Prices,
    how: Hashing,
    rarity: NDArray[np.uint8],
    of_texts: bool,
) -> Tokens:
    """Hash all tokens of n ads.

    Parameters
    ----------
    rarity
        How rare the n-grams of each bucket are, see :func:`demand.features.texts.rarity_of`.
    of_texts
        Whether the words and n-grams of title and description are tokens.
    """
    rows = ads.numbers.shape[1]
    numbers = np.empty((len(SCALES), rows))
    for ad in range(rows):
        log_price = prices.log[ad]
        numbers[PRICE, ad] = numbers[FINE_PRICE, ad] = log_price
        numbers[OVER_LEVEL, ad] = log_price - prices.of_params[ad]
        numbers[DESCRIPTION, ad] = np.log1p(texts.description_letters[ad])
        numbers[TITLE, ad] = texts.title_letters[ad]
        numbers[SEQUENCE, ad] = log_of_sequence(ads.numbers[SEQUENCE_NUMBER, ad])
    # A word is at most a token alone and two with the price.
    most = TOKENS_AN_AD * rows + 3 * len(texts.words.row)
    if of_texts:
        most += len(texts.title_grams.row) + len(texts.description_grams.row)
    tokens = Tokens(np.empty(most, np.int32), np.empty(most, np.int32), np.empty(most, np.float32))
    end = add_values(tokens, 0, how, keys, ads.numbers[ROUBLES])
    end = add_numbers(tokens, end, how, keys, numbers)
    user_type = keys.values[USER_TYPE]
    end = add_words(tokens, end, how, texts.words, user_type, prices.log, of_texts)
    if of_texts:
        end = add_grams(tokens, end, how, Group.TITLE_GRAMS + 0, texts.title_grams, rarity)
        of_description = Group.DESCRIPTION_GRAMS + 0
        end = add_grams(tokens, end, how, of_description, texts.description_grams, rarity)
    return Tokens(tokens.row[:end], tokens.bucket[:end], tokens.weight[:end])
