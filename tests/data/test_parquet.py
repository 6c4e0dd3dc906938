"""Parquet of any writer is read, and no more of it is unpacked than is allowed."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from demand.data.archives import OpenedAds
from demand.data.parquet import open_parquet
from demand.data.reading import read_ads
from demand.data.tables import Bounds
from demand.errors import AdsBombError, AdsFileError
from tests.ads_factory import make_ads

ADS = make_ads(9_001, seed=3)


def written(folder: Path, frame: pd.DataFrame, **options: object) -> Path:
    path = folder / "ads.parquet"
    table = pa.Table.from_pandas(frame, preserve_index=False)
    pq.write_table(table, path, **options)
    return path


def opened(content: bytes) -> OpenedAds:
    return OpenedAds(io.BufferedReader(io.BytesIO(content)), "the body", "", True, len(content))


@pytest.fixture(scope="module", name="expected")
def _expected(tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    path = tmp_path_factory.mktemp("csv") / "ads.csv"
    ADS.to_csv(path, index=False)
    return read_ads(path).frame


@pytest.mark.parametrize(
    "options",
    [
        {"compression": "none", "write_statistics": False},
        {"compression": "gzip", "row_group_size": 1_000},
        {"compression": "zstd", "data_page_version": "2.0", "data_page_size": 1_000},
        {"compression": "brotli", "use_dictionary": False, "write_page_index": True},
        {"compression": "lz4", "version": "1.0", "write_page_checksum": True},
        {"use_dictionary": ["title"], "store_schema": False},
        {"use_dictionary": False, "column_encoding": {"description": "DELTA_BYTE_ARRAY"}},
        {"use_dictionary": False, "column_encoding": {"title": "DELTA_LENGTH_BYTE_ARRAY"}},
    ],
    ids=str,
)
def test_parquet_is_the_same_however_it_is_written(
    tmp_path: Path, expected: pd.DataFrame, options: dict[str, object]
) -> None:
    frame = read_ads(written(tmp_path, ADS, **options)).frame
    pd.testing.assert_frame_equal(frame, expected, check_exact=True)


def test_groups_of_rows_may_be_coded_differently(tmp_path: Path, expected: pd.DataFrame) -> None:
    path = tmp_path / "ads.parquet"
    table = pa.Table.from_pandas(ADS, preserve_index=False)
    few = table.set_column(9, "title", pa.array([None] * len(table), pa.string()))
    with pq.ParquetWriter(path, table.schema, use_dictionary=["region"]) as writer:
        writer.write_table(table.slice(0, 4_500))
        writer.write_table(few.slice(0, 1))
        writer.write_table(table.slice(4_500))
    frame = read_ads(path).frame.drop(index=4_500).reset_index(drop=True)
    pd.testing.assert_frame_equal(frame, expected, check_exact=True)


def test_categories_of_pandas_are_texts(tmp_path: Path, expected: pd.DataFrame) -> None:
    frame = ADS.astype({"region": "category", "param_1": "category"})
    found = read_ads(written(tmp_path, frame)).frame
    pd.testing.assert_frame_equal(found, expected, check_exact=True)


def test_an_index_without_a_name_is_no_column(tmp_path: Path) -> None:
    shuffled = ADS.head(20).sample(frac=1.0, random_state=1)
    shuffled.to_parquet(tmp_path / "ads.parquet")
    loaded = read_ads(tmp_path / "ads.parquet")
    assert loaded.ignored_columns == ()
    assert loaded.frame["item_id"].tolist() == shuffled["item_id"].tolist()


def test_more_rows_than_allowed_are_refused_by_the_footer(tmp_path: Path) -> None:
    content = written(tmp_path, ADS.head(11)).read_bytes()
    with pytest.raises(AdsBombError, match="11 ads in the body; at most 10: send them in parts"):
        open_parquet(opened(content), Bounds(10**6, rows=10))
    assert open_parquet(opened(content), Bounds(10**6, rows=11)).header == tuple(ADS)


def test_more_columns_than_allowed_are_refused_by_the_footer(tmp_path: Path) -> None:
    content = written(tmp_path, ADS.head(2)).read_bytes()
    with pytest.raises(AdsBombError, match="18 columns in the body; at most 17"):
        open_parquet(opened(content), Bounds(10**6, columns=17))


def test_texts_of_more_bytes_than_allowed_are_refused(tmp_path: Path) -> None:
    # Each value is there once; no ratio makes it a bomb.
    texts = np.random.default_rng(1).bytes(300_000).hex()
    frame = pd.DataFrame({"title": [texts] * 100, "category_name": "Книги"})
    content = written(tmp_path, frame).read_bytes()
    table = open_parquet(opened(content), Bounds(10**7))
    with pytest.raises(AdsBombError, match=r"holds .* GB, more than the 0\.01 GB allowed"):
        list(table.read(tuple(frame)))


@pytest.mark.parametrize("place", [0.1, 0.5, 0.9])
def test_noise_in_the_pages_is_damage(tmp_path: Path, place: float) -> None:
    content = bytearray(written(tmp_path, ADS, compression="none").read_bytes())
    footer = int.from_bytes(content[-8:-4], "little")
    at = 4 + int(place * (len(content) - footer - 70_000))
    content[at : at + 60_000] = np.random.default_rng(7).bytes(60_000)
    path = tmp_path / "noise.parquet"
    path.write_bytes(content)
    with pytest.raises(AdsFileError, match=r"noise\.parquet"):
        read_ads(path)
