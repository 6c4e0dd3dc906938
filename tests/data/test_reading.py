"""Reading files of ads: what is kept, what is named as a flaw."""

from __future__ import annotations

import csv
import hashlib
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from demand.data.reading import read_ads, stream_ads
from demand.errors import AdsFileError
from demand.schema.cells import parser_of
from demand.schema.columns import COLUMN, COLUMN_NAMES, COLUMNS, REQUEST_REQUIRED, TARGET
from demand.workspace.workspace import PROJECT_ROOT
from tests.data.files import (
    AD,
    ad,
    as_csv_with_bom,
    as_gz,
    as_parquet,
    as_parquet_in_gz,
    as_parquet_in_zip,
    as_parquet_of_text,
    as_zip,
    csv_text,
    under_another_name,
    with_blank_lines,
    with_unix_line_ends,
    write,
)

REAL_ADS = PROJECT_ROOT.parent / "shared" / "avito" / "ads.csv"


# ---------------------------------------------------------------- what is read


def test_an_ad_is_read_with_the_kinds_of_the_schema(tmp_path: Path) -> None:
    frame = read_ads(write(tmp_path, csv_text([ad()]))).frame
    row = frame.iloc[0].to_dict()
    assert row == {
        **AD,
        "param_2": None,
        "param_3": None,
        "image": None,
        "price": 950.0,
        "item_seq_number": 2.0,
        "activation_date": pd.Timestamp("2017-03-21"),
        "image_top_1": 731.0,
        "deal_probability": 0.31,
    }


def test_dtypes_do_not_depend_on_the_values(tmp_path: Path) -> None:
    empty = dict.fromkeys(COLUMN_NAMES, "") | {"title": "Диван"}
    frame = read_ads(write(tmp_path, csv_text([empty]))).frame
    expected = {"text": "object", "number": "float64", "integer": "float64"}
    assert frame.dtypes.astype(str).to_dict() == {
        c.name: expected.get(c.kind, "datetime64[ns]") for c in COLUMNS
    }


TEXT_COLUMNS = tuple(c.name for c in COLUMNS if c.kind == "text")
texts = st.text(
    st.one_of(
        st.characters(exclude_characters="\0", exclude_categories=["Cs"]),
        st.sampled_from(list('",;\t\r\n🦉ё\u2028\ufeff ')),
    ),
    max_size=30,
)
finite = st.floats(allow_nan=False, allow_infinity=False).map(lambda value: value + 0.0)
days = st.dates(pd.Timestamp("1678-01-01").date(), pd.Timestamp("2261-12-31").date())
written_ads = st.fixed_dictionaries(
    dict.fromkeys(TEXT_COLUMNS, texts)
    | {name: finite.map(repr) for name in ("price", TARGET)}
    | {name: st.integers(-(10**9), 10**9).map(str) for name in ("item_seq_number", "image_top_1")}
    | {"activation_date": days.map(str)}
)


