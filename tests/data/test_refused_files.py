"""Files that are refused: each with its name, what is wrong with it, and the way out."""

from __future__ import annotations

import bz2
import gzip
import lzma
import os
import struct
import tarfile
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from demand.data.reading import read_ads
from demand.errors import AdsFileError
from demand.schema.columns import COLUMN_NAMES
from tests.data.files import (
    AD,
    ad,
    as_gz,
    as_parquet,
    as_parquet_in_gz,
    as_zip,
    csv_text,
    varied_ads,
    write,
    zipped,
)


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


def _another_header(folder: Path) -> Path:
    first, second = csv_text([ad()]), csv_text([ad()], tuple(reversed(COLUMN_NAMES)))
    return write(folder, first + "\r\n" + second)


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


def _of_method(folder: Path, method: int) -> Path:
    """Return a zip whose one member says that it is packed by a method."""
    content = bytearray(zipped(folder, {"a.csv": csv_text([ad()]).encode()}).read_bytes())
    struct.pack_into("<H", content, 8, method)
    struct.pack_into("<H", content, content.index(b"PK\x01\x02") + 10, method)
    return write(folder, bytes(content), "odd.zip")


def _packed_by(folder: Path, method: int) -> Path:
    path = folder / "odd.zip"
    with zipfile.ZipFile(path, "w", method) as archive:
        archive.writestr("a.csv", csv_text([ad()]))
    return path


def _of_flag(folder: Path, flag: int) -> Path:
    content = bytearray(zipped(folder, {"a.csv": csv_text([ad()]).encode()}).read_bytes())
    content[6] |= flag
    content[content.index(b"PK\x01\x02") + 8] |= flag
    return write(folder, bytes(content), "odd.zip")


def _first_of_two_disks(folder: Path) -> Path:
    content = bytearray(zipped(folder, {"a.csv": csv_text([ad()]).encode()}).read_bytes())
    locator = b"PK\x06\x07" + struct.pack("<LQL", 0, 0, 2)
    end = content.index(b"PK\x05\x06")
    return write(folder, bytes(content[:end] + locator + content[end:]), "odd.zip")


def _gz_and_more(folder: Path) -> Path:
    content = gzip.compress(csv_text(varied_ads(30)).encode())
    return write(folder, content + b"signature", "more.csv.gz")


def _tar_gz(folder: Path) -> Path:
    write(folder, csv_text([ad()]))
    with tarfile.open(folder / "ads.tar.gz", "w:gz") as archive:
        archive.add(folder / "ads.csv", "ads.csv")
    return folder / "ads.tar.gz"


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
    path = as_parquet(write(folder, csv_text(varied_ads(300))))
    return write(folder, path.read_bytes()[:-200], "cut.parquet")


def _flipped_parquet(folder: Path) -> Path:
    content = bytearray(as_parquet(write(folder, csv_text(varied_ads(300)))).read_bytes())
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
        (lambda f: _of_method(f, 9), r"odd\.zip \(a\.csv\) is packed with Deflate64, which is not"),
        (lambda f: _of_method(f, 93), r"is packed with Zstandard, .* pack it anew with Deflate"),
        (lambda f: _of_method(f, 98), r"is packed with PPMd, which is not read here: unpack it"),
        (lambda f: _of_method(f, 77), r"is packed with method 77, which is not read here"),
        (lambda f: _of_method(f, 99), r"odd\.zip \(a\.csv\) is encrypted: unpack it first"),
        (lambda f: _packed_by(f, zipfile.ZIP_BZIP2), r"is packed with bzip2, which is not read"),
        (lambda f: _packed_by(f, zipfile.ZIP_LZMA), r"is packed with LZMA, which is not read"),
        (lambda f: _of_flag(f, 0x20), r"odd\.zip uses a feature of zip that is not read here"),
        (_first_of_two_disks, r"odd\.zip is one part of a zip of several"),
        (_gz_and_more, r"more\.csv\.gz has other bytes behind its packed ads"),
        (_tar_gz, r"ads\.tar\.gz is a tar archive, not CSV or Parquet: unpack it first"),
        (lambda f: write(f, lzma.compress(b"ads")), r"is an xz archive, .*: unpack it first"),
        (lambda f: write(f, bz2.compress(b"ads")), r"is a bzip2 archive, .*: unpack it first"),
        (lambda f: write(f, b"7z\xbc\xaf\x27\x1c\0"), r"is a 7z archive"),
        (lambda f: write(f, b"Rar!\x1a\x07"), r"is a RAR archive"),
        (lambda f: write(f, b"PK\x07\x08PK\x03\x04"), r"is one part of a zip of several"),
        (lambda f: write(f, b"ARROW1\0\0"), r"is an Arrow \(Feather\) file.*: save it as Parquet"),
        (lambda f: write(f, "a" + ",a" * 300_000), r"line 1: a line of over 200,000 commas"),
        (_another_header, r"line 5: a second header, of other columns or in another order"),
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


@pytest.mark.parametrize("wrap", [lambda path: path, as_zip, as_gz, as_parquet_in_gz])
def test_more_than_the_size_allowed_is_refused(
    tmp_path: Path, wrap: Callable[[Path], Path]
) -> None:
    path = wrap(write(tmp_path, csv_text(varied_ads(3_000))))
    with pytest.raises(AdsFileError, match=r"more than the .* GB allowed: raise data.max_file_gb"):
        read_ads(path, max_file_gb=1e-5)


def test_a_parquet_that_unpacks_to_more_than_allowed_is_refused(tmp_path: Path) -> None:
    rows = [ad(description=f"{i}" + "x" * 1000) for i in range(500)]
    path = as_parquet(write(tmp_path, csv_text(rows)))
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
