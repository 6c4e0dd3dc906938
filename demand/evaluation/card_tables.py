"""The tables of a model card."""

from __future__ import annotations

import math
import shlex
from collections.abc import Iterator, Mapping
from typing import Any

import pandas as pd

from demand.ads import INPUT_COLUMNS, REQUEST_REQUIRED, TARGET
from demand.evaluation.baselines import MEAN, CategoryMeans
from demand.evaluation.evaluate import CHAMPION
from demand.evaluation.facts import Coverage, ModelFacts
from demand.evaluation.figures import counted, judgement, number, size, span, with_interval
from demand.evaluation.markdown import Markdown, table
from demand.evaluation.reports_mlp import ReportsMLP
from demand.quoting import shorten

BEST_SLICES = 10


def model_table(facts: ModelFacts, judged: str) -> Markdown:
    """Return what the model is, in a table; what is not known has no row."""
    found, required = facts.metrics, ", ".join(REQUEST_REQUIRED)
    optional = ", ".join(c.name for c in INPUT_COLUMNS if c.name not in REQUEST_REQUIRED)
    rows = {
        "kind": "wide-and-deep MLP on the texts and values of an ad",
        "answer": f"{TARGET}: how likely the ad is to end in a deal, from 0 to 1",
        "input": f"an ad as it was written: {required}; where known also {optional}",
        "version": facts.version,
        "trained": facts.trained and facts.trained.isoformat(),
        "learnt from": "demo ads, generated" if facts.demo else facts.lineage.get("data_file"),
        "commit of the code": facts.lineage.get("git_commit"),
        "saved model": None if facts.size_bytes is None else size(facts.size_bytes),
        "fit that serves": "refitted on all ads" if facts.fits.refit else "the one that was judged",
        f"test RMSE of the {judged}": with_interval(found, "rmse"),
        "test RMSE of the mean predictor": with_interval(found, "baseline_rmse"),
    }
    return table(("fact", "value"), [row for row in rows.items() if row[1]], texts=(0, 1))


def parts_table(rows: Mapping[str, int]) -> Markdown:
    """Return the sizes of the parts, and what each was for."""
    uses = {"train": "to learn from", "validation": "to stop early", "test": "to be judged on"}
    total = sum(rows.get(f"rows_{name}", 0) for name in uses)
    parts = []
    for name, use in uses.items():
        if f"rows_{name}" in rows:
            count = rows[f"rows_{name}"]
            parts.append((name, f"{count:,}", number(count / total if total else 0.0, ".1%"), use))
    return table(("part", "ads", "share", "used"), parts, texts=(0, 3))


# Label and format of the figures; an interval stands beside what it belongs to.
_FIGURES = {
    "rmse": ("RMSE", ".4f"),
    "mse": ("MSE", ".4f"),
    "mae": ("MAE", ".4f"),
    "bias": ("bias (mean of prediction - truth)", "+.4f"),
    "calibration_error": ("expected calibration error", ".4f"),
    "threshold": ("RMSE has to be below (gate)", ".4f"),
    "noise_floor_rmse": ("noise floor, the least RMSE that is possible", ".4f"),
    "explained_share": ("explained, of what can be explained", ".1%"),
}


def figures_table(found: Mapping[str, float]) -> Markdown:
    """Return the model's own figures: the known ones in their order, then all others."""
    rivals = ("baseline_", "champion_")
    others = [
        key
        for key in sorted(found)
        if key not in _FIGURES
        and not key.startswith(rivals)
        and not (key.endswith(("_low", "_high")) and key.rpartition("_")[0] in found)
    ]
    rows = []
    for key in [*(key for key in _FIGURES if key in found), *others]:
        label, form = _FIGURES.get(key, (key, ".4f"))
        rows.append((label, with_interval(found, key, form)))
    return table(("figure", "value"), rows)


_RIVALS = {
    f"baseline: {MEAN}": "mean predictor",
    f"baseline: {CategoryMeans.NAME}": "category means",
    f"baseline: {ReportsMLP.NAME}": "the report's MLP",
    CHAMPION: "champion (what served before)",
}


def rivals_table(compared: pd.DataFrame) -> Markdown:
    """Return the comparison with each other model, a row each."""
    rows = [
        (
            _RIVALS.get(str(row["name"]), str(row["name"])),
            number(row["rmse"]),
            number(row["difference"], "+.4f"),
            span(row["low"], row["high"], "+.4f"),
            judgement(row["low"], row["high"]),
        )
        for row in compared.to_dict("records")
    ]
    heads = ("other", "its RMSE", "difference", "interval", "this model is")
    return table(heads, rows, texts=(0, 4))


