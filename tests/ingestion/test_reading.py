"""Reading files of ads: what is kept, what is named as a flaw, what is refused."""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import os
import struct
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from demand.ads import COLUMN, COLUMN_NAMES, COLUMNS, REQUEST_REQUIRED, TARGET
from demand.errors import AdsFileError
from demand.ingestion.reading import read_ads
from demand.state import PROJECT_ROOT

REAL_ADS = PROJECT_ROOT.parent / "shared" / "avito" / "ads.csv"
AD = {
    "item_id": "0a1b2c3d4e5f",
    "user_id": "f5e4d3c2b1a0",
    "region": "Самарская область",
    "city": "Тольятти",
    "parent_category_name": "Личные вещи",
    "category_name": "Товары для детей и игрушки",
    "param_1": "Детские коляски",
    "param_2": "",
    "param_3": "",
    "title": 'Слинг-шарф "сова"',
    "description": "Слинг в полоску, почти новый,\nпользовались мало 🦉",
    "price": "950.0",
    "item_seq_number": "2",
    "activation_date": "2017-03-21",
    "user_type": "Private",
    "image": "",
    "image_top_1": "731.0",
    "deal_probability": "0.31",
}


def ad(**changes: str) -> dict[str, str]:
    return AD | changes


def csv_text(ads: list[dict[str, str]], columns: tuple[str, ...] = COLUMN_NAMES) -> str:
    buffer = io.StringIO(newline="")
    writer = csv.DictWriter(buffer, columns, extrasaction="ignore")
    writer.writeheader()
    writer.writerows(ads)
    return buffer.getvalue()


def write(folder: Path, content: str | bytes, name: str = "ads.csv") -> Path:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def zipped(folder: Path, members: dict[str, bytes], name: str = "ads.zip") -> Path:
    path = folder / name
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for member, content in members.items():
            archive.writestr(member, content)
    return path


def varied_ads(rows: int) -> list[dict[str, str]]:
    # Texts that deflate badly, so that a file cut in half is cut inside the data.
    return [
        ad(item_id=f"{i:012x}", description=hashlib.sha256(str(i).encode()).hexdigest())
        for i in range(rows)
    ]


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
        expected = [a[name] if a[name].strip() else None for a in ads]
        assert loaded.frame[name].tolist() == expected
    for name in ("price", TARGET, "item_seq_number", "image_top_1"):
        assert loaded.frame[name].tolist() == [float(a[name]) for a in ads]
    assert loaded.frame["activation_date"].dt.strftime("%Y-%m-%d").tolist() == [
        a["activation_date"] for a in ads
    ]


@pytest.fixture(name="plain")
def _plain(tmp_path: Path) -> Path:
    return write(tmp_path, csv_text([ad(), ad(item_id="2", price="", title="NA")]))


def _as_zip(plain: Path) -> Path:
    content = plain.read_bytes()
    extras = {"__MACOSX/._train.csv": b"\0\0", "readme.txt": b"ads"}
    return zipped(plain.parent, {"train.csv": content} | extras)


def _as_gz(plain: Path) -> Path:
    return write(plain.parent, gzip.compress(plain.read_bytes()), "ads.csv.gz")


def _as_parquet(plain: Path) -> Path:
    read_ads(plain).frame.to_parquet(plain.with_suffix(".parquet"))
    return plain.with_suffix(".parquet")


def _as_parquet_of_text(plain: Path) -> Path:
    path = plain.with_suffix(".parquet")
    pd.read_csv(plain, dtype=str, keep_default_na=False).to_parquet(path)
    return path


def _as_parquet_in_zip(plain: Path) -> Path:
    return zipped(plain.parent, {"ads.parquet": _as_parquet(plain).read_bytes()})


def _as_parquet_in_gz(plain: Path) -> Path:
    return write(plain.parent, gzip.compress(_as_parquet(plain).read_bytes()), "ads.parquet.gz")


def _as_csv_with_bom(plain: Path) -> Path:
    return write(plain.parent, b"\xef\xbb\xbf" + plain.read_bytes(), "bom.csv")


def _with_unix_line_ends(plain: Path) -> Path:
    return write(plain.parent, plain.read_bytes().replace(b"\r\n", b"\n"), "unix.csv")


def _under_another_name(plain: Path) -> Path:
    return _as_zip(plain).rename(plain.parent / "download.csv")


def _with_blank_lines(plain: Path) -> Path:
    return write(plain.parent, plain.read_bytes() + b"\r\n\r\n", "blank.csv")


