"""Files of ads as tests need them: written, wrapped and packed."""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import zipfile
from pathlib import Path

import pandas as pd

from demand.data.reading import read_ads
from demand.schema.columns import COLUMN_NAMES

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


def as_zip(plain: Path) -> Path:
    content = plain.read_bytes()
    extras = {"__MACOSX/._train.csv": b"\0\0", "readme.txt": b"ads"}
    return zipped(plain.parent, {"train.csv": content} | extras)


def as_gz(plain: Path) -> Path:
    return write(plain.parent, gzip.compress(plain.read_bytes()), "ads.csv.gz")


def as_parquet(plain: Path) -> Path:
    read_ads(plain).frame.to_parquet(plain.with_suffix(".parquet"))
    return plain.with_suffix(".parquet")


def as_parquet_of_text(plain: Path) -> Path:
    path = plain.with_suffix(".parquet")
    pd.read_csv(plain, dtype=str, keep_default_na=False).to_parquet(path)
    return path


def as_parquet_in_zip(plain: Path) -> Path:
    return zipped(plain.parent, {"ads.parquet": as_parquet(plain).read_bytes()})


def as_parquet_in_gz(plain: Path) -> Path:
    return write(plain.parent, gzip.compress(as_parquet(plain).read_bytes()), "ads.parquet.gz")


def as_csv_with_bom(plain: Path) -> Path:
    return write(plain.parent, b"\xef\xbb\xbf" + plain.read_bytes(), "bom.csv")


def with_unix_line_ends(plain: Path) -> Path:
    return write(plain.parent, plain.read_bytes().replace(b"\r\n", b"\n"), "unix.csv")


def under_another_name(plain: Path) -> Path:
    return as_zip(plain).rename(plain.parent / "download.csv")


def with_blank_lines(plain: Path) -> Path:
    return write(plain.parent, plain.read_bytes() + b"\r\n\r\n", "blank.csv")
