"""Texts of strangers in files that people open in a spreadsheet."""

from __future__ import annotations

import csv
import io
import time

import pytest

from demand.schema.error_text import spreadsheet_safe

HOSTILE = [
    "=1+1",
    "+79161234567",
    "-1+1|cmd",
    "@SUM(A1)",
    "＝1+1",
    "－1",
    "\t=1+1",
    "\r=1+1",
    "\n=1+1",
    " =1+1",
    "\xa0=1+1",
    "\ufeff=1+1",
    '"=1+1"',
    "x;=1+1;A0",
    "x;+1;-1;@A",
    'x;"=1+1";y',
    'x; "" =1+1',
    "x\t=1+1",
    "x\n=1+1",
    "x\r\n@SUM(A1)",
    "x\r=1",
    ";=1",
    '=HYPERLINK("http://example.org";"x")',
]
HARMLESS = ["", "b912c3c6a6ad", "Велосипед", "a-b", "a=b", "1+1", "12 500", "x; y", "5e10", "a\nb"]


@pytest.mark.parametrize("separator", [",", ";", "\t"])
@pytest.mark.parametrize("text", HOSTILE)
def test_no_spreadsheet_finds_a_formula_in_a_text(text: str, separator: str) -> None:
    written = io.StringIO()
    csv.writer(written).writerows(
        [[spreadsheet_safe(text), "0.5"], ["title", spreadsheet_safe(text), "0.5"]]
    )

    for row in csv.reader(io.StringIO(written.getvalue(), newline=""), delimiter=separator):
        for cell in row:
            shown = cell.lstrip('\xa0\ufeff" \x00')
            assert not shown.startswith(tuple("=+-@＝＋－＠"))


@pytest.mark.parametrize("text", HARMLESS)
def test_other_texts_stay_as_they_are(text: str) -> None:
    assert spreadsheet_safe(text) == text


@pytest.mark.parametrize(
    ("text", "shown"),
    [("=1+1", "'=1+1"), ("\tx", "'\tx"), ("\rx", "'\rx"), ("x;=1+1;A0", "x;'=1+1;A0")],
)
def test_an_apostrophe_makes_it_a_text(text: str, shown: str) -> None:
    assert spreadsheet_safe(text) == shown


def test_different_texts_stay_different() -> None:
    texts = [*HOSTILE, *("'" + text for text in HOSTILE), *HARMLESS]

    assert len({spreadsheet_safe(text) for text in texts}) == len(texts)


@pytest.mark.parametrize("unit", ["\n", " ", ";", '"', "; ", '\n"', "\t ", "\x1c"])
def test_a_long_text_takes_no_longer_than_its_length(unit: str) -> None:
    begun = time.perf_counter()
    spreadsheet_safe(unit * 300_000)

    assert time.perf_counter() - begun < 5