@pytest.mark.parametrize(
    "other",
    [
        _as_zip,
        _as_gz,
        _as_parquet,
        _as_parquet_of_text,
        _as_parquet_in_zip,
        _as_parquet_in_gz,
        _as_csv_with_bom,
        _with_unix_line_ends,
        _with_blank_lines,
        _under_another_name,
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
    path = _as_gz(plain)
    loaded = read_ads(path)
    expected = hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()
    assert (loaded.md5, loaded.path) == (expected, path)


@pytest.mark.parametrize("word", ["NA", "null", "NaN", "None", "nan", "0", "-"])
def test_words_that_stand_for_missing_elsewhere_are_text_in_a_title(
    tmp_path: Path, word: str
) -> None:
    assert read_ads(write(tmp_path, csv_text([ad(title=word)]))).frame.loc[0, "title"] == word


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
    assert read_ads(_as_parquet(plain)).lines is None


# ------------------------------------------------------------ files that are refused


def _no_file(folder: Path) -> Path:
    return folder / "nowhere.csv"


def _directory(folder: Path) -> Path:
    return folder


def _pipe(folder: Path) -> Path:
    os.mkfifo(folder / "pipe.csv")
    return folder / "pipe.csv"


def _header_only(folder: Path) -> Path:
    return write(folder, csv_text([]))


def _png(folder: Path) -> Path:
    return write(folder, b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR" + bytes(range(256)))


def _elf(folder: Path) -> Path:
    return write(folder, b"\x7fELF\x02\x01\x01\x00" + bytes(500))


def _utf16(folder: Path) -> Path:
    return write(folder, csv_text([ad()]).encode("utf-16"))


def _semicolons(folder: Path) -> Path:
    return write(folder, csv_text([ad(description="")]).replace(",", ";"))


def _quoted_semicolons(folder: Path) -> Path:
    return write(folder, '"item_id";"title"\n"1";"Диван"\n')


def _tabs(folder: Path) -> Path:
    return write(folder, csv_text([ad(description="")]).replace(",", "\t"))


def _cp1251(folder: Path) -> Path:
    return write(folder, csv_text([ad(description="Почти новый")]).encode("cp1251"), "my ads.csv")


def _cp1251_in_zip(folder: Path) -> Path:
    content = csv_text([ad(description="Почти новый")]).encode("cp1251")
    return zipped(folder, {"train.csv": content})


def _koi8(folder: Path) -> Path:
    return write(folder, csv_text([ad(description="Почти новый")]).encode("koi8-r"))


def _cut_character(folder: Path) -> Path:
    return write(folder, csv_text([ad()]).encode().replace("🦉".encode(), b"\xf0\x9f"))


def _missing_columns(folder: Path) -> Path:
    content = csv_text([ad()]).replace("deal_probability", "deal_probabilty")
    return write(folder, content.replace("price,", "cost,", 1))


def _twice_the_same_column(folder: Path) -> Path:
    return write(folder, csv_text([ad()], (*COLUMN_NAMES, "price")))


def _unclosed_quote(folder: Path) -> Path:
    return write(folder, csv_text([ad(description="")]) + '"b,c\r\nd\r\n')


def _quote_inside_quotes(folder: Path) -> Path:
    content = csv_text([ad(title="Платье, новое", description=""), ad()])
    return write(folder, content.replace('"Платье, новое"', '"Платье "Zara", новое"'))


def _too_few_fields(folder: Path) -> Path:
    return write(folder, csv_text([ad(), ad()]) + "1,2,3\r\n")


def _too_many_fields(folder: Path) -> Path:
    return write(folder, csv_text([ad()]).replace("0.31", "0,31"))


def _mac_line_ends(folder: Path) -> Path:
    return write(folder, csv_text([ad(description="")]).replace("\r\n", "\r"))


def _endless_line(folder: Path) -> Path:
    return write(folder, csv_text([ad(description="x" * (17 * 2**20))]))


def _endless_quote(folder: Path) -> Path:
    return write(folder, csv_text([ad(description=("x" * 1000 + "\n") * 17_000)]))


def _cut_zip(folder: Path) -> Path:
    path = zipped(folder, {"train.csv": csv_text(varied_ads(300)).encode()})
    return write(folder, path.read_bytes()[: path.stat().st_size // 2], "cut.zip")


def _flipped_zip(folder: Path) -> Path:
    content = bytearray(zipped(folder, {"a.csv": csv_text(varied_ads(300)).encode()}).read_bytes())
    middle = len(content) // 2
    content[middle : middle + 4] = b"\xff\xff\xff\xff"
    return write(folder, bytes(content), "flipped.zip")


def _zip_that_lies_about_its_size(folder: Path) -> Path:
    content = csv_text(varied_ads(300)).encode()
    packed = zipped(folder, {"a.csv": content}).read_bytes()
    lie = packed.replace(struct.pack("<L", len(content)), struct.pack("<L", 1000))
    return write(folder, lie, "lie.zip")


def _encrypted_zip(folder: Path) -> Path:
    content = bytearray(zipped(folder, {"a.csv": csv_text([ad()]).encode()}).read_bytes())
    content[6] |= 1
    content[content.index(b"PK\x01\x02") + 8] |= 1
    return write(folder, bytes(content), "secret.zip")


def _cut_gz(folder: Path) -> Path:
    content = gzip.compress(csv_text(varied_ads(300)).encode())
    return write(folder, content[: len(content) // 2], "cut.gz")


def _zip_without_a_table(folder: Path) -> Path:
    return zipped(folder, {"readme.txt": b"nothing"})


def _empty_zip(folder: Path) -> Path:
    return zipped(folder, {})


def _zip_of_two_tables(folder: Path) -> Path:
    return zipped(folder, {"train.csv": b"a", "test.csv": b"b"})


def _zip_in_zip(folder: Path) -> Path:
    return zipped(folder, {"inner.zip": b"PK\x03\x04"})


def _zip_named_csv_in_zip(folder: Path) -> Path:
    inner = zipped(folder, {"a.csv": csv_text([ad()]).encode()}, "inner.zip").read_bytes()
    return zipped(folder, {"a.csv": inner})


def _gz_in_gz(folder: Path) -> Path:
    return write(folder, gzip.compress(gzip.compress(csv_text([ad()]).encode())), "ads.csv.gz.gz")


def _excel(folder: Path) -> Path:
    return zipped(folder, {"xl/workbook.xml": b"<x/>"}, "ads.xlsx")


def _empty_member(folder: Path) -> Path:
    return zipped(folder, {"train.csv": b""})


def _zip_bomb(folder: Path) -> Path:
    return zipped(folder, {"train.csv": bytes(40_000_000)})


def _gz_bomb(folder: Path) -> Path:
    rows = csv_text([ad(description="x" * 2**20)] * 33)
    return write(folder, gzip.compress(rows.encode(), 1), "bomb.csv.gz")


def _cut_parquet(folder: Path) -> Path:
    path = _as_parquet(write(folder, csv_text(varied_ads(300))))
    return write(folder, path.read_bytes()[:-200], "cut.parquet")


def _flipped_parquet(folder: Path) -> Path:
    content = bytearray(_as_parquet(write(folder, csv_text(varied_ads(300)))).read_bytes())
    content[4:400] = b"\xff" * 396
    return write(folder, bytes(content), "flipped.parquet")


def _parquet_of_lists(folder: Path) -> Path:
    columns: dict[str, object] = {name: [AD[name]] for name in COLUMN_NAMES}
    pq.write_table(pa.table(columns | {"price": [[{"rouble": 1}]]}), folder / "ads.parquet")
    return folder / "ads.parquet"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (_no_file, r"there is no file .*nowhere\.csv: check the path"),
        (_directory, r"is a directory: name the file of ads in it"),
        (_pipe, r"pipe\.csv is no regular file"),
        (lambda folder: write(folder, b""), r"ads\.csv is empty: it has no header"),
        (lambda folder: write(folder, b"\xef\xbb\xbf"), r"ads\.csv is empty: it has no header"),
        (lambda folder: write(folder, b"\n\n"), r"ads\.csv is empty: it has no header"),
        (_header_only, r"has a header but no ads"),
        (_png, r"ads\.csv is a binary file"),
        (_elf, r"ads\.csv is a binary file"),
        (_utf16, r"is UTF-16 text, .* iconv -f UTF-16 -t UTF-8"),
        (_semicolons, r"separated by semicolons \(';'\), not by commas"),
        (_quoted_semicolons, r"separated by semicolons"),
        (_tabs, r"separated by tabs \('\\t'\), not by commas"),
        (_cp1251, r"line 2, .* looks like cp1251; .*iconv -f CP1251 -t UTF-8 '.*my ads\.csv' > "),
        (_cp1251_in_zip, r"\(train\.csv\), line 2.*iconv -f CP1251 -t UTF-8 train\.csv > train"),
        (_koi8, r"looks like koi8-r; .*iconv -f KOI8-R"),
        (_cut_character, r"line 3, byte \d+: this is not UTF-8 text; the file is damaged"),
        (
            _missing_columns,
            r"lacks 2 of the 18 .* price, deal_probability \(is it 'deal_probabilty'\?\)",
        ),
        (_twice_the_same_column, r"'price' is the name of more than one column"),
        (_unclosed_quote, r"line 4: broken quoting in the row that begins in line 3"),
        (_quote_inside_quotes, r"line 2: broken quoting in the row that begins in line 2"),
        (_too_few_fields, r"line 6: a row of 3 fields under a header of 18"),
        (_too_many_fields, r"line 2: a row of 19 fields under a header of 18"),
        (_mac_line_ends, r"a carriage return alone ends no line"),
        (_endless_line, r"line 2: a line of over 16 MB"),
        (_endless_quote, r"broken quoting in the row that begins in line 2"),
        (_cut_zip, r"cut\.zip is a truncated or damaged archive"),
        (_flipped_zip, r"flipped\.zip .*is a truncated or damaged archive"),
        (_zip_that_lies_about_its_size, r"lie\.zip \(a\.csv\) is a truncated or damaged archive"),
        (_encrypted_zip, r"secret\.zip \(a\.csv\) is encrypted"),
        (_cut_gz, r"cut\.gz is a truncated or damaged archive"),
        (_zip_without_a_table, r"holds no \.csv and no \.parquet"),
        (_empty_zip, r"holds no \.csv and no \.parquet"),
        (_zip_of_two_tables, r"holds 2 tables \(train\.csv, test\.csv\)"),
        (_zip_in_zip, r"is an archive inside an archive"),
        (_zip_named_csv_in_zip, r"is an archive inside an archive"),
        (_gz_in_gz, r"is an archive inside an archive"),
        (_excel, r"is an Excel workbook: save it as CSV"),
        (_empty_member, r"ads\.zip \(train\.csv\) is empty"),
        (_zip_bomb, r"looks like a decompression bomb: \d+ bytes unpack to 40000000"),
        (_gz_bomb, r"bomb\.csv\.gz looks like a decompression bomb"),
        (_cut_parquet, r"cut\.parquet is a damaged or truncated Parquet file"),
        (_flipped_parquet, r"flipped\.parquet is a damaged or truncated Parquet file"),
        (_parquet_of_lists, r"column 'price' has the Parquet type list<.*>, which cannot be read"),
    ],
)
def test_a_file_that_cannot_be_read_is_refused_with_its_name_and_the_way_out(
    tmp_path: Path, make: Callable[[Path], Path], message: str
) -> None:
    path = make(tmp_path)
    with pytest.raises(AdsFileError, match=message) as refusal:
        read_ads(path)
    assert str(path) in str(refusal.value)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("wrap", [lambda path: path, _as_zip, _as_gz, _as_parquet_in_gz])
def test_more_than_the_size_allowed_is_refused(
    tmp_path: Path, wrap: Callable[[Path], Path]
) -> None:
    path = wrap(write(tmp_path, csv_text(varied_ads(3_000))))
    with pytest.raises(AdsFileError, match=r"more than the .* GB allowed: raise data.max_file_gb"):
        read_ads(path, max_file_gb=1e-5)


def test_a_parquet_that_unpacks_to_more_than_allowed_is_refused(tmp_path: Path) -> None:
    rows = [ad(description=f"{i}" + "x" * 1000) for i in range(500)]
    path = _as_parquet(write(tmp_path, csv_text(rows)))
    with pytest.raises(AdsFileError, match=r"unpacks to .* raise data.max_file_gb"):
        read_ads(path, max_file_gb=path.stat().st_size * 2 / 1e9)


def test_a_file_without_permission_is_refused() -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = write(Path(folder), csv_text([ad()]))
        Path(folder).chmod(0o755)
        path.chmod(0)
        # Root may read everything; nobody may not.
        user = os.geteuid()
        if user == 0:
            os.seteuid(65534)
        try:
            with pytest.raises(AdsFileError, match=r"ads\.csv: permission denied; chmod u\+r"):
                read_ads(path)
        finally:
            os.seteuid(user)


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