@given(ads=st.lists(written_ads, min_size=1, max_size=5), order=st.permutations(COLUMN_NAMES))
def test_any_ads_written_by_a_csv_writer_are_read_back_the_same(
    ads: list[dict[str, str]], order: list[str]
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        loaded = read_ads(write(Path(folder), csv_text(ads, tuple(order))))
    assert loaded.unparsed.empty
    assert tuple(loaded.frame.columns) == COLUMN_NAMES
    for name in TEXT_COLUMNS:
        parse = parser_of(COLUMN[name])
        assert loaded.frame[name].tolist() == [parse(a[name])[0] for a in ads]
    for name in ("price", TARGET, "item_seq_number", "image_top_1"):
        assert loaded.frame[name].tolist() == [float(a[name]) for a in ads]
    assert loaded.frame["activation_date"].dt.strftime("%Y-%m-%d").tolist() == [
        a["activation_date"] for a in ads
    ]


@pytest.mark.parametrize(
    "other",
    [
        as_zip,
        as_gz,
        as_parquet,
        as_parquet_of_text,
        as_parquet_in_zip,
        as_parquet_in_gz,
        as_csv_with_bom,
        with_unix_line_ends,
        with_blank_lines,
        under_another_name,
    ],
)
def test_the_same_ads_in_another_wrapping_are_the_same(
    plain: Path, other: Callable[[Path], Path]
) -> None:
    expected = read_ads(plain).frame
    pd.testing.assert_frame_equal(read_ads(other(plain)).frame, expected, check_exact=True)


def test_numbers_of_any_width_and_categories_in_parquet_are_read(tmp_path: Path) -> None:
    columns: dict[str, object] = {name: [AD[name]] for name in COLUMN_NAMES}
    columns |= {
        "price": pa.array([950], pa.int16()),
        "item_seq_number": pa.array([2.0], pa.float32()),
        "activation_date": pa.array([pd.Timestamp("2017-03-21").date()], pa.date32()),
        "user_type": pa.array(["Private"]).dictionary_encode(),
        "param_3": pa.nulls(1),
        "deal_probability": pa.array([0.31], pa.float32()),
    }
    pq.write_table(pa.table(columns), tmp_path / "ads.parquet")
    expected = read_ads(write(tmp_path, csv_text([ad()]))).frame
    actual = read_ads(tmp_path / "ads.parquet").frame
    pd.testing.assert_frame_equal(actual, expected, check_exact=True)


def test_an_infinite_number_in_parquet_is_named(tmp_path: Path) -> None:
    frame = read_ads(write(tmp_path, csv_text([ad()]))).frame.assign(price=np.inf)
    frame.to_parquet(tmp_path / "ads.parquet")
    unparsed = read_ads(tmp_path / "ads.parquet").unparsed
    assert unparsed[["row", "line", "column", "value", "reason"]].to_numpy().tolist() == [
        [0, 2, "price", "inf", "infinite"]
    ]


def test_extra_columns_are_ignored_and_named(tmp_path: Path) -> None:
    content = csv_text([ad() | {"": "0", "note": "x"}], ("", *COLUMN_NAMES, "note"))
    loaded = read_ads(write(tmp_path, content))
    assert (loaded.ignored_columns, tuple(loaded.frame)) == (("", "note"), COLUMN_NAMES)


def test_the_md5_is_that_of_the_file_as_it_lies_there(plain: Path) -> None:
    path = as_gz(plain)
    loaded = read_ads(path)
    expected = hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()
    assert loaded.md5 == expected


@pytest.mark.parametrize("blank", ["", " ", "\n", "\u00a0\t"])
def test_text_of_white_space_only_is_missing(tmp_path: Path, blank: str) -> None:
    frame = read_ads(write(tmp_path, csv_text([ad(description=blank)]))).frame
    assert frame.loc[0, "description"] is None


def test_a_description_of_five_megabytes_is_read(tmp_path: Path) -> None:
    long = "слово\n" * 500_000
    frame = read_ads(write(tmp_path, csv_text([ad(description=long)]))).frame
    assert frame.loc[0, "description"] == long


def test_long_texts_leave_the_limit_of_the_csv_module_as_it_was(plain: Path) -> None:
    before = csv.field_size_limit()
    read_ads(plain)
    assert csv.field_size_limit() == before


def test_rows_of_many_chunks_stay_in_order(tmp_path: Path) -> None:
    rows = 9_001
    content = csv_text([ad(item_id=f"id{i}", price=str(i)) for i in range(rows)])
    frame = read_ads(write(tmp_path, content)).frame
    assert frame["item_id"].tolist() == [f"id{i}" for i in range(rows)]
    assert frame["price"].tolist() == list(range(rows))
    assert isinstance(frame.index, pd.RangeIndex)


@pytest.mark.parametrize("wrapped", [Path, as_parquet_of_text])
def test_a_file_comes_in_parts_that_say_where_they_are(
    tmp_path: Path, wrapped: Callable[[Path], Path]
) -> None:
    rows = [ad(item_id=str(i), description="") for i in range(9_000)]
    rows[8_500]["price"] = "?"
    path = wrapped(
        write(tmp_path, csv_text([*rows[:6_000], {name: name for name in AD}, *rows[6_000:]]))
    )
    whole, parts = read_ads(path), list(stream_ads(path))
    assert max(len(part.frame) for part in parts) < 5_000
    assert [int(part.frame["item_id"].iloc[0]) for part in parts] == [p.first_row for p in parts]
    joined = pd.concat([part.frame for part in parts], ignore_index=True)
    pd.testing.assert_frame_equal(joined, whole.frame, check_exact=True)
    (flaw,) = (int(row) + part.first_row for part in parts for row in part.unparsed["row"])
    assert (flaw, len(parts[0].unparsed)) == (8_500, 0)
    headers = tuple(place for part in parts for place in part.repeated_headers)
    assert headers == whole.repeated_headers != ()
    if whole.lines is not None:
        assert np.concatenate([part.lines for part in parts]).tolist() == whole.lines.tolist()


# ------------------------------------------------------------- a header said again


def _two_exports(first: str, second: str) -> str:
    return first.rstrip("\r\n") + "\r\n" + second


@pytest.mark.parametrize("labelled", [True, False])
def test_a_header_between_the_ads_is_left_out_and_told(tmp_path: Path, labelled: bool) -> None:
    exports = [csv_text([ad(item_id=str(i), description="")]) for i in range(3)]
    content = _two_exports(_two_exports(exports[0], "\ufeff" + exports[1]), exports[2])
    loaded = read_ads(write(tmp_path, content), labelled=labelled)
    assert loaded.frame["item_id"].tolist() == ["0", "1", "2"]
    assert loaded.repeated_headers == (3, 5)
    assert loaded.lines is not None
    assert loaded.lines.tolist() == [2, 4, 6]
    assert loaded.unparsed.empty


def test_a_header_is_left_out_in_any_chunk_and_in_parquet(tmp_path: Path) -> None:
    rows = [ad(item_id=str(i), description="") for i in range(9_000)]
    content = _two_exports(csv_text(rows[:5_000]), csv_text(rows[5_000:]))
    path = write(tmp_path, content)
    from_csv, from_parquet = read_ads(path), read_ads(as_parquet_of_text(path))
    assert from_csv.frame["item_id"].tolist() == [row["item_id"] for row in rows]
    assert (from_csv.repeated_headers, from_parquet.repeated_headers) == ((5_002,), (5_001,))
    pd.testing.assert_frame_equal(from_csv.frame, from_parquet.frame)


def test_columns_that_an_ad_does_not_have_do_not_hide_a_header(tmp_path: Path) -> None:
    columns = ("note", *COLUMN_NAMES)
    content = csv_text([ad() | {"note": "a"}], columns)
    other = content.replace("note,", "remark,")
    assert len(read_ads(write(tmp_path, _two_exports(content, other))).frame) == 2


def test_an_ad_with_one_word_of_the_header_is_an_ad(tmp_path: Path) -> None:
    content = csv_text([ad(category_name="title"), ad(title="title"), ad(description="price")])
    assert len(read_ads(write(tmp_path, content)).frame) == 3


# ------------------------------------------------------------- without labels


def test_without_labels_title_and_category_are_enough(tmp_path: Path) -> None:
    loaded = read_ads(write(tmp_path, csv_text([ad()], REQUEST_REQUIRED)), labelled=False)
    assert tuple(loaded.frame) == COLUMN_NAMES[:-1]
    present = loaded.frame.loc[0].dropna().to_dict()
    assert present == {name: AD[name] for name in REQUEST_REQUIRED}


def test_without_labels_a_target_is_dropped(plain: Path) -> None:
    labelled = read_ads(plain).frame
    unlabelled = read_ads(plain, labelled=False).frame
    pd.testing.assert_frame_equal(unlabelled, labelled.drop(columns=TARGET))


def test_without_labels_a_missing_title_column_is_still_refused(tmp_path: Path) -> None:
    path = write(tmp_path, csv_text([ad()], ("item_id", "category_name")))
    with pytest.raises(AdsFileError, match=r"lacks 1 of the 2 columns needed: title;"):
        read_ads(path, labelled=False)


# --------------------------------------------------- cells that are not understood


@pytest.mark.parametrize(
    ("column", "value", "reason"),
    [
        ("price", "договорная", "text where a number is expected"),
        ("price", "1e400", "too large for a 64-bit number"),
        ("price", "inf", "infinite"),
        ("price", "-Infinity", "infinite"),
        ("price", "-0.0", "negative zero: write 0"),
        ("price", "1 300,50", "decimal comma: write 1300.50"),
        ("price", "1\u00a0300", "thousands separator: write 1300.50"),
        ("price", "1,300", "thousands separator: write 1300.50"),
        ("price", "1_000", "thousands separator: write 1300.50"),
        ("price", "0x10", "text where a number is expected"),
        ("price", "١٢", "text where a number is expected"),
        ("price", "1" * 101, "101 characters are no number"),
        ("price", "4\0", "NUL byte in the number"),
        ("item_seq_number", "2.5", "not a whole number"),
        ("image_top_1", "many", "text where a number is expected"),
        ("activation_date", "28.03.2017", "not a date like 2017-03-28"),
        ("activation_date", "2017-02-30", "no such day in the calendar"),
        ("activation_date", "0001-01-01", "outside the years 1678 to 2261"),
        ("deal_probability", "half", "text where a number is expected"),
    ],
)
def test_a_cell_that_is_not_understood_is_missing_and_named(
    tmp_path: Path, column: str, value: str, reason: str
) -> None:
    path = write(tmp_path, csv_text([ad(item_id="first"), ad(**{column: value})]))
    loaded = read_ads(path)
    assert loaded.frame[column].isna().tolist() == [False, True]
    assert loaded.unparsed.to_dict("records") == [
        {
            "row": 1,
            # The first ad's description has a line break.
            "line": 4,
            "item_id": AD["item_id"],
            "column": column,
            "value": value[:80],
            "reason": reason,
        }
    ]


@pytest.mark.parametrize("value", ["", "NaN", "nan", "NA", "null", " "])
def test_an_empty_or_missing_number_is_no_flaw(tmp_path: Path, value: str) -> None:
    loaded = read_ads(write(tmp_path, csv_text([ad(price=value, activation_date=value)])))
    assert loaded.unparsed.empty
    assert loaded.frame[["price", "activation_date"]].isna().all(axis=None)


def test_a_negative_number_is_left_to_the_validation(tmp_path: Path) -> None:
    loaded = read_ads(write(tmp_path, csv_text([ad(price="-5", deal_probability="1.5")])))
    assert loaded.unparsed.empty
    assert loaded.frame[["price", TARGET]].to_numpy().tolist() == [[-5.0, 1.5]]


def test_a_nul_byte_in_a_text_is_removed_and_named(tmp_path: Path) -> None:
    loaded = read_ads(write(tmp_path, csv_text([ad(title="Ди\0ван")])))
    assert loaded.frame.loc[0, "title"] == "Диван"
    assert loaded.unparsed[["column", "reason"]].to_numpy().tolist() == [
        ["title", "NUL byte in the text"]
    ]


def test_flaws_beyond_the_first_chunk_have_their_row_and_line(tmp_path: Path) -> None:
    rows = [ad(item_id=str(i), description="") for i in range(10_000)]
    rows[7_777]["price"] = rows[7_777]["activation_date"] = "?"
    unparsed = read_ads(write(tmp_path, csv_text(rows))).unparsed
    assert unparsed[["row", "line", "item_id", "column"]].to_numpy().tolist() == [
        [7_777, 7_779, "7777", "price"],
        [7_777, 7_779, "7777", "activation_date"],
    ]


def test_the_line_of_every_ad_is_told_across_chunks_blank_lines_and_texts_of_many_lines(
    tmp_path: Path,
) -> None:
    rows = [ad(item_id=str(i), description="а\nб" if i % 3 else "") for i in range(9_000)]
    header, _, below = csv_text(rows).partition("\r\n")
    content = f"{header}\r\n\r\n{below}"
    lines = read_ads(write(tmp_path, content)).lines
    assert lines is not None
    assert lines.dtype == np.int64
    written = content.split("\n")
    begins = [i for i, line in enumerate(written, 1) if line[:1].isdecimal()]
    assert lines.tolist() == begins


def test_parquet_has_no_lines(plain: Path) -> None:
    assert read_ads(as_parquet(plain)).lines is None


# --------------------------------------------------------------------- real ads


@pytest.mark.skipif(not REAL_ADS.exists(), reason="the real ads are not on this machine")
def test_the_real_ads_are_read_as_pandas_reads_them() -> None:
    loaded = read_ads(REAL_ADS)
    assert loaded.frame.shape == (8006, 18)
    assert loaded.unparsed.empty
    assert loaded.ignored_columns == ()
    expected = pd.read_csv(
        REAL_ADS,
        dtype={c.name: str if c.kind == "text" else "float64" for c in COLUMNS if c.kind != "date"},
        parse_dates=[name for name in COLUMN_NAMES if COLUMN[name].kind == "date"],
        keep_default_na=False,
        na_values=[""],
        float_precision="round_trip",
    )
    pd.testing.assert_frame_equal(
        loaded.frame, expected.replace({np.nan: None}).astype(loaded.frame.dtypes.to_dict())
    )
