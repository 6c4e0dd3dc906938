"""Are the demo ads as hard as the real ones? ``python -m benchmarks.demo_fidelity``.

Trains category means, ridge on TF-IDF and LightGBM on demo ads and on real ads with the
same code, by cross-validation grouped by seller, and prints their errors side by side;
then the shares, quantiles and means of many demo ads beside the published ones of the
real ads. Exit status 0 where all lie within their tolerances, 1 where one does not.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from benchmarks.quality_folds import Entry, cross_validate, seller_folds
from benchmarks.quality_peers import LightGBMPeer, MeanModel, RidgePeer, Settings, plain
from benchmarks.report import Grid, Report, Say, program_parser, run
from demand.data.reading import read_ads
from demand.demo import generate, noise_floor
from demand.evaluation.baselines import CategoryMeans
from demand.evaluation.metrics import rmse
from demand.schema.columns import TARGET
from demand.schema.population import reference
from demand.workspace.workspace import PROJECT_ROOT

TOLERANCE = 0.006
# A figure of few ads may also be off by chance: this many standard errors of both sides.
STANDARD_ERRORS = 3.0
# The shapes that the generator follows (price quantiles by category, sequence numbers) were
# measured on samples of this size, not on the whole file.
SAMPLE_ROWS = 11_000
# What the searches of benchmarks.quality choose on real ads, or near it.
RIDGE, LIGHTGBM = Settings({"alpha": 40.0}), Settings(rounds=200)
PEERS = [
    Entry("mean", "mean", plain("mean", lambda _: MeanModel())),
    Entry("categories", "category means", plain("categories", lambda _: CategoryMeans())),
    Entry("ridge", "ridge on TF-IDF", plain("ridge", lambda _: RidgePeer(RIDGE))),
    Entry("lightgbm", "LightGBM", plain("lightgbm", lambda _: LightGBMPeer(LIGHTGBM))),
]


@dataclass(frozen=True)
class Comparison:
    """One figure of both; ``demo`` must lie within ``tolerance`` of ``real``."""

    group: str
    figure: str
    real: float
    demo: float
    tolerance: float = TOLERANCE

    @property
    def passed(self) -> bool:
        """Whether the two are near enough."""
        return bool(abs(self.demo - self.real) <= self.tolerance)


def compare_errors(
    demo: pd.DataFrame, real: pd.DataFrame, folds: int, peers: list[Entry] | None = None
) -> list[Comparison]:
    """Return the peers' cross-validated RMSE on both sets of ads."""
    errors = []
    for ads in (real, demo):
        fold = seller_folds(ads["user_id"], folds, 0)
        outcomes = cross_validate(peers or PEERS, ads, fold)
        errors.append({o.entry.name: rmse(ads[TARGET], o.predicted[0]) for o in outcomes})
    return [Comparison("RMSE", name, error, errors[1][name]) for name, error in errors[0].items()]


def compare_shapes(ads: pd.DataFrame) -> list[Comparison]:
    """Compare many demo ads with the published figures of the whole ``train.csv``."""
    missing = [
        Comparison("missing", column, real, float(ads[column].isna().mean()))
        for column, real in reference().missing_share.items()
    ]
    return [*_shares(ads), *missing, *_target(ads), *_means(ads), *_quantiles(ads)]


def _shares(ads: pd.DataFrame) -> Iterator[Comparison]:
    known = reference()
    dates: Mapping[str, int] = known.raw["dates"]
    days = ads["activation_date"].dt.strftime("%Y-%m-%d")
    for name, column, counts in (
        ("region", ads["region"], known.regions),
        ("category_name", ads["category_name"], known.category_counts),
        ("user_type", ads["user_type"], known.user_types),
        ("date", days, dates),
    ):
        shares = column.value_counts(normalize=True)
        for value, rows in counts.items():
            real = rows / sum(counts.values())
            yield Comparison(f"share of {name}", value, real, float(shares.get(value, 0.0)))


def _target(ads: pd.DataFrame) -> Iterator[Comparison]:
    figures, target = reference().raw["describe"][TARGET], ads[TARGET]
    yield Comparison("target", "mean", figures["mean"], float(target.mean()))
    yield Comparison("target", "std", figures["std"], float(target.std()))
    for name, value in (("zero_share", 0.0), ("one_share", 1.0)):
        share = float((target == value).mean())
        yield Comparison("target", f"share of {value:.0f}", figures[name], share)
    for level, real in figures["share_ge"].items():
        share = float((target >= float(level)).mean())
        yield Comparison("target", f"share >= {level}", real, share)


