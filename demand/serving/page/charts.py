"""Charts as inline SVG and HTML, which take their colours from the page's style sheet.

Lines are drawn in a square that is stretched to the width there is; words and dots are
HTML above it, so that they stay legible at a phone's width. A chart is one image with one
description to a screen reader.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

Point = tuple[float, float]
_SIZE = 100.0


@dataclass(frozen=True)
class Axis:
    """One direction of a chart.

    Parameters
    ----------
    low, high
        Values at its ends.
    ticks
        Values that are marked, with what is written there.
    logarithmic
        Equal ratios are equally long.
    """

    low: float
    high: float
    ticks: tuple[tuple[float, str], ...]
    logarithmic: bool = False

    def place(self, value: float) -> float:
        """Return where a value is, in percent of the length; at an end what is beyond it."""
        low, high, here = self.low, self.high, value
        if self.logarithmic:
            low, high, here = (math.log(max(v, 1.0)) for v in (low, high, here))
        share = 0.5 if high <= low else (here - low) / (high - low)
        return _SIZE * min(1.0, max(0.0, share))


def gauge(probability: float, low: float | None, high: float | None, description: str) -> str:
    """Draw a half circle that is filled up to a probability, and the interval inside it."""
    track = f'<path class="dp-track" d="{_arc(0.0, 1.0)}"/>'
    band = ""
    if low is not None and high is not None and high > low:
        band = f'<path class="dp-band" d="{_arc(low, high, 70.0)}"/>'
    value = f'<path class="dp-value" d="{_arc(0.0, max(probability, 0.004))}"/>'
    x, y = _on_circle(probability, 84.0)
    tip = f'<circle class="dp-tip" cx="{x:.2f}" cy="{y:.2f}" r="9"/>'
    return (
        f'<svg class="dp-gauge" viewBox="0 0 200 112" role="img" '
        f'aria-label="{escape(description)}"><title>{escape(description)}</title>'
        f"{track}{band}{value}{tip}</svg>"
    )


def line_chart(
    x: Axis,
    y: Axis,
    lines: Sequence[tuple[str, Sequence[Point]]],
    description: str,
    *,
    shaded: tuple[float, float] | None = None,
    marks: Sequence[tuple[str, float, float, str]] = (),
) -> str:
    """Draw lines over two axes.

    Parameters
    ----------
    lines
        CSS class and points of each.
    description
        For those who do not see it.
    shaded
        From where to where on the x axis the ground is coloured.
    marks
        Dots: CSS class, x, y, and what is written above; empty: nothing.
    """
    drawn = [_grid(y)]
    if shaded is not None:
        left, right = x.place(shaded[0]), x.place(shaded[1])
        # A range of one price is to be seen, too.
        left, right = (left, right) if right - left >= 2 else (left - 1, right + 1)
        drawn.append(
            f'<rect class="dp-shade" x="{left:.2f}" y="0" width="{right - left:.2f}" height="100"/>'
        )
    for name, points in lines:
        path = " ".join(f"{x.place(a):.2f},{_SIZE - y.place(b):.2f}" for a, b in points)
        drawn.append(f'<polyline class="{name}" points="{path}"/>')
    dots = "".join(_mark(x, y, *mark) for mark in marks)
    return _framed(x, y, "".join(drawn), dots, description)


def bar_chart(x: Axis, counts: Sequence[int], y: Axis, description: str) -> str:
    """Draw counts as bars that fill the x axis side by side."""
    width = _SIZE / max(1, len(counts))
    bars = "".join(
        f'<rect class="dp-bar" x="{i * width + 0.4:.2f}" y="{_SIZE - y.place(number):.2f}" '
        f'width="{width - 0.8:.2f}" height="{y.place(number):.2f}"/>'
        for i, number in enumerate(counts)
    )
    return _framed(x, y, _grid(y) + bars, "", description)


def nice_ticks(high: float, count: int = 4) -> list[float]:
    """Return round values from 0 to at least ``high``, about ``count`` steps apart."""
    if high <= 0:
        return [0.0, 1.0]
    raw = high / count
    scale = 10.0 ** math.floor(math.log10(raw))
    step = next(m * scale for m in (1, 2, 2.5, 5, 10) if m * scale >= raw * 0.999)
    return [i * step for i in range(math.ceil(high / step - 1e-9) + 1)]


def log_ticks(low: float, high: float, most: int = 4) -> list[float]:
    """Return round values between two prices, for an axis of equal ratios."""
    low, high = max(low, 1.0), max(high, 1.0)
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    for steps in ((1, 2, 5), (1, 3), (1,)):
        ticks = [m * 10.0**e for e in range(first, last + 1) for m in steps]
        inside = [tick for tick in ticks if low <= tick <= high]
        if len(inside) <= most:
            break
    every = math.ceil(len(inside) / most)
    return inside[::every] if len(inside) > 1 else [low, high]


def _framed(x: Axis, y: Axis, drawn: str, above: str, description: str) -> str:
    ticks_x = "".join(
        f'<span class="dp-tick-x" style="left:{x.place(value):.2f}%">{escape(label)}</span>'
        for value, label in x.ticks
    )
    ticks_y = "".join(
        f'<span class="dp-tick-y" style="bottom:{y.place(value):.2f}%">{escape(label)}</span>'
        for value, label in y.ticks
    )
    return (
        f'<div class="dp-chart" role="img" aria-label="{escape(description)}">'
        f'<div class="dp-plot" aria-hidden="true">{ticks_y}'
        f'<svg viewBox="0 0 100 100" preserveAspectRatio="none">{drawn}</svg>'
        f"{above}{ticks_x}</div></div>"
    )


def _grid(y: Axis) -> str:
    return "".join(
        f'<line class="dp-grid" x1="0" x2="100" y1="{_SIZE - y.place(value):.2f}" '
        f'y2="{_SIZE - y.place(value):.2f}"/>'
        for value, _ in y.ticks
    )


def _mark(x: Axis, y: Axis, name: str, a: float, b: float, label: str) -> str:
    left, bottom = x.place(a), y.place(b)
    side = " dp-left" if left > 70 else " dp-right" if left < 30 else ""
    words = f'<span class="dp-mark-text{side}">{escape(label)}</span>' if label else ""
    return (
        f'<span class="dp-mark {name}" style="left:{left:.2f}%;bottom:{bottom:.2f}%">{words}</span>'
    )


def _arc(start: float, end: float, radius: float = 84.0) -> str:
    """Return the path of a part of a half circle."""
    (x0, y0), (x1, y1) = _on_circle(start, radius), _on_circle(end, radius)
    return f"M {x0:.2f} {y0:.2f} A {radius:g} {radius:g} 0 0 1 {x1:.2f} {y1:.2f}"


def _on_circle(share: float, radius: float) -> Point:
    angle = math.pi * (1.0 - min(1.0, max(0.0, share)))
    return 100.0 + radius * math.cos(angle), 100.0 - radius * math.sin(angle)
