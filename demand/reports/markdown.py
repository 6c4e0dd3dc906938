"""Markdown that no text from outside can break, the figures in it, and the page made of it."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence

from markdown_it import MarkdownIt
from markupsafe import Markup

from demand.reports.pages import PLOT_TITLES, data_address, render
from demand.schema.error_text import counted as counted  # the templates', too

NOT_MEASURED = "not measured"
# Beside what Markdown reads: addresses, which GitHub would turn into links.
_SPECIAL = re.compile(r"[\\`*\[\]<>|~&$]|(?<![^\W_])_|_(?![^\W_])|(?<=:)/(?=/)|(?<=[wW]{3})\.")
_LEADING = re.compile(r"^(\d*)([-#+=.)])")
# Control characters, those that turn the direction of a line round, and half characters.
_UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


class Markdown(str):
    """A text that is Markdown already, and must not be escaped again."""

    __slots__ = ()


def _clean(text: object) -> str:
    """Put any text on one line, without what a terminal or a browser would act on."""
    return _UNPRINTABLE.sub("\N{REPLACEMENT CHARACTER}", " ".join(str(text).split()))


def escaped(text: object) -> Markdown:
    """Escape a text for a place inside a line of Markdown; what is Markdown stays as it is."""
    if isinstance(text, Markdown):
        return text
    return Markdown(_SPECIAL.sub(r"\\\g<0>", _clean(text)))


def bullets(texts: Sequence[str]) -> Markdown:
    """Return a list; at the beginning of a line more is markup than inside."""
    return Markdown("\n".join("- " + _LEADING.sub(r"\1\\\2", escaped(text)) for text in texts))


def table(heads: Sequence[str], rows: Sequence[Sequence[object]]) -> Markdown:
    """Return a table whose first column has texts, the others numbers."""
    rules = [":---", *["---:"] * (len(heads) - 1)]
    lines = [heads, rules, *([*map(escaped, row)] for row in rows)]
    return Markdown("\n".join(f"| {' | '.join(line)} |" for line in lines))


def code(commands: Sequence[str]) -> Markdown:
    """Return commands as a block that no text within them can end."""
    text = "\n".join(map(_clean, commands))
    fence = "`" * max(3, 1 + max(map(len, re.findall("`+", text)), default=0))
    return Markdown(f"{fence}sh\n{text}\n{fence}")


def plot(name: str, plots: Mapping[str, bytes]) -> Markdown:
    """Return a plot with its caption; nothing where it is not given."""
    if name not in plots:
        return Markdown()
    caption = escaped(PLOT_TITLES.get(name, name))
    return Markdown(f"![{caption}]({data_address(plots[name])})\n\n*{caption}*")


def markdown_page(markdown: str, title: str) -> str:
    """Return Markdown as an HTML page that needs nothing but itself; ``title`` is escaped."""
    parser = MarkdownIt("commonmark", {"html": False, "xhtmlOut": False}).enable("table")
    body = parser.render(markdown)
    return render("markdown.html", title=title, body=Markup(body))  # noqa: S704 - it wrote the tags


def number(value: float, form: str = ".4f") -> str:
    """Write a figure, or that it was not measured."""
    if math.isnan(value):
        return NOT_MEASURED
    return format(value, form) if math.isfinite(value) else "infinite"


def span(low: float, high: float, form: str = ".4f") -> str:
    """Write an interval, or that it was not measured."""
    if math.isnan(low) or math.isnan(high):
        return NOT_MEASURED
    return f"{number(low, form)} to {number(high, form)}"


def with_interval(found: Mapping[str, float], key: str, form: str = ".4f") -> str:
    """Write a figure with its interval where it has one; nothing where it is absent."""
    if key not in found:
        return ""
    value, low, high = number(found[key], form), f"{key}_low", f"{key}_high"
    if value == NOT_MEASURED or low not in found or high not in found:
        return value
    return f"{value} (interval: {span(found[low], found[high], form)})"


def judgement(low: float, high: float) -> str:
    """Say in a word what an interval of a difference of errors means."""
    if math.isnan(low) or math.isnan(high):
        return NOT_MEASURED
    return "better" if high < 0 else "worse" if low > 0 else "not clearly different"
