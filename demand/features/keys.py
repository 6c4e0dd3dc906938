"""Hashes of an ad's category-like values, and of the chain of its category and params."""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

import numpy as np

from demand.features.columns import AdColumns, Floats
from demand.features.compiled import compiled
from demand.features.text import Hashes, hash_values, join, mix
from demand.reference import reference

PARAMS = ("param_1", "param_2", "param_3")
CHAIN = ("parent_category_name", "category_name", *PARAMS)
TEXTS = (*CHAIN, "region", "city", "user_type")
# Rows of the hashes of values: the texts, and behind them the class of the image.
PARENT, CATEGORY, PARAM_1, _, PARAM_3, REGION, CITY, USER_TYPE, IMAGE = range(len(TEXTS) + 1)
LEVELS = len(CHAIN)
CATEGORY_LEVEL, PARAM_1_LEVEL, PARAM_2_LEVEL = 1, 2, 3
IMAGE_CLASS_MAX = 1e9


class Keys(NamedTuple):
    """Hashes of the values of n ads.

    Parameters
    ----------
    values
        Of the columns ``TEXTS`` and of the image's class, shape (9, n).
    chain
        parent, category, param_1, param_2, param_3: each joined with those before it,
        shape (5, n). Good for joining on; a table is looked up by:
    mixed_chain
        The same, mixed, shape (5, n).
    """

    values: Hashes
    chain: Hashes
    mixed_chain: Hashes


def hash_texts(ads: AdColumns) -> Hashes:
    """Hash the columns ``TEXTS`` of n ads, shape (8, n).

    A parent category that is missing follows from the category, where that is a known one.
    """
    text = ads.text
    values = list(parents(text[CHAIN[0]], text[CHAIN[1]]))
    for name in TEXTS[1:]:
        values += text[name]
    return hash_values(values).reshape(len(TEXTS), ads.rows)


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
def join_keys(hashes: Hashes, image_class: Floats) -> Keys:
    """Join each level of the chain with those before it, and mix what is joined with its level.

    Parameters
    ----------
    hashes
        See :func:`hash_texts`, shape (8, n).
    image_class
        Shape (n,); NaN where missing.
    """
    texts, rows = hashes.shape
    values = np.empty((texts + 1, rows), np.uint64)
    chain, mixed = np.empty((LEVELS, rows), np.uint64), np.empty((LEVELS, rows), np.uint64)
    for row in range(rows):
        for text in range(texts):
            values[text, row] = hashes[text, row]
        image = image_class[row]
        # What a cast to integers makes of other numbers depends on the machine.
        known = 0.0 <= image <= IMAGE_CLASS_MAX
        values[IMAGE, row] = np.uint64(image + 1.0) if known else np.uint64(0)
        for level in range(LEVELS):
            joined = values[level, row]
            if level > 0:
                joined = join(chain[level - 1, row], joined)
            chain[level, row], mixed[level, row] = joined, mix(joined, np.uint64(level))
    return Keys(values, chain, mixed)
