"""Shares, quantiles and means of demo ads beside the published ones of the real ads."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd

from demand.ads import TARGET
from demand.reference import reference

TOLERANCE = 0.006
# A figure of few ads may also be off by chance: this many standard errors of both sides.
STANDARD_ERRORS = 3.0
# The shapes that the generator follows (price quantiles by category, sequence numbers) were
# measured on samples of this size, not on the whole file.
SAMPLE_ROWS = 11_000


@dataclass(frozen=True)
class Comparison:
    """One figure of both; ``demo`` must lie within ``tolerance`` of ``real``."""

    group: str
    figure: str
    real: float
    demo: float
    tolerance: float

    @property
    def passed(self) -> bool:
        """Whether the two are near enough."""
        return bool(abs(self.demo - self.real) <= self.tolerance)

    def as_dict(self) -> dict[str, Any]:
        """Return the comparison for JSON."""
        return {**asdict(self), "passed": self.passed}


def compare_shapes(ads: pd.DataFrame) -> list[Comparison]:
    """Compare many demo ads with the published figures of the whole ``train.csv``."""
    return [*_shares(ads), *_missing(ads), *_target(ads), *_means(ads), *_quantiles(ads)]


def _shares(ads: pd.DataFrame) -> Iterator[Comparison]:
    known = reference()
    for column, counts in (
        ("region", known.regions),
        ("category_name", known.category_counts),
        ("user_type", known.user_types),
    ):
        shares = ads[column].value_counts(normalize=True)
        for name, rows in counts.items():
            real = rows / sum(counts.values())
            yield Comparison(
                f"share of {column}", name, real, float(shares.get(name, 0.0)), TOLERANCE
            )
    dates: dict[str, int] = known.raw["dates"]
    days = ads["activation_date"].dt.strftime("%Y-%m-%d").value_counts(normalize=True)
    for day, rows in dates.items():
        real = rows / sum(dates.values())
        yield Comparison("share of date", day, real, float(days.get(day, 0.0)), TOLERANCE)


def _missing(ads: pd.DataFrame) -> Iterator[Comparison]:
    for column, real in reference().missing_share.items():
        yield Comparison("missing", column, real, float(ads[column].isna().mean()), TOLERANCE)


def _target(ads: pd.DataFrame) -> Iterator[Comparison]:
    figures = reference().raw["describe"][TARGET]
    target = ads[TARGET]
    yield Comparison("target", "mean", figures["mean"], float(target.mean()), TOLERANCE)
    yield Comparison("target", "std", figures["std"], float(target.std()), TOLERANCE)
    zeros, ones = float((target == 0.0).mean()), float((target == 1.0).mean())
    yield Comparison("target", "share of 0", figures["zero_share"], zeros, TOLERANCE)
    yield Comparison("target", "share of 1", figures["one_share"], ones, TOLERANCE)
    for level, real in figures["share_ge"].items():
        demo = float((target >= float(level)).mean())
        yield Comparison("target", f"share >= {level}", real, demo, TOLERANCE)


def _means(ads: pd.DataFrame) -> Iterator[Comparison]:
    known = reference()
    for column, means, counts in (
        ("category_name", known.raw["mean_target_by_category"], known.category_counts),
        ("user_type", known.raw["mean_target_by_user_type"], known.user_types),
    ):
        groups = ads.groupby(column)
        for name, real in means.items():
            if name not in groups.groups:
                continue
            group = groups.get_group(name)
            tolerance = max(TOLERANCE, STANDARD_ERRORS * _error_of_mean(group, counts[name]))
            demo = float(group[TARGET].mean())
            yield Comparison(f"mean target by {column}", name, real, demo, tolerance)


def _error_of_mean(ads: pd.DataFrame, real_rows: int) -> float:
    """Return the standard error of the difference of two means, ads clustered by seller."""
    residuals = ads[TARGET] - ads[TARGET].mean()
    by_seller = residuals.groupby(ads["user_id"]).sum()
    clustered = float((by_seller**2).sum()) / len(ads) ** 2
    return float((clustered * (1.0 + len(ads) / real_rows)) ** 0.5)


def _quantiles(ads: pd.DataFrame) -> Iterator[Comparison]:
    """Compare quantiles by their level: the share of demo ads up to the real quantile."""
    figures = reference().raw
    for column in ("item_seq_number", "image_top_1", "price"):
        values = ads[column].dropna()
        for name, level in (("p25", 0.25), ("p50", 0.50), ("p75", 0.75)):
            if (quantile := figures["describe"][column].get(name)) is not None:
                yield Comparison(
                    "level of quantile",
                    f"{column} {name} = {quantile}",
                    level,
                    _level(values, quantile, level),
                    max(TOLERANCE, STANDARD_ERRORS * (level * (1 - level) / SAMPLE_ROWS) ** 0.5),
                )
    prices = ads[["category_name", "price"]].dropna().groupby("category_name")["price"]
    total = sum(reference().category_counts.values())
    for name, quantiles in figures["price_quantiles_by_category"].items():
        if name not in prices.groups:
            continue
        values = prices.get_group(name)
        sampled = SAMPLE_ROWS * reference().category_counts[name] / total
        for level, quantile in zip((0.05, 0.25, 0.5, 0.75, 0.95), quantiles, strict=True):
            error = (level * (1 - level) * (1 / len(values) + 1 / sampled)) ** 0.5
            yield Comparison(
                "level of price quantile by category",
                f"{name} p{100 * level:.0f} = {quantile:.0f}",
                level,
                _level(values, quantile, level),
                max(TOLERANCE, STANDARD_ERRORS * error),
            )


def _level(values: pd.Series, quantile: float, level: float) -> float:
    """Return the share of values up to a quantile; of a pile on it, as much as fits best."""
    below = float((values < quantile).mean())
    up_to = float((values <= quantile).mean())
    return float(np.clip(level, below, up_to))
