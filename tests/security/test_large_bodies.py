"""Bodies of megabytes that would become far more, refused before they do."""

from __future__ import annotations

import time
import tracemalloc
from collections.abc import Callable

import pytest

from demand.errors import AdError
from demand.serving.http.bodies import CSV, JSON, ads_from_json, frame_from_body

MEGABYTES = 12
SIZE = MEGABYTES * 2**20
# Decoding alone takes one, of ASCII.
TIMES_MAX, SECONDS_MAX = 5, 1.0


def repeated(part: bytes, begin: bytes = b"", end: bytes = b"") -> Callable[[], bytes]:
    return lambda: begin + part * ((SIZE - len(begin) - len(end)) // len(part)) + end


def keys(begin: bytes, end: bytes) -> Callable[[], bytes]:
    return lambda: begin + b",".join(b'"%x":1' % n for n in range(SIZE // 10)) + end


HOSTILE = {
    "lists": repeated(b"[],", b"[", b"[]]"),
    "numbers": repeated(b"1,", b"[", b"1]"),
    "objects": repeated(b"{},", b"[", b"{}]"),
    "texts": repeated(b'"",', b"[", b'""]'),
    "keys": keys(b"{", b"}"),
    "keys of an ad": keys(b'[{"title":"a","category_name":"b",', b"}]"),
    "a key again and again": repeated(b'"title":"a",', b"[{", b'"category_name":"b"}]'),
    "depth": repeated(b"["),
    "depth of objects": repeated(b'{"a":'),
    "depth in an ad": repeated(b"[", b'[{"title":'),
    "a value of many": repeated(b"1,", b'[{"category_name":"b","title":[', b"1]}]"),
    "many ads": repeated(b'{"title":"a","category_name":"b"},', b"[", b"{}]"),
    "a number": repeated(b"9", b'[{"title":"a","category_name":"b","price":', b"}]"),
    "white space": repeated(b" ", b"", b"[]"),
    "a text without an end": repeated(b'\\"', b'["'),
    "commas in a text": repeated(b",", b'["', b'"]'),
    "backslashes": repeated(b"\\\\", b'["', b'"]'),
}


def cost(read: Callable[[], object]) -> tuple[float, float]:
    """Return seconds and megabytes that it takes to refuse a body."""
    begun = time.perf_counter()
    with pytest.raises(AdError):
        read()
    seconds = time.perf_counter() - begun
    tracemalloc.start()
    try:
        with pytest.raises(AdError):
            read()
        return seconds, tracemalloc.get_traced_memory()[1] / 2**20
    finally:
        tracemalloc.stop()


def ads_of(body: bytes) -> object:
    ads, _ = ads_from_json(body, 10_000)
    if not all(isinstance(ad, dict) for ad in ads) or not ads:
        raise AdError("no ads")
    return ads


@pytest.mark.parametrize("name", HOSTILE)
def test_json_that_holds_no_ads_is_refused_before_it_becomes_objects(name: str) -> None:
    body = HOSTILE[name]()
    seconds, megabytes = cost(lambda: ads_of(body))
    assert seconds < SECONDS_MAX
    assert megabytes < TIMES_MAX * MEGABYTES


@pytest.mark.parametrize(
    ("begin", "part", "end"),
    [
        (b'{"inputs":[', b"[],", b"[]]}"),
        (b'{"inputs":{"title":[', b"1,", b"1]}}"),
        (b'{"dataframe_split":{"columns":["title"],"data":[', b"[],", b"[]]}}"),
        (b"{", b'"inputs":[],', b'"inputs":[]}'),
    ],
)
def test_so_it_is_in_the_forms_of_mlflow(begin: bytes, part: bytes, end: bytes) -> None:
    body = repeated(part, begin, end)()
    seconds, megabytes = cost(lambda: frame_from_body(body, JSON, ads=50_000))
    assert seconds < SECONDS_MAX
    assert megabytes < TIMES_MAX * MEGABYTES


@pytest.mark.parametrize(
    ("begin", "part"),
    [
        (b"title,category_name\n", b"a,b\n"),
        (b"title,category_name\n", b"\n"),
        (b'title,category_name\n"', b"\n"),
        (b"title,category_name\n", b","),
        (b"title,category_name,", b"a,"),
        (b"", b"title,"),
        (b'title,category_name\n"', b'""'),
    ],
)
def test_csv_is_refused_before_it_becomes_objects(begin: bytes, part: bytes) -> None:
    body = repeated(part, begin)()
    seconds, megabytes = cost(lambda: frame_from_body(body, CSV, ads=50_000))
    assert seconds < SECONDS_MAX
    assert megabytes < TIMES_MAX * MEGABYTES
