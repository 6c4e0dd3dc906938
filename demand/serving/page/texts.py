"""The page's words in Russian and English, and numbers as they are written in each."""

from __future__ import annotations

import json
import math
import re
from functools import cache
from importlib.resources import files
from typing import Any, Literal, cast

Language = Literal["ru", "en"]
LANGUAGES: tuple[Language, ...] = ("ru", "en")

_HARD = "\u00a0"
_PERCENT = 100
# Whole percents say enough from here on; below, one decimal.
_WHOLE_FROM = 10.0
_ACCEPTED = re.compile(r"\s*([a-zA-Z-]+)\s*(?:;\s*q=([0-9.]+))?\s*")


def language_of(accept_language: str | None) -> Language:
    """Return the language that a browser would rather have; Russian where it has no wish."""
    best: tuple[float, Language] = (0.0, "ru")
    for part in (accept_language or "").split(","):
        match = _ACCEPTED.fullmatch(part)
        if match is None:
            continue
        name = match[1].lower().split("-")[0]
        # To whom neither is a wish, English is the likelier to be read.
        language: Language = "ru" if name in ("ru", "be", "kk", "uk") else "en"
        try:
            weight = float(match[2] or 1.0)
        except ValueError:
            continue
        if weight > best[0]:
            best = (weight, language)
    return best[1]


def text(language: Language, key: str, **values: object) -> str:
    """Return a text with values put in.

    Raises
    ------
    KeyError
        There is no such text, or it needs a value that is not given.
    """
    return _all()[language][key].format(**values)


def knows(key: str) -> bool:
    """Say whether there is such a text."""
    return key in _all()["ru"]


def percent(language: Language, share: float) -> str:
    """Return a share such as 0.148 as ``15 %`` or ``15%``; below 10 % with one decimal."""
    value = _PERCENT * share
    whole = value >= _WHOLE_FROM or math.isclose(value, round(value), abs_tol=1e-9)
    number = f"{value:.0f}" if whole else f"{value:.1f}"
    return f"{decimal(language, number)}{_HARD}%" if language == "ru" else f"{number}%"


def whole_percent(language: Language, share: float) -> str:
    """Return a share in whole percents."""
    return f"{_PERCENT * share:.0f}" + (f"{_HARD}%" if language == "ru" else "%")


def points(language: Language, gain: float) -> str:
    """Return a difference of probabilities in percentage points, with its sign."""
    number = decimal(language, f"{_PERCENT * gain:+.1f}").replace("-", "−")
    return f"{number}{_HARD}" + (f"п.{_HARD}п." if language == "ru" else "pp")


def roubles(language: Language, price: float) -> str:
    """Return a price in whole roubles."""
    return f"{count(language, price)}{_HARD}₽" if language == "ru" else f"₽{count(language, price)}"


def count(language: Language, number: float) -> str:
    """Return a whole number with its thousands apart."""
    return f"{number:,.0f}".replace(",", _HARD if language == "ru" else ",")


def decimal(language: Language, number: str) -> str:
    """Return a number that is written with a point as the language writes it."""
    return number.replace(".", ",") if language == "ru" else number


def one_in_hundred(share: float) -> int:
    """Return how many of a hundred ads a probability is."""
    return math.floor(_PERCENT * share + 0.5)


def plural(language: Language, number: int, key: str) -> str:
    """Return the form of a word that fits a number: forms are apart by ``|``."""
    forms = text(language, key).split("|")
    if language == "en":
        return forms[0] if number == 1 else forms[1]
    tens, ones = number % 100, number % 10
    if ones == 1 and tens != 11:
        return forms[0]
    few = 2 <= ones <= 4 and not 12 <= tens <= 14
    return forms[1] if few else forms[2]


@cache
def _all() -> dict[str, dict[str, str]]:
    source = files("demand.serving.page").joinpath("texts.json").read_text(encoding="utf-8")
    return cast(dict[str, Any], json.loads(source))
