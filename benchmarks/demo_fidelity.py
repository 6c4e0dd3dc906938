"""Are the demo ads as hard as the real ones? ``python -m benchmarks.demo_fidelity``.

Trains category means, ridge on TF-IDF and LightGBM on demo ads and on real ads with the
same code, by cross-validation grouped by seller, and prints their errors side by side;
then the shares, quantiles and means of many demo ads beside the published ones of the
real ads. Exit status 0 where all lie within their tolerances, 1 where one does not.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks.models.folds import Entry, cross_validate, seller_folds
from benchmarks.models.peers import CATEGORY_MEANS, MEAN, LightGBMPeer, RidgePeer, Settings
from benchmarks.report import Grid, Report, Say, program_parser, run
from demand.data.reading import read_ads
from demand.demo import generate, noise_floor
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
Figures = dict[str, float] | pd.Series
# What the searches of benchmarks.quality choose on real ads, or near it.
RIDGE, LIGHTGBM = Settings({"alpha": 40.0}), Settings(rounds=200)
PEERS = [
    MEAN,
    CATEGORY_MEANS,
    Entry("ridge", "ridge on TF-IDF", lambda _: lambda _: RidgePeer(RIDGE)),
    Entry("lightgbm", "LightGBM", lambda _: lambda _: LightGBMPeer(LIGHTGBM)),
]


def compare(
    group: str, real: Figures, demo: Figures, tolerance: pd.Series | float = 0.0
) -> pd.DataFrame:
    """Return a row a figure that both have by its name: ``demo`` must be near to ``real``.

    The columns are group, figure, real, demo, difference, tolerance, of at least
    :data:`TOLERANCE`, and passed.
    """
    known = {"real": pd.Series(real), "demo": pd.Series(demo)}
    table = pd.concat(known, axis=1, join="inner").rename_axis("figure")
    table["difference"] = table["demo"] - table["real"]
    table["tolerance"] = np.maximum(tolerance, TOLERANCE)
    table["passed"] = table["difference"].abs() <= table["tolerance"]
    return table.assign(group=group).reset_index()


def compare_errors(
    demo: pd.DataFrame, real: pd.DataFrame, folds: int, peers: list[Entry] | None = None
) -> pd.DataFrame:
    """Compare the peers' cross-validated RMSE on both sets of ads."""
    errors = []
    for ads in (real, demo):
        outcomes = cross_validate(peers or PEERS, ads, seller_folds(ads["user_id"], folds, 0))
        errors.append({o.entry.name: rmse(ads[TARGET], o.predicted[0]) for o in outcomes})
    return compare("", errors[0], errors[1])


def compare_shapes(ads: pd.DataFrame) -> pd.DataFrame:
    """Compare many demo ads with the published figures of the whole ``train.csv``."""
    missing = compare("missing", reference().missing_share, ads.isna().mean())
    shapes = [*_shares(ads), missing, _target(ads[TARGET]), *_means(ads), *_quantiles(ads)]
    return pd.concat(shapes, ignore_index=True)


def _shares(ads: pd.DataFrame) -> Iterator[pd.DataFrame]:
    dated = ads.assign(date=ads["activation_date"].dt.strftime("%Y-%m-%d"))
    for column, counts in {**reference().counts, "date": reference().raw["dates"]}.items():
        real = pd.Series(counts) / sum(counts.values())
        demo = dated[column].value_counts(normalize=True).reindex(real.index, fill_value=0.0)
        yield compare(f"share of {column}", real, demo)


def _target(target: pd.Series) -> pd.DataFrame:
    figures = reference().raw["describe"][TARGET]
    real = {"mean": figures["mean"], "std": figures["std"]}
    real |= {"share of 0": figures["zero_share"], "share of 1": figures["one_share"]}
    demo = {"mean": target.mean(), "std": target.std()}
    demo |= {f"share of {value}": (target == value).mean() for value in (0, 1)}
    for level, share in figures["share_ge"].items():
        real[f"share >= {level}"] = share
        demo[f"share >= {level}"] = (target >= float(level)).mean()
    return compare("target", real, demo)


def _means(ads: pd.DataFrame) -> Iterator[pd.DataFrame]:
    known = reference()
    for column, means in (
        ("category_name", known.raw["mean_target_by_category"]),
        ("user_type", known.raw["mean_target_by_user_type"]),
    ):
        groups = ads.groupby(column)[TARGET]
        rows, residuals = groups.size(), ads[TARGET] - groups.transform("mean")
        # Of the difference of two means, with the demo ads clustered by seller.
        by_seller = residuals.groupby([ads[column], ads["user_id"]]).sum()
        variance = (by_seller**2).groupby(level=0).sum() / rows**2
        error = (variance * (1.0 + rows / pd.Series(known.counts[column]))) ** 0.5
        group = f"mean target by {column}"
        yield compare(group, means, groups.mean(), STANDARD_ERRORS * error)


