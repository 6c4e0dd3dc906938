from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from demand.data.typed import GROUP_ROWS, TypedAds
from demand.features.encoding import AdColumns
from demand.features.training_ads import TrainingAds
from demand.schema.columns import TARGET
from tests.ads_factory import make_ads

ADS = make_ads(600)
ROWS = np.flatnonzero(np.arange(len(ADS)) % 3 > 0)
CHOSEN = ADS.iloc[ROWS].reset_index(drop=True)


@pytest.fixture(scope="module", params=["memory", "file"])
def known(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> TrainingAds:
    if request.param == "memory":
        return TrainingAds(CHOSEN)
    folder = tmp_path_factory.mktemp("typed")
    return TrainingAds(TypedAds.write(folder / "ads.parquet", [ADS]), ROWS)


def titles(ads: list[AdColumns]) -> list[str | None]:
    return [title for part in ads for title in part.text["title"]]


def test_targets_and_sellers_are_those_of_the_ads(known: TrainingAds) -> None:
    assert known.rows == len(CHOSEN)
    np.testing.assert_array_equal(known.target, CHOSEN[TARGET])
    same = pd.Series(known.sellers).groupby(CHOSEN["user_id"].to_numpy()).nunique()
    assert (same == 1).all()
    assert len(np.unique(known.sellers)) == CHOSEN["user_id"].nunique()


def test_blocks_keep_the_order(known: TrainingAds) -> None:
    assert titles(list(known.blocks())) == CHOSEN["title"].tolist()


def test_batches_are_all_ads_once_mixed_and_know_where_they_stand(known: TrainingAds) -> None:
    read = list(known.batches(64, np.random.default_rng(1)))
    position = np.concatenate([at for at, _ in read])
    assert sorted(position) == list(range(known.rows))
    assert (position != np.arange(known.rows)).any()
    assert max(ads.rows for _, ads in read) == 64
    assert titles([ads for _, ads in read]) == CHOSEN["title"].iloc[position].tolist()


def test_a_file_of_several_groups_is_mixed_across_them(tmp_path: Path) -> None:
    many = pd.concat([ADS] * (2 * GROUP_ROWS // len(ADS) + 1), ignore_index=True)
    known = TrainingAds(TypedAds.write(tmp_path / "ads.parquet", [many]))
    first, _ = next(known.batches(512, np.random.default_rng(0)))
    assert first.min() < GROUP_ROWS <= first.max()
