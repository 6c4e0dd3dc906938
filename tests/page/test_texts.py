from __future__ import annotations

import json
import re
import string
from importlib.resources import files

import pytest

from demand.page import views
from demand.page.views import (
    count,
    language_of,
    percent,
    plural,
    points,
    roubles,
    text,
    whole_percent,
)

ALL = json.loads(files("demand.page").joinpath("texts.json").read_text(encoding="utf-8"))
USED = re.compile(
    r"""["']((?:page|tab|form|field|answer|help|suggest|curve|demanded|many|table|file|team|"""
    r"""metric|demo|lists|refused|trouble|outcome)\.[a-z_]+)["']"""
)


def fields_of(words: str) -> set[str]:
    return {name for _, name, _, _ in string.Formatter().parse(words) if name}


def test_both_languages_have_the_same_texts_with_the_same_values() -> None:
    assert ALL["ru"].keys() == ALL["en"].keys()
    for key in ALL["ru"]:
        assert fields_of(ALL["ru"][key]) == fields_of(ALL["en"][key]), key


def test_every_text_that_the_page_names_is_there() -> None:
    folder = files("demand.page")
    named = set()
    for path in folder.iterdir():
        if path.name.endswith((".py", ".j2")):
            named |= set(USED.findall(path.read_text(encoding="utf-8")))
    assert named
    assert named <= ALL["ru"].keys()


def test_russian_texts_are_russian_and_english_ones_english() -> None:
    cyrillic = re.compile("[а-яё]", re.IGNORECASE)
    assert not [key for key, words in ALL["en"].items() if cyrillic.search(words)]
    names = {"metric.rmse", "metric.mae", "metric.mse", "help.gain"}
    assert {key for key, words in ALL["ru"].items() if not cyrillic.search(words)} == names


@pytest.mark.parametrize(
    ("header", "language"),
    [
        ("ru-RU,ru;q=0.9,en;q=0.8", "ru"),
        ("en-US,en;q=0.9", "en"),
        ("en;q=0.5,ru;q=0.9", "ru"),
        ("de,fr;q=0.5", "en"),
        ("", "ru"),
        (None, "ru"),
        ("*", "ru"),
        ("en;q=x,ru", "ru"),
        ("\x00;;;,,q=1", "ru"),
    ],
)
def test_the_browsers_wish_picks_the_language(header: str | None, language: str) -> None:
    assert language_of(header) == language


def test_numbers_are_written_as_each_language_does() -> None:
    assert percent("ru", 0.0314) == "3,1\u00a0%"
    assert percent("en", 0.0314) == "3.1%"
    assert percent("en", 0.148) == "15%"
    assert percent("en", 0.0) == "0%"
    assert whole_percent("ru", 0.0784) == "8\u00a0%"
    assert points("ru", 0.0314) == "+3,1\u00a0п.\u00a0п."
    assert points("en", -0.0314) == "−3.1\u00a0pp"
    assert roubles("ru", 12_500) == "12\u00a0500\u00a0₽"
    assert roubles("en", 12_500) == "₽12,500"
    assert count("en", 1234.4) == "1,234"


@pytest.mark.parametrize(
    ("number", "word"),
    [(1, "объявление"), (2, "объявления"), (5, "объявлений"), (11, "объявлений"),
     (12, "объявлений"), (21, "объявление"), (24, "объявления"), (100, "объявлений")],
)  # fmt: skip
def test_russian_plurals(number: int, word: str) -> None:
    assert plural("ru", number, "answer.ads") == word


def test_english_plurals() -> None:
    assert plural("en", 1, "answer.ads") == "ends"
    assert plural("en", 2, "answer.ads") == "end"


def test_a_text_that_is_not_there_is_an_error() -> None:
    assert not views.knows("no.such")
    with pytest.raises(KeyError):
        text("ru", "no.such")
