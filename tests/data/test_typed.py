from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from demand.data import typed
from demand.data.reading import read_ads
from demand.data.typed import TypedAds, store_ads
from demand.errors import AdsFileError, StateError
from demand.schema.columns import COLUMN_NAMES, TARGET
from tests.ads_factory import make_ads
from tests.data.files import ad, csv_text, write
from tests.full_disk import full_disk

ADS = make_ads(100, seed=6)
GROUP = 7


@pytest.fixture(autouse=True)
def _small_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(typed, "GROUP_ROWS", GROUP)


@pytest.fixture(name="ads")
def _ads(tmp_path: Path) -> TypedAds:
    return TypedAds.write(tmp_path / "ads.parquet", [ADS.iloc[:30], ADS.iloc[30:32], ADS.iloc[32:]])


def test_what_was_written_is_read_as_it_was(ads: TypedAds) -> None:
    pd.testing.assert_frame_equal(ads.frame(), ADS)
    assert (ads.rows, ads.columns) == (100, COLUMN_NAMES)


def test_what_a_reader_types_comes_back(tmp_path: Path) -> None:
    cells = [ad(), ad(price="", title="NA", description="", activation_date="никогда")]
    frame = read_ads(write(tmp_path, csv_text(cells))).frame
    again = TypedAds.write(tmp_path / "ads.parquet", [frame]).frame()
    pd.testing.assert_frame_equal(again, frame)


def test_a_file_is_stored_as_a_reader_reads_it(tmp_path: Path) -> None:
    cells = [ad(item_id=f"{row:04}", price="1" if row % 3 else "дорого") for row in range(20)]
    text = csv_text(cells[:9]) + csv_text(cells[9:])  # the header is there again
    path = write(tmp_path, text)
    whole = read_ads(path)
    ads, rest = store_ads(path, tmp_path / "ads.parquet")
    pd.testing.assert_frame_equal(ads.frame(), whole.frame)
    pd.testing.assert_frame_equal(rest.unparsed, whole.unparsed)
    np.testing.assert_array_equal(rest.lines, whole.lines)
    assert (len(whole.unparsed), len(rest.frame)) == (7, 0)
    assert (rest.md5, rest.repeated_headers) == (whole.md5, whole.repeated_headers)


def test_of_a_file_that_cannot_be_read_nothing_is_stored(tmp_path: Path) -> None:
    path = write(tmp_path, csv_text([ad()]) + "one,two\n")
    with pytest.raises(AdsFileError, match="a row of 2 fields"):
        store_ads(path, tmp_path / "ads.parquet")
    assert list(tmp_path.iterdir()) == [path]


TEXTS = st.lists(st.none() | st.text(max_size=5), min_size=1, max_size=30)
NUMBERS = st.floats(allow_infinity=False)


@given(TEXTS, NUMBERS, st.data())
def test_any_text_and_number_comes_back(
    tmp_path_factory: pytest.TempPathFactory,
    titles: list[str | None],
    price: float,
    data: st.DataObject,
) -> None:
    frame = pd.DataFrame({"title": np.array(titles, dtype=object), "price": price})
    cut = data.draw(st.integers(0, len(frame)))
    path = tmp_path_factory.mktemp("any") / "ads.parquet"
    ads = TypedAds.write(path, [frame.iloc[:cut], frame.iloc[cut:]])
    pd.testing.assert_frame_equal(ads.frame(), frame)


def test_all_groups_but_the_last_are_whole(ads: TypedAds) -> None:
    blocks = list(ads.blocks())
    assert [len(block) for block in blocks] == [GROUP] * 14 + [2]
    assert all(block.index.equals(pd.RangeIndex(len(block))) for block in blocks)
    pd.testing.assert_frame_equal(pd.concat(blocks, ignore_index=True), ADS)


@given(st.sets(st.integers(0, 99)), st.permutations(["title", "price", "activation_date"]))
def test_rows_and_columns_are_those_asked_for(
    tmp_path_factory: pytest.TempPathFactory, chosen: set[int], columns: list[str]
) -> None:
    ads = TypedAds.write(tmp_path_factory.mktemp("some") / "ads.parquet", [ADS])
    rows = np.array(sorted(chosen), dtype=np.int64)
    expected = ADS.loc[rows, columns].reset_index(drop=True)
    pd.testing.assert_frame_equal(ads.frame(rows, columns), expected, check_index_type=False)
    blocks = [*ads.blocks(rows, columns), expected.iloc[:0]]
    assert all(len(block) for block in blocks[:-1])
    pd.testing.assert_frame_equal(pd.concat(blocks, ignore_index=True), expected)


def test_no_rows_have_the_types_of_the_others(ads: TypedAds) -> None:
    nothing = ads.frame(np.array([], dtype=np.int64))
    assert (len(nothing), nothing.dtypes.to_dict()) == (0, ADS.dtypes.to_dict())
    assert list(ads.blocks(np.array([], dtype=np.int64))) == []


@pytest.mark.parametrize("rows", [[3, 2], [3, 3], [-1, 4], [99, 100]])
def test_other_rows_are_refused(ads: TypedAds, rows: list[int]) -> None:
    with pytest.raises(ValueError, match="rows must ascend, from 0 to at most 99"):
        ads.frame(np.array(rows))


def test_a_column_that_is_not_there_is_refused(ads: TypedAds) -> None:
    with pytest.raises(KeyError, match="colour"):
        ads.frame(columns=["colour"])


def test_shuffled_ads_are_each_there_once_under_their_own_number(ads: TypedAds) -> None:
    rows = np.arange(0, 100, 3)
    frames = list(ads.shuffled(rows, np.random.default_rng(5), ["title", TARGET], 4))
    together = pd.concat(frames)
    assert together.index.tolist() != rows.tolist()
    pd.testing.assert_frame_equal(together.sort_index(), ADS.loc[rows, ["title", TARGET]])


def test_shuffled_ads_are_mixed_over_several_groups(ads: TypedAds) -> None:
    first, *others = ads.shuffled(None, np.random.default_rng(5), groups_at_once=5)
    assert len(others) == 2
    groups = first.index.to_numpy() // GROUP
    assert len(set(groups)) == 5
    # Sorted by group, four borders would lie between neighbours of different groups.
    assert (np.diff(groups) != 0).sum() > 15


def test_the_same_seed_shuffles_alike(ads: TypedAds) -> None:
    one, other = (list(ads.shuffled(None, np.random.default_rng(1))) for _ in range(2))
    for mine, theirs in zip(one, other, strict=True):
        pd.testing.assert_frame_equal(mine, theirs)


def test_a_table_without_rows_can_be_written(tmp_path: Path) -> None:
    ads = TypedAds.write(tmp_path / "ads.parquet", [ADS.iloc[:0]])
    assert (ads.rows, len(ads.frame()), list(ads.blocks())) == (0, 0, [])


def test_what_fails_in_the_middle_leaves_no_file(tmp_path: Path) -> None:
    def broken() -> Iterator[pd.DataFrame]:
        yield ADS
        raise RuntimeError

    with pytest.raises(RuntimeError):
        TypedAds.write(tmp_path / "ads.parquet", broken())
    assert list(tmp_path.iterdir()) == []


def test_nothing_to_write_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no frame of ads"):
        TypedAds.write(tmp_path / "ads.parquet", [])


def test_a_full_disk_is_told_and_leaves_no_file(tmp_path: Path) -> None:
    with full_disk(), pytest.raises(StateError, match=r"cannot write .*ads\.parquet"):
        TypedAds.write(tmp_path / "ads.parquet", [ADS])
    assert list(tmp_path.iterdir()) == []
