"""The answers to many ads as HTML: progress, histogram, and a table that can be sorted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from demand.serving.page.charts import Axis, bar_chart, nice_ticks
from demand.serving.page.rows import (
    Progress,
    Row,
    answered_of,
    problem_words,
    suggestion_words,
)
from demand.serving.page.texts import Language, count, decimal, percent, text, whole_percent

PAGE_ROWS = 25
_BINS = 20
SORTS = ("line", "title", "probability", "percentile", "gain", "problem")
_DESCENDING_FIRST = ("probability", "percentile", "gain", "problem")


@dataclass(frozen=True)
class View:
    """Which part of the table is shown: sorted by what, which way, which page from 0."""

    sort: str = "line"
    descending: bool = False
    page: int = 0

    def sorted_by(self, name: str) -> View:
        """Return the view after a click on a column's head."""
        if name not in SORTS:
            return self
        if name == self.sort:
            return View(name, not self.descending)
        return View(name, name in _DESCENDING_FIRST)


def progress_html(language: Language, progress: Progress | None) -> str:
    """Return how far it is, or how it ended."""
    if progress is None:
        return ""
    total, done = len(progress.rows), progress.reached
    if progress.finished:
        bad = sum(bool(row.problems) for row in progress.rows)
        words = text(
            language,
            "many.done",
            answered=count(language, answered_of(progress.rows)),
            rows=count(language, total),
            seconds=decimal(language, f"{progress.seconds:.1f}"),
        )
        if bad:
            words += " " + text(language, "many.bad", rows=count(language, bad))
    else:
        words = text(
            language, "many.progress", done=count(language, done), rows=count(language, total)
        )
    note = ""
    if progress.waiting is not None:
        ended = "many.gave_up" if progress.finished else "many.waiting"
        note = (
            f'<p class="dp-note" role="alert">'
            f"{escape(text(language, f'trouble.{progress.waiting.kind}'))} "
            f"{escape(text(language, ended))}</p>"
        )
    label = escape(text(language, "many.progress_label"))
    return (
        f'<div class="dp-progress"><progress max="{max(total, 1)}" value="{done}" '
        f'aria-label="{label}"></progress><p role="status">{escape(words)}</p>{note}</div>'
    )


