"""Kilobytes of Parquet that would become gigabytes, in files and in requests."""

from __future__ import annotations

import io
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

# Seconds of the processor: a busy machine makes no bomb of a file.
MB_MAX, SECONDS_MAX = 300, 5.0
# Only what reading adds counts, not the libraries.
READ = """
import resource, sys, time
from pathlib import Path
import pandas, pyarrow.compute, pyarrow.parquet
from demand.errors import DemandError
from demand.data.reading import read_ads
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
begun = time.process_time()
try:
    read_ads(Path(sys.argv[1]), labelled=False)
    said = "read"
except DemandError as error:
    said = type(error).__name__
took = time.process_time() - begun
print(said, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024, took)
"""


def same_title(rows: int, letters: int) -> pa.Table:
    same = pa.array([0] * rows, pa.int32())
    texts = {"title": "x" * letters, "category_name": "Книги"}
    return pa.table(
        {n: pa.DictionaryArray.from_arrays(same, pa.array([text])) for n, text in texts.items()}
    )


def parquet(table: pa.Table, **options: object) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(table, buffer, **{"compression": "zstd", "store_schema": False, **options})
    return buffer.getvalue()


def many_of_one_dictionary() -> bytes:
    return parquet(same_title(50_000, 200_000), row_group_size=50_000)


def few_of_one_dictionary() -> bytes:
    return parquet(same_title(500, 20_000_000))


def a_dictionary_of_pandas() -> bytes:
    return parquet(same_title(50_000, 200_000), store_schema=True)


def many_groups_of_rows() -> bytes:
    return parquet(same_title(50_000, 200_000), row_group_size=1_000)


def shared_beginnings() -> bytes:
    titles = [f"{'x' * 300_000}{row}" for row in range(1_000)]
    encoding = {"title": "DELTA_BYTE_ARRAY", "category_name": "DELTA_BYTE_ARRAY"}
    table = pa.table({"title": titles, "category_name": ["Книги"] * len(titles)})
    return parquet(table, use_dictionary=False, column_encoding=encoding)


def values_of_a_fixed_length() -> bytes:
    rows, letters = 200, 2_000_000
    title = pa.array([b"x" * letters] * rows, pa.binary(letters))
    return parquet(pa.table({"title": title, "category_name": ["Книги"] * rows}))


def one_huge_title() -> bytes:
    table = pa.table({"title": ["x" * 400_000_000], "category_name": ["Книги"]})
    return parquet(table, use_dictionary=False)


def many_rows_without_values() -> bytes:
    rows = 20_000_000
    nulls = pa.nulls(rows, pa.string())
    return parquet(pa.table({"title": nulls, "category_name": nulls}), row_group_size=rows)


@pytest.mark.parametrize(
    "bomb",
    [
        many_of_one_dictionary,
        few_of_one_dictionary,
        a_dictionary_of_pandas,
        many_groups_of_rows,
        shared_beginnings,
        values_of_a_fixed_length,
        one_huge_title,
        many_rows_without_values,
    ],
)
def test_a_bomb_is_refused_before_it_is_unpacked(tmp_path: Path, bomb: Callable[[], bytes]) -> None:
    path = tmp_path / "ads.parquet"
    path.write_bytes(bomb())
    assert path.stat().st_size < 200_000
    run = [sys.executable, "-c", READ, str(path)]
    told = subprocess.run(run, capture_output=True, text=True, timeout=300, check=True).stdout
    said, megabytes, seconds = told.split()
    assert said == "AdsBombError"
    assert float(megabytes) < MB_MAX
    assert float(seconds) < SECONDS_MAX
