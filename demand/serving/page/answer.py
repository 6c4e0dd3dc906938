"""The answer to one ad, and what would help it, as HTML."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from html import escape
from typing import Any

from demand.ads import CATEGORY_ROWS_MIN
from demand.advice import PARAMS, Advice, PriceCurve, Suggestion
from demand.serving.page.charts import Axis, gauge, line_chart, log_ticks, nice_ticks
from demand.serving.page.client import Answer
from demand.serving.page.texts import (
    Language,
    count,
    one_in_hundred,
    percent,
    plural,
    points,
    roubles,
    text,
    whole_percent,
)

_STRONG, _WEAK = 2 / 3, 1 / 3
_BAND = '<span class="dp-key dp-key-band"></span>'
_TICK_EDGES = (4.0, 96.0)


@dataclass(frozen=True)
class Result:
    """One ad that was asked about.

    Parameters
    ----------
    ad
        As it was sent.
    answer
        To the ad as it is.
    advice
        What the answers to its variants say.
    facts
        Of its category; None where they are not known.
    complete
        The API tells intervals and ranks; an MLflow model server does not.
    """

    ad: Mapping[str, Any]
    answer: Answer
    advice: Advice
    facts: Mapping[str, Any] | None
    complete: bool


def answer_html(language: Language, result: Result) -> str:
    """Return the number, the gauge, where the ad stands, and a plain sentence."""
    answer = result.answer
    number = percent(language, answer.probability)
    interval = ""
    described = text(language, "gauge.label", number=number)
    if answer.low is not None and answer.high is not None and answer.coverage is not None:
        interval = text(
            language,
            "answer.interval",
            coverage=whole_percent(language, answer.coverage),
            low=percent(language, answer.low),
            high=percent(language, answer.high),
        )
        described += " " + interval
    stands = _standing(language, result)
    return (
        '<section class="dp-card dp-answer" aria-labelledby="dp-answer-title">'
        f'<h2 id="dp-answer-title">{escape(text(language, "answer.title"))}</h2>'
        '<div class="dp-hero"><div class="dp-dial">'
        f"{gauge(answer.probability, answer.low, answer.high, described)}"
        f'<div class="dp-number" data-test="probability">{escape(number)}</div>'
        f'<div class="dp-dial-text">{escape(text(language, "answer.of_deal"))}</div></div>'
        f'<div class="dp-words"><p class="dp-sentence">{escape(sentence(language, result))}</p>'
        f"{stands}"
        + (
            f'<p class="dp-soft" data-test="interval">{_BAND}{escape(interval)}</p>'
            if interval
            else ""
        )
        + _version(language, answer)
        + "</div></div></section>"
    )


def _version(language: Language, answer: Answer) -> str:
    if answer.version is None:
        return ""
    words = text(language, "answer.version", version=answer.version)
    return f'<p class="dp-soft" data-test="version"><small>{escape(words)}</small></p>'


def sentence(language: Language, result: Result) -> str:
    """Say in one sentence what the number means."""
    share = result.answer.probability
    hundred = one_in_hundred(share)
    if hundred == 0:
        return text(language, "answer.sentence_none")
    words = plural(language, hundred, "answer.ads")
    return text(language, "answer.sentence", number=hundred, ads=words)


def help_html(language: Language, result: Result) -> str:
    """Return suggestions, the curve over price, and the sum of the most demanded ads."""
    return (
        '<section class="dp-card" aria-labelledby="dp-help-title">'
        f'<h2 id="dp-help-title">{escape(text(language, "help.title"))}</h2>'
        f"{_suggestions(language, result)}</section>"
        '<section class="dp-card" aria-labelledby="dp-curve-title">'
        f'<h2 id="dp-curve-title">{escape(text(language, "curve.title"))}</h2>'
        f"{_curve(language, result)}</section>" + _demanded(language, result)
    )


def suggestion_text(language: Language, suggestion: Suggestion, ad: Mapping[str, Any]) -> str:
    """Return a suggestion as one plain sentence without its gain."""
    kind, values = suggestion.kind, {"value": str(suggestion.value)}
    if kind == "price":
        values = {"value": roubles(language, suggestion.value)}
        today = ad.get("price")
        kind_key = "price_set" if today is None else "price_less"
        if today is not None and suggestion.value > today:
            kind_key = "price_more"
        return text(language, f"suggest.{kind_key}", **values)
    if kind == "description":
        # Of a file's ads only the length is kept.
        letters = suggestion.value if isinstance(suggestion.value, int) else len(suggestion.value)
        values = {"value": count(language, letters)}
        known = "description" if ad.get("description") else "description_none"
        return text(language, f"suggest.{known}", **values)
    if kind == "param":
        return text(language, f"suggest.param_{PARAMS.index(suggestion.field) + 1}", **values)
    return text(language, f"suggest.{kind}", **values)


def _standing(language: Language, result: Result) -> str:
    rank = result.answer.percentile
    if not result.complete:
        return f'<p class="dp-note">{escape(text(language, "answer.only_probability"))}</p>'
    if rank is None:
        return ""
    share = whole_percent(language, rank)
    if not has_own_rank(result.facts):
        words = text(language, "answer.better_all", share=share)
        return f'<p class="dp-rank" data-test="percentile">{escape(words)}</p>'
    category = str(result.ad["category_name"])
    words = text(language, "answer.better", share=share, category=category)
    level = "strong" if rank >= _STRONG else "weak" if rank < _WEAK else "usual"
    return (
        f'<p class="dp-rank dp-{level}" data-test="percentile">{escape(words)}</p>'
        f'<p class="dp-soft">{escape(text(language, f"answer.{level}"))}</p>'
    )


def has_own_rank(facts: Mapping[str, Any] | None) -> bool:
    """Say whether the model ranks an ad among its category's, and not among all ads."""
    return facts is not None and facts.get("ads", 0) >= CATEGORY_ROWS_MIN