def _means(ads: pd.DataFrame) -> Iterator[Comparison]:
    known = reference()
    for column, means, counts in (
        ("category_name", known.raw["mean_target_by_category"], known.category_counts),
        ("user_type", known.raw["mean_target_by_user_type"], known.user_types),
    ):
        for name, real in means.items():
            group = ads[ads[column] == name]
            if len(group):
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
                error = (level * (1 - level) / SAMPLE_ROWS) ** 0.5
                figure = f"{column} {name} = {quantile}"
                yield _level("level of quantile", figure, values, quantile, level, error)
    total = sum(reference().category_counts.values())
    known = figures["price_quantiles_by_category"]
    for name, quantiles in known.items():
        values = ads.loc[ads["category_name"] == name, "price"].dropna()
        if values.empty:
            continue
        sampled = SAMPLE_ROWS * reference().category_counts[name] / total
        for level, quantile in zip((0.05, 0.25, 0.5, 0.75, 0.95), quantiles, strict=True):
            error = (level * (1 - level) * (1 / len(values) + 1 / sampled)) ** 0.5
            figure = f"{name} p{100 * level:.0f} = {quantile:.0f}"
            group = "level of price quantile by category"
            yield _level(group, figure, values, quantile, level, error)


def _level(
    group: str, figure: str, values: pd.Series, quantile: float, level: float, error: float
) -> Comparison:
    """Compare a level with the share up to its quantile; of a pile on it, what fits best."""
    below, up_to = float((values < quantile).mean()), float((values <= quantile).mean())
    tolerance = max(TOLERANCE, STANDARD_ERRORS * error)
    return Comparison(group, figure, level, min(max(level, below), up_to), tolerance)


def grid_of(comparisons: list[Comparison], title: str) -> Grid:
    """Return a table with one line a figure."""
    rows = [
        (
            each.figure if each.group == "RMSE" else f"{each.group}: {each.figure}",
            each.real,
            each.demo,
            each.demo - each.real,
            each.tolerance,
            "pass" if each.passed else "FAIL",
        )
        for each in comparisons
    ]
    columns = {"figure": "", "real": ".4f", "demo": ".4f", "difference": "+.4f"}
    return Grid(title, {**columns, "tolerance": ".4f", "passed": ""}, rows)


def worst_of_each(comparisons: list[Comparison]) -> list[Comparison]:
    """Return all that failed, all of small groups, and the worst of each large group."""
    shown = []
    for group in dict.fromkeys(item.group for item in comparisons):
        members = [item for item in comparisons if item.group == group]
        worst = max(members, key=lambda item: abs(item.demo - item.real) / item.tolerance)
        few = len(members) <= 15
        shown += [item for item in members if few or not item.passed or item is worst]
    return shown


def main(arguments: list[str] | None = None) -> int:
    """Compare, print and write; return the exit status."""
    parser = program_parser("demo_fidelity", __doc__, "--data ../shared/avito/ads.csv")
    parser.add_argument("--data", type=Path, default=PROJECT_ROOT / "../shared/avito/ads.csv")
    parser.add_argument("--rows", type=int, default=8_000, help="demo ads to train on")
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--seed", type=int, default=2017)
    parser.add_argument("--shape-rows", type=int, default=200_000, help="demo ads to count")
    return run(parser, arguments, measure)


def measure(options: argparse.Namespace, say: Say) -> Report:
    """Compare, and return all tables; nothing may lie outside its tolerance."""
    real, demo = read_ads(options.data).frame, generate(options.rows, options.seed)
    say("training the peers on both")
    errors = compare_errors(demo, real, options.folds)
    say("counting demo ads")
    shapes = compare_shapes(generate(options.shape_rows, options.seed))
    failed = [item for item in (*errors, *shapes) if not item.passed]
    floor = noise_floor(options.rows, options.seed)
    said = (
        f"Noise floor {floor:.4f}. {len(errors) + len(shapes)} figures compared, "
        f"{len(failed)} outside their tolerance."
    )
    sizes = f"{len(real)} real and {options.rows} demo ads, {options.folds} folds"
    figures = f"figures of {options.shape_rows} demo ads"
    grids = [
        grid_of(errors, f"RMSE on {sizes}"),
        grid_of(worst_of_each(shapes), f"Worst {figures}"),
    ]
    every, status = [grid_of(shapes, f"All {figures}")], int(bool(failed))
    return Report("demo_fidelity", {}, said, grids, every, status=status, summary=said)


if __name__ == "__main__":
    sys.exit(main())