def champion_ads(found: Mapping[str, float]) -> str:
    """Write on how many ads the champion was compared; nothing where it was not."""
    rows = found.get("champion_rows", math.nan)
    return counted(int(rows), "test ad") if math.isfinite(rows) else ""


# What of an ad says where people live; the standard slices look at neither.
_PLACES = ("region", "city")


def slice_tables(slices: pd.DataFrame) -> dict[str, Any]:
    """Return what the template says of slices: all bad ones, and the best of the others."""
    if slices.empty:  # and perhaps without columns
        return {"slices": 0, "weakest": None, "unsliced": " or ".join(_PLACES)}
    ordered = slices.sort_values("rmse", kind="stable", ignore_index=True)
    # A slice whose error is not known is not among the good ones.
    is_good = (ordered["ratio"] <= 1.0).astype(bool)
    worse = ordered[~is_good].sort_values(
        "rmse", ascending=False, na_position="first", kind="stable"
    )
    measured = list(map(str, slices["slice"].unique()))
    known = worse[worse["rmse"].notna()]
    return {
        "slices": len(ordered),
        "divisions": ", ".join(name.replace("_", " ") for name in measured),
        "worse": _slices_table(worse),
        "worse_count": len(worse),
        "better": _slices_table(ordered[is_good].head(BEST_SLICES)),
        "hidden": int(is_good.sum()) - BEST_SLICES,
        "weakest": _weakest(known.iloc[0].to_dict()) if len(known) else None,
        "unsliced": " or ".join(name for name in _PLACES if name not in measured),
    }


def _weakest(row: Mapping[Any, Any]) -> dict[str, str]:
    return {"name": _slice_name(row), "rmse": number(row["rmse"]), "ads": counted(row["rows"])}


def _slices_table(slices: pd.DataFrame) -> Markdown:
    rows = [
        (
            _slice_name(row),
            f"{row['rows']:,}",
            number(row["rmse"]),
            number(row["ratio"], ".2f"),
            number(row["mae"]),
            number(row["bias"], "+.4f"),
        )
        for row in slices.to_dict("records")
    ]
    return table(("slice", "ads", "RMSE", "RMSE / all", "MAE", "bias"), rows)


def _slice_name(row: Mapping[Any, Any]) -> str:
    return f"{str(row['slice']).replace('_', ' ')}: {shorten(str(row['value']))}"


def calibration_table(calibration: pd.DataFrame) -> Markdown:
    """Return the bins of the calibration, from the lowest prediction."""
    rows = [
        (
            row["bin"],
            f"{row['rows']:,}",
            number(row["predicted_mean"]),
            number(row["actual_mean"]),
            number(row["predicted_mean"] - row["actual_mean"], "+.4f"),
        )
        for row in calibration.to_dict("records")
    ]
    return table(("bin", "ads", "mean prediction", "mean truth", "difference"), rows)


def coverage_table(coverage: Coverage) -> Markdown:
    """Return the covered shares, the least first; what is not measured before them."""
    shares = sorted(
        coverage.by_parent_category.items(),
        key=lambda item: -math.inf if math.isnan(item[1]) else item[1],
    )
    rows = [(shorten(name), number(share, ".1%")) for name, share in shares]
    rows.insert(0, ("all test ads", number(coverage.overall, ".1%")))
    return table(("parent category", "covered"), rows)


def lineage_table(lineage: Mapping[str, str]) -> Markdown:
    """Return what the model was made of: known facts in their order, then all others."""
    labels = {
        "data_file": "data file",
        "data_md5": "MD5 of the data",
        "data_rows": "ads in the file",
        "dvc_md5": "version in DVC",
        "git_commit": "commit of the code",
    }
    names = [*labels, *sorted(lineage.keys() - labels.keys())]
    rows = [(labels.get(name, name), lineage[name]) for name in names if lineage.get(name)]
    return table(("fact", "value"), rows, texts=(0, 1))


def is_clean(commit: str) -> bool:
    """Say whether a commit alone gives the code: it is known, and nothing was changed since."""
    return bool(commit) and not commit.endswith("-dirty")


def commands(facts: ModelFacts, commit: str) -> Iterator[str]:
    """Yield what a shell has to be told to train this model again."""
    if is_clean(commit):
        yield shlex.join(["git", "checkout", commit])
    given = [] if facts.demo else ["--data", facts.lineage.get("data_file") or "ads.csv"]
    yield shlex.join(["python", "run.py", "--pipeline", "training", *given])
