"""Markdown that no text from outside can break, and the HTML page made of it."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping, Sequence
from html import escape

from markdown_it import MarkdownIt
from markdown_it.renderer import RendererHTML
from markdown_it.token import Token
from markdown_it.utils import EnvType, OptionsDict

from demand.evaluation.page import PLOT_TITLES, POLICY, STYLE


class Markdown(str):
    """A text that is Markdown already, and must not be escaped again."""

    __slots__ = ()


# Beside what Markdown reads: addresses, which GitHub would turn into links.
_SPECIAL = re.compile(r"[\\`*\[\]<>|~&$]|(?<![^\W_])_|_(?![^\W_])|(?<=:)/(?=/)|(?<=[wW]{3})\.")
_LEADING = re.compile(r"^(\d*)([-#+=.)])")
# Control characters, those that turn the direction of a line round, and half characters.
_UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def _clean(text: object) -> str:
    """Put any text on one line, without what a terminal or a browser would act on."""
    return _UNPRINTABLE.sub("\N{REPLACEMENT CHARACTER}", " ".join(str(text).split()))


def escaped(text: object) -> str:
    """Escape a text for a place inside a line of Markdown."""
    return _SPECIAL.sub(r"\\\g<0>", _clean(text))


def bullets(texts: Sequence[str]) -> Markdown:
    """Return a list; at the beginning of a line more is markup than inside."""
    return Markdown("\n".join("- " + _LEADING.sub(r"\1\\\2", escaped(text)) for text in texts))


def table(
    heads: Sequence[str], rows: Sequence[Sequence[object]], *, texts: Sequence[int] = (0,)
) -> Markdown:
    """Return a table, or nothing without rows; ``texts`` are the columns without numbers."""
    if not rows:
        return Markdown()
    rules = [":---" if column in texts else "---:" for column in range(len(heads))]
    lines = [list(heads), rules, *([escaped(cell) for cell in row] for row in rows)]
    return Markdown("\n".join(f"| {' | '.join(line)} |" for line in lines))


def code(commands: Sequence[str]) -> Markdown:
    """Return commands as a block that no text within them can end."""
    text = "\n".join(map(_clean, commands))
    fence = "`" * max(3, 1 + max(map(len, re.findall("`+", text)), default=0))
    return Markdown(f"{fence}sh\n{text}\n{fence}")


_PLOT_BLOCK = "plot"
_PLOTS_OF_SECTIONS = ("training_curve", "error_by_category", "calibration")


def plot(name: str, plots: Mapping[str, bytes]) -> Markdown:
    """Return the place of a plot, for :class:`_Renderer`; nothing where it is not given."""
    if name not in plots:
        return Markdown()
    return Markdown(f"```{_PLOT_BLOCK}\n{list(plots).index(name)}\n```")


def other_plots(plots: Mapping[str, bytes]) -> list[str]:
    """Return the plots that belong to no section of their own."""
    return [name for name in plots if name not in _PLOTS_OF_SECTIONS]


class _Renderer(RendererHTML):
    """Markdown's HTML, with the plots inside."""

    def fence(self, tokens: Sequence[Token], idx: int, options: OptionsDict, env: EnvType) -> str:
        """Put a plot in its place."""
        if tokens[idx].info != _PLOT_BLOCK:
            return super().fence(tokens, idx, options, env)
        name, png = list(env["plots"].items())[int(tokens[idx].content)]
        caption = escape(_clean(PLOT_TITLES.get(name, name)))
        data = base64.b64encode(png).decode("ascii")
        return (
            f'<figure><img alt="{caption}" src="data:image/png;base64,{data}">'
            f"<figcaption>{caption}</figcaption></figure>\n"
        )


_STYLE = """
blockquote { margin: 1rem 0; padding: .1rem 1rem; border-left: 4px solid var(--no); }
pre { overflow-x: auto; padding: .6rem .8rem; border: 1px solid var(--line); border-radius: 6px; }
td { overflow-wrap: break-word; vertical-align: top; }
figure { margin: 1rem 0; max-width: 44rem; }
"""


def markdown_page(markdown: str, title: str, plots: Mapping[str, bytes]) -> str:
    """Return Markdown as an HTML page that needs nothing but itself.

    Parameters
    ----------
    markdown
        Text in which each plot has its place by :func:`plot`.
    title
        Of the page; it is escaped.
    plots
        PNG bytes by name, in the order that :func:`plot` was given.
    """
    parser = MarkdownIt("commonmark", {"html": False}, renderer_cls=_Renderer).enable("table")
    body = parser.render(markdown, {"plots": plots})
    # Only the renderer writes tags, so these are its tables; wide ones scroll by themselves.
    body = body.replace("<table>", '<div class="scroll"><table>')
    body = body.replace("</table>", "</table></div>")
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="{POLICY}">
<title>{escape(title)}</title>
<style>{STYLE}{_STYLE}</style>
</head>
<body>
{body}</body>
</html>
"""
