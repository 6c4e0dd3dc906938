"""Figures as texts; what is not known is said in words."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from typing import Any

NOT_MEASURED = "not measured"


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


def counted(count: int | None, what: str = "ad") -> str:
    """Write a number of things with its noun; the noun alone where it is not known."""
    return f"{what}s" if count is None else f"{count:,} {what}{'' if count == 1 else 's'}"


def size(size_bytes: int) -> str:
    """Write a size in decimal megabytes, or kilobytes below one."""
    return f"{size_bytes / 1e6:,.2f} MB" if size_bytes >= 1e6 else f"{size_bytes / 1e3:,.1f} KB"


def flat(settings: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, str]]:
    """Yield each setting by its dotted name, its value as JSON."""
    for key, value in settings.items():
        if isinstance(value, Mapping):
            yield from flat(value, f"{above}{key}.")
        else:
            shown = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
            yield f"{above}{key}", shown
