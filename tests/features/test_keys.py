from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from demand.features.columns import AdColumns
from demand.features.keys import (
    IMAGE,
    LEVELS,
    PARAM_1,
    TEXTS,
    Keys,
    hash_texts,
    join_keys,
    parents,
)
from tests.ads_factory import make_ads


def keys_of(frame: pd.DataFrame) -> Keys:
    ads = AdColumns.from_frame(frame)
    return join_keys(hash_texts(ads), ads.number["image_top_1"])


def test_a_chain_joins_a_value_with_those_above_it() -> None:
    ads = make_ads(2)
    for name in TEXTS:
        ads[name] = "одно"
    ads.loc[1, "parent_category_name"] = "другое"
    keys = keys_of(ads)
    assert keys.values[PARAM_1, 0] == keys.values[PARAM_1, 1]
    assert all(chain[0] != chain[1] for chain in keys.chain)
    assert (keys.mixed_chain[:, 0] != keys.mixed_chain[:, 1]).all()


def test_the_levels_of_the_chain_do_not_meet() -> None:
    keys = keys_of(make_ads(500))
    levels = [set(level.tolist()) for level in keys.mixed_chain]
    assert len(set.union(*levels)) == sum(map(len, levels))
    assert keys.mixed_chain.shape == (LEVELS, 500)


def test_a_missing_image_class_is_none_of_the_classes() -> None:
    images = [np.nan, 0.0, 1.0, 3066.0, -7.0, 1e300, np.inf]
    keys = keys_of(pd.DataFrame({"image_top_1": images}))
    assert keys.values[IMAGE].tolist() == [0, 1, 2, 3067, 0, 0, 0]


@pytest.mark.parametrize(
    ("given", "category", "found"),
    [
        (None, "Велосипеды", "Хобби и отдых"),
        ("Своя", "Велосипеды", "Своя"),
        (None, "нет такой", None),
        (None, None, None),
    ],
)
def test_a_missing_parent_follows_from_the_category(
    given: str | None, category: str | None, found: str | None
) -> None:
    assert parents([given], [category]) == [found]
