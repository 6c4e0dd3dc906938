"""What is shown, in words of Russian and English, numbers, tables and charts."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from functools import cache, partial
from importlib.resources import files
from operator import itemgetter
from typing import Any, Literal, cast

import numpy as np
import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined

from demand.page.answers import Result
from demand.page.api import Snapshot
from demand.page.uploads import Row
from demand.schema.columns import PARAMS
from demand.schema.error_text import spreadsheet_table
from demand.serving.recommendations import SUGGESTIONS_MAX, Suggestion

Language = Literal["ru", "en"]
LANGUAGES: tuple[Language, ...] = ("ru", "en")
BINS = 20
# A browser takes a second for each thousand; the CSV has all.
ROWS_SHOWN = 1_000
COLUMNS = (
    "table.line", "table.title", "table.probability", "table.percentile", "table.among",
    "table.points", "table.gain", "table.problem",
)  # fmt: skip
_HARD = "\u00a0"
_ACCEPTED = re.compile(r"\s*([a-zA-Z-]+)\s*(?:;\s*q=([01](?:\.[0-9]*)?))?\s*")


def language_of(accept_language: str | None) -> Language:
    """Return the language that a browser would rather have; Russian where it has no wish."""
    wishes = map(_ACCEPTED.fullmatch, (accept_language or "").split(","))
    ranked = [(float(wish[2] or 1), wish[1].lower()) for wish in wishes if wish]
    weight, name = max(ranked, key=itemgetter(0), default=(0.0, ""))
    # To whom neither is a wish, English is the likelier to be read.
    return "ru" if not weight or name.split("-")[0] in ("ru", "be", "kk", "uk") else "en"


def text(language: Language, key: str, **values: object) -> str:
    """Return a text with values put in; KeyError where there is none, or a value is lacking."""
    return str(_read("texts.json")[language][key].format(**values))


def knows(key: str) -> bool:
    """Say whether there is such a text."""
    return key in _read("texts.json")["ru"]


def percent(language: Language, share: float) -> str:
    """Return a share such as 0.148 as ``15 %`` or ``15%``; below 10 % with one decimal."""
    value = 100 * share
    whole = value >= 10 or math.isclose(value, round(value), abs_tol=1e-9)
    number = f"{value:.0f}" if whole else f"{value:.1f}"
    return f"{decimal(language, number)}{_HARD}%" if language == "ru" else f"{number}%"


def whole_percent(language: Language, share: float) -> str:
    """Return a share in whole percents."""
    return f"{100 * share:.0f}" + (f"{_HARD}%" if language == "ru" else "%")


def points(language: Language, gain: float) -> str:
    """Return a difference of probabilities in percentage points, with its sign."""
    number = decimal(language, f"{100 * gain:+.1f}").replace("-", "−")
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


def suggestion_text(language: Language, suggestion: Suggestion, ad: Mapping[str, Any]) -> str:
    """Return a suggestion as one plain sentence without its gain."""
    key, value = str(suggestion.kind), str(suggestion.value)
    if key == "price":
        value, today = roubles(language, suggestion.value), ad.get("price")
        key = "price_set"
        if today is not None:
            key = "price_more" if suggestion.value > today else "price_less"
    elif key == "description":
        # Of a file's ads only the length is kept.
        letters = suggestion.value if isinstance(suggestion.value, int) else len(suggestion.value)
        value = count(language, letters)
        key = "description" if ad.get("description") else "description_none"
    elif key == "param":
        key = f"param_{PARAMS.index(suggestion.field) + 1}"
    return text(language, f"suggest.{key}", value=value)


def render(name: str, language: Language, *values: object) -> str:
    """Return what a macro of ``page.html.j2`` makes of some values, which it escapes."""
    return str(getattr(_macros(language), name)(*values))


@cache
def _macros(language: Language) -> Any:
    environment = Environment(
        loader=PackageLoader("demand.page", ""), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True,
    )  # fmt: skip
    formats = (
        text, percent, whole_percent, points, roubles, count, decimal, plural, suggestion_text,
    )  # fmt: skip
    words: dict[str, Any] = {each.__name__: partial(each, language) for each in formats}
    return environment.get_template("page.html.j2").make_module({**words, "language": language})


def examples() -> list[dict[str, Any]]:
    """Return made-up ads, to click and to fill in a file."""
    return cast(list[dict[str, Any]], _read("examples.json"))


@cache
def _read(name: str) -> Any:
    return json.loads(files("demand.page").joinpath(name).read_text(encoding="utf-8"))


def curve_points(language: Language, result: Result) -> pd.DataFrame | None:
    """Return the lines over price, the best range and today's price among them, or None.

    Columns are ``price`` in roubles, ``probability`` in percent, and ``line``, its name.
    """
    curve, today = result.advice.curve, result.ad.get("price")
    if curve is None:
        return None
    points = [(x, 100 * y) for x, y in zip(curve.prices, curve.probabilities, strict=True)]
    low, high = curve.best
    lines = {"curve.line": points, "curve.shaded": [p for p in points if low <= p[0] <= high]}
    if today is not None:
        lines["curve.today"] = [(today, 0.0), (today, 100 * result.answer.probability)]
    return _lines(language, lines, "price", "probability")


def _lines(
    language: Language, lines: Mapping[str, Sequence[tuple[float, float]]], x: str, y: str
) -> pd.DataFrame:
    points = [(*point, text(language, name)) for name, line in lines.items() for point in line]
    return pd.DataFrame(points, columns=[x, y, "line"])


def table_label(language: Language, rows: int) -> str:
    """Say what the table has, and where the rest is."""
    if rows <= ROWS_SHOWN:
        return text(language, "many.table")
    shown = count(language, ROWS_SHOWN)
    return text(language, "many.table_part", shown=shown, rows=count(language, rows))


def results_table(language: Language, rows: Sequence[Row]) -> pd.DataFrame:
    """Return one row an ad, columns :data:`COLUMNS`; shares in percent, None where unknown."""
    listed = []
    for row in rows:
        answer, known = row.answer, None if row.answer is None else row.answer.percentile
        among = "table.all_ads" if row.among_all else "table.own_category"
        first = row.suggestions[0].gain if row.suggestions else 0.0
        listed.append(
            (
                row.line,
                f"№ {row.item_id or '–'}" if row.ad is None else str(row.ad["title"]),
                None if answer is None else round(100 * answer.probability, 1),
                None if known is None else round(100 * known),
                "" if known is None else text(language, among),
                None if answer is None else round(100 * first, 1),
                "\n".join(_suggested(language, row)),
                problem_words(language, row),
            )
        )
    return pd.DataFrame(listed, columns=[text(language, name) for name in COLUMNS], dtype=object)


def histogram(rows: Sequence[Row]) -> tuple[pd.DataFrame, float]:
    """Return how the probabilities are spread, and how wide a bar is, in percent.

    Columns are ``probability`` (the middle of a bar, in percent) and ``ads``, a row a bar.
    """
    values = probabilities(rows)
    high = max(1, math.ceil(10 * max(values, default=0.0))) / 10
    ads, edges = np.histogram(values, BINS, (0.0, high))
    middles = 50 * (edges[:-1] + edges[1:])
    return pd.DataFrame({"probability": middles, "ads": ads}), 100 * high / BINS


def probabilities(rows: Sequence[Row]) -> list[float]:
    """Return those that are known, the smallest first."""
    return sorted(row.answer.probability for row in rows if row.answer is not None)


def results_csv(language: Language, rows: Sequence[Row]) -> str:
    """Return the answers as CSV; a text that a spreadsheet would compute is made harmless."""
    listed = []
    for row in rows:
        answer, words = row.answer, _suggested(language, row)
        words += [""] * (SUGGESTIONS_MAX - len(words))
        listed.append(
            {
                "line": row.line,
                "item_id": row.item_id or "",
                "deal_probability": answer and answer.probability,
                "low": answer and answer.low,
                "high": answer and answer.high,
                "percentile": answer and answer.percentile,
                **{f"suggestion_{number}": each for number, each in enumerate(words, 1)},
                "problem": problem_words(language, row),
            }
        )
    return spreadsheet_table(pd.DataFrame(listed)).to_csv(index=False, lineterminator="\r\n")


def sample_csv() -> str:
    """Return a small file that can be filled in: a header and some made-up ads."""
    return pd.DataFrame(examples(), dtype=object).to_csv(index=False, lineterminator="\r\n")


def _suggested(language: Language, row: Row) -> list[str]:
    """Return the suggestions with their gains, each on one line."""
    told = []
    for suggestion in row.suggestions:
        words = suggestion_text(language, suggestion, row.ad or {}).removesuffix(".")
        gain = text(language, "many.gain", gain=points(language, suggestion.gain))
        told.append(f"{words} ({gain})")
    return told


def problem_words(language: Language, row: Row) -> str:
    """Return what is wrong with a row, and what that means for its answer."""
    told = []
    for problem in row.problems:
        name, key = problem.column, f"field.{problem.column}"
        words = text(language, key) if knows(key) else name
        reason = _reason(language, problem.reason)
        told.append(reason if name is None else f"{words}: {reason}")
    if not told:
        return ""
    meaning = "many.without_cell" if row.answer is not None else "many.not_answered"
    return f"{'; '.join(told)} — {text(language, meaning)}"


def _reason(language: Language, reason: str) -> str:
    if reason.startswith("fields:"):
        _, found, expected = reason.split(":")
        return text(language, "reason.fields", found=found, expected=expected)
    # The reader's words, of which some have an advice after a colon.
    key = f"reason.{reason.split(':')[0].strip().replace(' ', '_')}"
    return text(language, key) if knows(key) else reason


def calibration_points(language: Language, snapshot: Snapshot) -> pd.DataFrame:
    """Return mean predicted and actual probability of each group, in percent, and the ideal.

    Columns are ``predicted``, ``actual`` and ``line``, the name of the line.
    """
    points = [(100 * predicted, 100 * actual) for predicted, actual in calibration(snapshot)]
    end = max(map(max, points), default=0.0)
    lines = {"team.ideal": [(0.0, 0.0), (end, end)], "team.measured": points}
    return _lines(language, lines, "predicted", "actual")


def calibration(snapshot: Snapshot) -> list[tuple[float, float]]:
    """Return predicted and actual probability of each group that was measured, in order."""
    groups = (snapshot.card or {}).get("calibration") or []
    pairs = [(group["predicted"], group["actual"]) for group in groups]
    return sorted((float(p), float(a)) for p, a in pairs if p is not None and a is not None)


def errors_table(language: Language, snapshot: Snapshot) -> pd.DataFrame:
    """Return category, number of ads and RMSE, the largest error first."""
    listed = (snapshot.card or {}).get("error_by_category") or []
    known = sorted((r for r in listed if r["rmse"] is not None), key=lambda r: -float(r["rmse"]))
    names = ("table.category", "team.ads", "metric.rmse")
    rows = [(each["category"], each["ads"], round(each["rmse"], 4)) for each in known]
    return pd.DataFrame(rows, columns=[text(language, name) for name in names])