def _suggestions(language: Language, result: Result) -> str:
    found = result.advice.suggestions
    if not found:
        return f'<p data-test="no-suggestions">{escape(text(language, "help.nothing"))}</p>'
    items = "".join(_suggestion(language, suggestion, result.ad) for suggestion in found)
    return (
        f'<p class="dp-soft">{escape(text(language, "help.each_alone"))}</p>'
        f'<ol class="dp-suggestions">{items}</ol>'
    )


def _suggestion(language: Language, suggestion: Suggestion, ad: Mapping[str, Any]) -> str:
    asked = ""
    if suggestion.kind in ("description", "title"):
        asked = (
            f"<details><summary>{escape(text(language, 'help.asked'))}</summary>"
            f'<div class="dp-asked">{escape(str(suggestion.value))}</div></details>'
        )
    gain = text(language, "help.gain", gain=points(language, suggestion.gain))
    to = text(language, "help.to", value=percent(language, suggestion.probability))
    return (
        f'<li data-kind="{suggestion.kind}"><div class="dp-suggestion">'
        f"<div>{escape(suggestion_text(language, suggestion, ad))}{asked}</div>"
        f'<div class="dp-gain"><strong>{escape(gain)}</strong><span>{escape(to)}</span></div>'
        "</div></li>"
    )


def _curve(language: Language, result: Result) -> str:
    curve = result.advice.curve
    if curve is None:
        known = "curve.no_prices" if result.facts else "curve.no_facts"
        return f"<p>{escape(text(language, known))}</p>"
    today, mine = result.ad.get("price"), escape(text(language, "curve.today"))
    best = [roubles(language, price) for price in curve.best]
    band = best[0] if best[0] == best[1] else f"{best[0]} – {best[1]}"
    words = text(language, "curve.best", band=band)
    market = text(
        language,
        "curve.market",
        low=roubles(language, curve.market[0]),
        high=roubles(language, curve.market[1]),
    )
    return (
        f'<p data-test="best-range">{escape(words)}</p>'
        f"{_drawn(language, curve, today, result.answer.probability, words)}"
        '<ul class="dp-legend"><li><span class="dp-key dp-key-shade"></span>'
        f"{escape(text(language, 'curve.shaded'))}</li>"
        + ("" if today is None else f'<li><span class="dp-key dp-key-dot"></span>{mine}</li>')
        + f'</ul><p class="dp-soft">{escape(market)}</p>'
    )


def _drawn(
    language: Language, curve: PriceCurve, today: float | None, probability: float, words: str
) -> str:
    low, high = curve.prices[0], curve.prices[-1]
    x = Axis(low, high, (), logarithmic=True)
    labels = [
        price
        for price in log_ticks(low, high)
        if _TICK_EDGES[0] <= x.place(price) <= _TICK_EDGES[1]
    ]
    x = Axis(low, high, tuple((p, roubles(language, p)) for p in labels), logarithmic=True)
    ticks = nice_ticks(max(*curve.probabilities, probability))
    y = Axis(0.0, ticks[-1], tuple((t, percent(language, t)) for t in ticks))
    marks = []
    if today is not None:
        label = text(language, "curve.mark", price=roubles(language, today))
        marks.append(("dp-today", today, probability, label))
    line = list(zip(curve.prices, curve.probabilities, strict=True))
    description = text(
        language,
        "curve.label",
        low=roubles(language, low),
        high=roubles(language, high),
        first=percent(language, curve.probabilities[0]),
        last=percent(language, curve.probabilities[-1]),
    )
    return line_chart(
        x, y, [("dp-line", line)], f"{description} {words}", shaded=curve.best, marks=marks
    )


def _demanded(language: Language, result: Result) -> str:
    facts = (result.facts or {}).get("demanded")
    if not facts:
        return ""
    rows = []
    if facts.get("price"):
        price = [roubles(language, facts["price"][name]) for name in ("p25", "p75", "p50")]
        rows.append(("demanded.price", f"{price[0]} – {price[1]}", "demanded.middle", price[2]))
    letters = [count(language, facts["description_letters"][n]) for n in ("p25", "p75", "p50")]
    rows.append(("demanded.letters", f"{letters[0]} – {letters[1]}", "demanded.middle", letters[2]))
    cells = "".join(
        f"<div><dt>{escape(text(language, name))}</dt><dd>{escape(value)}"
        f"<small>{escape(text(language, more, value=middle))}</small></dd></div>"
        for name, value, more, middle in rows
    )
    photo = whole_percent(language, facts["photo_share"])
    cells += (
        f"<div><dt>{escape(text(language, 'demanded.photo'))}</dt><dd>{escape(photo)}</dd></div>"
    )
    intro = text(
        language,
        "demanded.intro",
        ads=count(language, facts["ads"]),
        category=str(result.ad["category_name"]),
    )
    return (
        '<section class="dp-card" aria-labelledby="dp-demanded-title">'
        f'<h2 id="dp-demanded-title">{escape(text(language, "demanded.title"))}</h2>'
        f'<p class="dp-soft">{escape(intro)}</p><dl class="dp-facts">{cells}</dl></section>'
    )
