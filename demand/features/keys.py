"""Hashes of an ad's category-like values, and of the chain of its category and params."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np

from demand.features.columns import AdColumns
from demand.features.text import Hashes, hash_values, join, mix
from demand.reference import reference

PARAMS = ("param_1", "param_2", "param_3")
CHAIN = ("parent_category_name", "category_name", *PARAMS)
VALUES = (*CHAIN, "region", "city", "user_type")
CATEGORY_LEVEL, PARAM_1_LEVEL, PARAM_2_LEVEL = 1, 2, 3
IMAGE_CLASS_MAX = 1e9


@dataclass(frozen=True)
class Keys:
    """Hashes of the values of n ads.

    Parameters
    ----------
    value
        One of shape (n,) for each of ``VALUES``, and for ``image_top_1``.
    chain
        parent, category, param_1, param_2, param_3: each joined with those before it,
        five of shape (n,). Good for joining on; a table is looked up by:
    mixed_chain
        The same, mixed, shape (5, n).
    """

    value: dict[str, Hashes]
    chain: list[Hashes]
    mixed_chain: Hashes


def hash_keys(ads: AdColumns) -> Keys:
    """Hash the category-like columns and the chain of categories and params.

    A parent category that is missing follows from the category, where that is a known one.
    """
    text = ads.text | {CHAIN[0]: parents(ads.text[CHAIN[0]], ads.text[CHAIN[1]])}
    value = {name: hash_values(text[name]) for name in VALUES}
    image = ads.number["image_top_1"]
    # What a cast to integers makes of other numbers depends on the machine.
    known = (image >= 0) & (image <= IMAGE_CLASS_MAX)
    value["image_top_1"] = np.where(known, image + 1, 0).astype(np.uint64)
    chain = [value[CHAIN[0]]]
    for name in CHAIN[1:]:
        chain.append(join(chain[-1], value[name]))
    levels = np.arange(len(CHAIN), dtype=np.uint64)
    return Keys(value, chain, mix(np.stack(chain), levels[:, None]))


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
