from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from demand.features.columns import AdColumns
from demand.features.keys import CHAIN, VALUES, hash_keys, parents
from tests.ads_factory import make_ads


def test_a_chain_joins_a_value_with_those_above_it() -> None:
    ads = make_ads(2)
    for name in VALUES:
        ads[name] = "одно"
    ads.loc[1, "parent_category_name"] = "другое"
    keys = hash_keys(AdColumns.from_frame(ads))
    assert keys.of("param_1")[0] == keys.of("param_1")[1]
    assert all(chain[0] != chain[1] for chain in keys.chain)
    assert (keys.mixed_chain[:, 0] != keys.mixed_chain[:, 1]).all()


def test_the_levels_of_the_chain_do_not_meet() -> None:
    keys = hash_keys(AdColumns.from_frame(make_ads(500)))
    levels = [set(level.tolist()) for level in keys.mixed_chain]
    assert len(set.union(*levels)) == sum(map(len, levels))
    assert keys.mixed_chain.shape == (len(CHAIN), 500)


def test_a_missing_image_class_is_none_of_the_classes() -> None:
    images = [np.nan, 0.0, 1.0, 3066.0, -7.0, 1e300, np.inf]
    ads = AdColumns.from_frame(pd.DataFrame({"image_top_1": images}))
    assert hash_keys(ads).of("image_top_1").tolist() == [0, 1, 2, 3067, 0, 0, 0]


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