def _quantiles(ads: pd.DataFrame) -> Iterator[pd.DataFrame]:
    known = reference()
    for column in ("item_seq_number", "image_top_1", "price"):
        figures = known.raw["describe"][column]
        quantiles = {n: figures[f"p{n}"] for n in (25, 50, 75) if f"p{n}" in figures}
        values = ads[column].dropna()
        yield _levels("level of quantile", column, values, quantiles, 1 / SAMPLE_ROWS)
    for category, known_prices in known.raw["price_quantiles_by_category"].items():
        values = ads.loc[ads["category_name"] == category, "price"].dropna()
        if len(values):
            sampled = SAMPLE_ROWS * known.category_counts[category] / known.raw["rows"]
            inverse_rows = 1 / len(values) + 1 / sampled
            quantiles = dict(zip((5, 25, 50, 75, 95), known_prices, strict=True))
            group = "level of price quantile by category"
            yield _levels(group, category, values, quantiles, inverse_rows)


def _levels(
    group: str, name: str, values: pd.Series, quantiles: dict[int, float], inverse_rows: float
) -> pd.DataFrame:
    """Compare quantiles, by percent, by their level: the share of demo ads up to the real one.

    Of a pile on it, what fits best.
    """
    names = [f"{name} p{percent} = {quantile:.0f}" for percent, quantile in quantiles.items()]
    level, ordered = pd.Series(quantiles.keys(), names) / 100, np.sort(values)
    below, up_to = (
        np.searchsorted(ordered, [*quantiles.values()], side) / len(values)
        for side in ("left", "right")
    )
    error = (level * (1 - level) * inverse_rows) ** 0.5
    return compare(group, level, level.clip(below, up_to), STANDARD_ERRORS * error)


def grid_of(table: pd.DataFrame, title: str) -> Grid:
    """Return a line a figure."""
    names = (table["group"] + ": " + table["figure"]).str.removeprefix(": ")
    passed = table["passed"].map({True: "pass", False: "FAIL"})
    columns = {"real": ".4f", "demo": ".4f", "difference": "+.4f", "tolerance": ".4f"}
    rows = pd.concat([names, table[[*columns]], passed], axis=1).to_numpy().tolist()
    return Grid(title, {"figure": "", **columns, "passed": ""}, rows)


def worst_of_each(table: pd.DataFrame) -> pd.DataFrame:
    """Return all that failed, all of small groups, and the worst of each large group."""
    few = table.groupby("group")["figure"].transform("size") <= 15
    error = table["difference"].abs() / table["tolerance"]
    worst = error == error.groupby(table["group"]).transform("max")
    return table[few | worst | ~table["passed"]]


def main(arguments: list[str] | None = None) -> int:
    """Compare, print and write; return the exit status."""
    parser = program_parser("demo_fidelity", __doc__, "--data ../shared/avito/ads.csv")
    parser.add_argument("--data", type=Path, default=PROJECT_ROOT / "../shared/avito/ads.csv")
    parser.add_argument("--rows", type=int, default=8_000, help="demo ads to train on")
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--seed", type=int, default=2017)
    parser.add_argument("--shape-rows", type=int, default=200_000, help="demo ads to count")
    return run(parser, arguments, measure)


def measure(data: Path, rows: int, folds: int, seed: int, shape_rows: int, say: Say) -> Report:
    """Compare, and return all tables; nothing may lie outside its tolerance."""
    real, demo = read_ads(data).frame, generate(rows, seed)
    say("training the peers on both")
    errors = compare_errors(demo, real, folds)
    say("counting demo ads")
    shapes = compare_shapes(generate(shape_rows, seed))
    passed = [*errors["passed"], *shapes["passed"]]
    said = (
        f"Noise floor {noise_floor(rows, seed):.4f}. {len(passed)} figures "
        f"compared, {passed.count(False)} outside their tolerance."
    )
    sizes = f"{len(real)} real and {rows} demo ads, {folds} folds"
    figures = f"figures of {shape_rows} demo ads"
    grids = [
        grid_of(errors, f"RMSE on {sizes}"),
        grid_of(worst_of_each(shapes), f"Worst {figures}"),
    ]
    every, status = [grid_of(shapes, f"All {figures}")], int(not all(passed))
    return Report("demo_fidelity", {}, said, grids, every, status=status, summary=said)


if __name__ == "__main__":
    sys.exit(main())
