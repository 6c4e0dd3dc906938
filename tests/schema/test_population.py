from __future__ import annotations

import pytest

from demand.schema.columns import COLUMN
from demand.schema.population import reference

ROWS = 1_503_424


def test_there_are_47_categories_of_nine_parents() -> None:
    parents = reference().parent_of
    assert len(parents) == 47
    assert len(set(parents.values())) == 9


@pytest.mark.parametrize("name", ["category_counts", "regions", "user_types"])
def test_counts_are_those_of_all_ads(name: str) -> None:
    assert sum(getattr(reference(), name).values()) == ROWS


def test_there_are_28_regions_and_three_kinds_of_sellers() -> None:
    assert len(reference().regions) == 28
    assert set(reference().user_types) == {"Private", "Company", "Shop"}


def test_missing_shares_are_shares_of_columns() -> None:
    shares = reference().missing_share
    assert set(shares) <= set(COLUMN)
    assert all(0 < share < 1 for share in shares.values())


def test_what_is_required_is_never_missing() -> None:
    assert not [name for name in reference().missing_share if COLUMN[name].required]


def test_figures_are_read_once_and_cannot_be_spoilt() -> None:
    reference().regions.clear()
    assert reference() is reference()
    assert len(reference().regions) == 28