def results_html(language: Language, rows: Sequence[Row], view: View) -> str:
    """Return the histogram and one page of the table."""
    if not rows:
        return ""
    ordered = sorted_rows(rows, view)
    pages = max(1, -(-len(ordered) // PAGE_ROWS))
    page = min(max(0, view.page), pages - 1)
    shown = ordered[page * PAGE_ROWS : (page + 1) * PAGE_ROWS]
    body = "".join(_row(language, row) for row in shown)
    label = escape(text(language, "many.table"))
    return (
        _histogram(language, rows)
        + '<section class="dp-card" aria-labelledby="dp-table-title">'
        + f'<h2 id="dp-table-title">{label}</h2>'
        + f'<div class="dp-scroll" tabindex="0" role="region" aria-label="{label}">'
        + '<table class="dp-table dp-ads" role="table"><thead role="rowgroup"><tr role="row">'
        + f'{_heads(language, view)}</tr></thead><tbody role="rowgroup">{body}</tbody></table>'
        + f"</div>{_pages(language, page, pages)}</section>"
    )


def sorted_rows(rows: Sequence[Row], view: View) -> list[Row]:
    """Return the rows in the view's order; those without the value come last, always."""

    def value(row: Row) -> float | str | None:
        answer = row.answer
        if view.sort == "line":
            return row.line
        if view.sort == "title":
            return None if row.ad is None else str(row.ad["title"]).casefold()
        if view.sort == "problem":
            return len(row.problems)
        if answer is None:
            return None
        if view.sort == "gain":
            return row.suggestions[0].gain if row.suggestions else 0.0
        return answer.probability if view.sort == "probability" else answer.percentile

    known = [row for row in rows if value(row) is not None]
    unknown = [row for row in rows if value(row) is None]
    known.sort(key=lambda row: value(row) or type(value(row))(), reverse=view.descending)  # type: ignore[misc]
    return known + unknown


def _histogram(language: Language, rows: Sequence[Row]) -> str:
    values = [row.answer.probability for row in rows if row.answer is not None]
    if not values:
        return ""
    high = nice_ticks(max(values))[-1]
    counts = [0] * _BINS
    for value in values:
        counts[min(_BINS - 1, int(value / high * _BINS))] += 1
    top = [tick for tick in nice_ticks(max(counts)) if tick.is_integer()]
    x = Axis(0.0, high, tuple((tick, percent(language, tick)) for tick in nice_ticks(high)))
    y = Axis(0.0, top[-1], tuple((tick, count(language, tick)) for tick in top))
    middle = sorted(values)[len(values) // 2]
    described = text(
        language,
        "many.histogram_label",
        ads=count(language, len(values)),
        middle=percent(language, middle),
        most=percent(language, max(values)),
    )
    return (
        '<section class="dp-card" aria-labelledby="dp-histogram-title">'
        f'<h2 id="dp-histogram-title">{escape(text(language, "many.histogram"))}</h2>'
        f'{bar_chart(x, counts, y, described)}<p class="dp-soft">{escape(described)}</p></section>'
    )


def _heads(language: Language, view: View) -> str:
    heads = []
    for name in SORTS:
        direction = "none"
        if name == view.sort:
            direction = "descending" if view.descending else "ascending"
        sign = {"none": "↕", "descending": "↓", "ascending": "↑"}[direction]
        heads.append(
            f'<th role="columnheader" scope="col" aria-sort="{direction}" class="dp-col-{name}">'
            f'<button type="button" data-sort="{name}">'
            f"{escape(text(language, f'table.{name}'))} "
            f'<span aria-hidden="true">{sign}</span></button></th>'
        )
    return "".join(heads)


def _row(language: Language, row: Row) -> str:
    answer = row.answer
    probability = "–" if answer is None else percent(language, answer.probability)
    known = answer is not None and answer.percentile is not None
    rank = whole_percent(language, answer.percentile or 0.0) if answer and known else "–"
    if known and row.among_all:
        rank = text(language, "table.of_all", share=rank)
    title = f"№ {row.item_id or '–'}" if row.ad is None else str(row.ad["title"])
    first = suggestion_words(language, row, row.suggestions[0]) if row.suggestions else ""
    more = "".join(
        f"<li>{escape(suggestion_words(language, row, suggestion))}</li>"
        for suggestion in row.suggestions[1:]
    )
    if more:
        label = escape(text(language, "table.more", number=len(row.suggestions) - 1))
        more = f"<details><summary>{label}</summary><ul>{more}</ul></details>"
    problem = problem_words(language, row)
    bad = ' class="dp-bad"' if problem else ""
    cells = (
        ("line", str(row.line)),
        ("title", escape(title)),
        ("probability", escape(probability)),
        ("percentile", escape(rank)),
        ("gain", escape(first) + more),
        ("problem", escape(problem)),
    )
    # On a phone rows are blocks, and the roles say that they are rows all the same.
    return f'<tr role="row"{bad}>' + "".join(_cell(language, *cell) for cell in cells) + "</tr>"


def _cell(language: Language, name: str, content: str) -> str:
    tag, role = ("th", "rowheader") if name == "title" else ("td", "cell")
    head = escape(text(language, f"table.{name}"))
    empty = "" if content else " dp-nothing"
    return f'<{tag} role="{role}" class="dp-col-{name}{empty}" data-head="{head}">{content}</{tag}>'


def _pages(language: Language, page: int, pages: int) -> str:
    if pages == 1:
        return ""
    where = escape(text(language, "table.page", page=page + 1, pages=count(language, pages)))
    buttons = [
        f'<button type="button" data-page="{target}" {"" if possible else "disabled"}>'
        f"{escape(text(language, name))}</button>"
        for name, target, possible in (
            ("table.previous", page - 1, page > 0),
            ("table.next", page + 1, page + 1 < pages),
        )
    ]
    first, last = buttons
    return f'<nav class="dp-pages" aria-label="{where}">{first}<span>{where}</span>{last}</nav>'
