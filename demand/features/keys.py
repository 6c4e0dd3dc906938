"""Hashes of an ad's category-like values, and of the chain of its category and params."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np

from demand.features.columns import AdColumns
from demand.features.compiled import compiled
from demand.features.text import Hashes, hash_values, join, mix
from demand.reference import reference

PARAMS = ("param_1", "param_2", "param_3")
CHAIN = ("parent_category_name", "category_name", *PARAMS)
_TEXTS = (*CHAIN, "region", "city", "user_type")
VALUES = (*_TEXTS, "image_top_1")
CATEGORY_LEVEL, PARAM_1_LEVEL, PARAM_2_LEVEL = 1, 2, 3
IMAGE_CLASS_MAX = 1e9


@dataclass(frozen=True)
class Keys:
    """Hashes of the values of n ads.

    Parameters
    ----------
    values
        Of the columns ``VALUES``, shape (columns, n).
    chain
        parent, category, param_1, param_2, param_3: each joined with those before it,
        shape (5, n). Good for joining on; a table is looked up by:
    mixed_chain
        The same, mixed, shape (5, n).
    """

    values: Hashes
    chain: Hashes
    mixed_chain: Hashes

    def of(self, column: str) -> Hashes:
        """Return the hashes of one of ``VALUES``, shape (n,)."""
        found: Hashes = self.values[VALUES.index(column)]
        return found


def hash_keys(ads: AdColumns) -> Keys:
    """Hash the category-like columns and the chain of categories and params.

    A parent category that is missing follows from the category, where that is a known one.
    """
    text = ads.text | {CHAIN[0]: parents(ads.text[CHAIN[0]], ads.text[CHAIN[1]])}
    values = np.empty((len(VALUES), ads.rows), dtype=np.uint64)
    hashed = hash_values([value for name in _TEXTS for value in text[name]])
    values[:-1] = hashed.reshape(len(_TEXTS), ads.rows)
    image = ads.number["image_top_1"]
    # What a cast to integers makes of other numbers depends on the machine.
    known = (image >= 0) & (image <= IMAGE_CLASS_MAX)
    values[-1] = np.where(known, image + 1, 0)
    return Keys(values, *_chained(values[: len(CHAIN)]))


def parents(given: list[str | None], categories: list[str | None]) -> list[str | None]:
    """Return the parent category of n ads: the one given, else that of the category."""
    if None not in given:
        return given
    return [
        _parent_of().get(category) if parent is None and category else parent
        for parent, category in zip(given, categories, strict=True)
    ]


@cache
def _parent_of() -> dict[str, str]:
    return reference().parent_of


@compiled
def _chained(values: Hashes) -> tuple[Hashes, Hashes]:
    """Join each level with those before it, and mix what is joined with its level."""
    chain, mixed = np.empty_like(values), np.empty_like(values)
    for row in range(values.shape[1]):
        for level in range(values.shape[0]):
            joined = values[level, row]
            if level > 0:
                joined = join(chain[level - 1, row], joined)
            chain[level, row], mixed[level, row] = joined, mix(joined, np.uint64(level))
    return chain, mixed
