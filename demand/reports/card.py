"""The model card: what a model is for, how good it is, and where it must not be trusted.

(Mitchell et al., *Model Cards for Model Reporting*, FAT* 2019.) The card is written as
Markdown, and the HTML page is rendered from that. Whatever comes from outside goes
through one escape on its way into the template, ``templates/model_card.md.j2``, so that
neither the name of a category nor a warning can become markup.
"""

from __future__ import annotations

import datetime
import json
import math
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

from demand.evaluation.baselines import MEAN, ROWS_MAX, BaselineMLP, CategoryMeans
from demand.evaluation.evaluate import CHAMPION, SLICE_MIN_ROWS
from demand.evaluation.slices import Coverage
from demand.reports import markdown as md
from demand.reports.pages import environment
from demand.schema.columns import INPUT_COLUMNS, REQUEST_REQUIRED, TARGET
from demand.schema.error_text import shorten
from demand.schema.population import reference
from demand.workspace.workspace import write_aside, write_json

MARKDOWN_FILE = "model_card.md"
HTML_FILE = "model_card.html"
DATA_FILE = "card.json"
FORMAT = 1
BEST_SLICES = 10
_TITLE = "Model card: deal probability of classified ads"
_PARTS = {"train": "to learn from", "validation": "to stop early", "test": "to be judged on"}
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
_RIVALS = {
    f"baseline: {MEAN}": "mean predictor",
    f"baseline: {CategoryMeans.NAME}": "category means",
    f"baseline: {BaselineMLP.NAME}": "the report's MLP",
    CHAMPION: "champion (what served before)",
}


@dataclass(frozen=True)
class ModelFacts:
    """All that a card is made of. What is absent is left out; NaN is "not measured".

    The *held-out fit* learnt from the training ads, stopped early on the validation ads,
    after ``epochs``, and was judged on test ads it had not seen. With ``refit`` another one
    serves, the *served fit*, which learnt from all of them, ``rows``, and so has no test
    figures of its own; ``difference`` is the mean absolute one between the answers of the
    two on the test ads. ``fits`` has these four, of which ``refit`` must be there, and
    ``crosses``, whether both learnt in one pass: see :mod:`demand.model.one_pass`.
    """

    # As in demand.evaluation.evaluate.Evaluation, of the held-out fit.
    metrics: Mapping[str, float]
    compared: pd.DataFrame
    slices: pd.DataFrame
    calibration: pd.DataFrame
    rows: Mapping[str, int]  # rows_train, rows_validation, rows_test
    # data_file, data_md5, data_rows, dvc_md5, git_commit; empty where unknown
    lineage: Mapping[str, str]
    config: Mapping[str, Any]  # by section, JSON-able; `gate` says what the intervals are
    fits: Mapping[str, Any]
    demo: bool  # the data are the project's generated ads
    data_warnings: Sequence[str] = ()  # one line each
    check_warnings: Sequence[str] = ()
    plots: Mapping[str, bytes] = field(default_factory=dict)  # PNG; PLOT_TITLES has captions
    size_bytes: int | None = None  # of the saved model
    trained: datetime.date | None = None
    coverage: Coverage | None = None  # of prediction intervals, where the model gives some


@dataclass(frozen=True)
class Card:
    """A model card in its three forms: to read, to look at, and, by ``data``, for programs."""

    markdown: str
    html: str
    data: dict[str, Any]


def model_card(facts: ModelFacts) -> Card:
    """Return the card of a model as Markdown, as a page that needs only itself, and as data."""
    template = environment().overlay(finalize=md.escaped).get_template("model_card.md.j2")
    context = _context(facts)

    def text(plots: Mapping[str, bytes]) -> str:
        rendered = template.render(context, plots=plots)
        return re.sub(r"\n{3,}", "\n\n", rendered.strip()) + "\n"

    return Card(text({}), md.markdown_page(text(facts.plots), _TITLE), card_data(facts))


def write_card(card: Card, folder: Path) -> Path:
    """Write ``model_card.md``, ``model_card.html`` and ``card.json``; return the page's path.

    :class:`StateError` where the folder cannot be written.
    """
    for name, text in ((MARKDOWN_FILE, card.markdown), (HTML_FILE, card.html)):
        with write_aside(folder / name) as temporary:
            temporary.write_text(text, encoding="utf-8")
    write_json(folder / DATA_FILE, card.data)
    return folder / HTML_FILE


def card_data(facts: ModelFacts) -> dict[str, Any]:
    """Return the facts of a card that a page can draw or tell; JSON-able.

    What is absent or not measured (NaN, infinity) becomes None, a table that is absent an
    empty list. ``trained`` is an ISO date; ``calibration`` goes by rising prediction, and
    ``predicted`` and ``actual`` are means; ``error_by_category`` has most ads first; warnings
    have one line each. The version is not known before it is registered.
    """
    categories = facts.slices[facts.slices["slice"] == "category_name"]
    categories = categories.sort_values("rows", ascending=False, kind="stable")
    return {
        "format": FORMAT,
        "trained": facts.trained and facts.trained.isoformat(),
        "demo": facts.demo,
        "size_bytes": facts.size_bytes,
        "data": {
            "file": _written(facts.lineage.get("data_file")),
            "md5": _written(facts.lineage.get("data_md5")),
            "rows": _rows_read(facts),
            "git_commit": _written(facts.lineage.get("git_commit")),
        },
        "rows": {part: facts.rows.get(f"rows_{part}") for part in _PARTS},
        "metrics": {name: _written(value) for name, value in facts.metrics.items()},
        "calibration": _records(
            facts.calibration, predicted="predicted_mean", actual="actual_mean", ads="rows"
        ),
        "error_by_category": _records(
            categories,
            category="value",
            ads="rows",
            rmse="rmse",
            mean_actual="actual_mean",
            mean_predicted="predicted_mean",
        ),
        "weaknesses": _lines(facts.check_warnings),
        "data_warnings": _lines(facts.data_warnings),
    }


def _records(table: pd.DataFrame, **columns: str) -> list[dict[str, Any]]:
    """Return the rows of a table as JSON can carry them; ``columns`` are new name and old."""
    rows = table.reindex(columns=list(columns.values())).to_dict("records")
    return [{new: _written(row[old]) for new, old in columns.items()} for row in rows]


def _lines(warnings: Sequence[str]) -> list[Any]:
    """Return each warning on one line; empty ones are none."""
    return [text for w in warnings if (text := _written(" ".join(w.split())))]


def _written(value: Any) -> Any:
    """Return a value as JSON can carry it: of a text that need not be Unicode the writable part.

    No text, and a figure that is not finite, are None.
    """
    if isinstance(value, str):
        return value.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace") or None
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _rows_read(facts: ModelFacts) -> int | None:
    """Return how many ads are in the file, where that is known."""
    read = facts.lineage.get("data_rows", "")
    return int(read) if read.isdecimal() else None


def _context(facts: ModelFacts) -> dict[str, Any]:
    """Return what the template names."""
    days = sorted(reference().raw["dates"])
    commit = facts.lineage.get("git_commit", "")
    clean = bool(commit) and not commit.endswith("-dirty")
    shares = {} if facts.coverage is None else facts.coverage.by_parent_category
    covered = pd.Series(shares, dtype=float).sort_values(kind="stable", na_position="first")
    return {
        **_slices(facts.slices),
        "title": _TITLE,
        "facts": facts,
        "read": _rows_read(facts) or 0,
        "regions": len(reference().regions),
        "days": (days[0], days[-1]),
        "settings": next(iter(pd.json_normalize(dict(facts.config)).to_dict("records")), {}),
        "figures": list(_figures(facts.metrics)),
        "covered": list(covered.items()),
        "commit": commit,
        "clean": clean,
        "commands": md.code(list(_commands(facts, commit if clean else None))),
        "md": md,
        "json": partial(json.dumps, ensure_ascii=False),
        "slice_name": _slice_name,
        "shorten": shorten,
        "SLICE_MIN_ROWS": SLICE_MIN_ROWS,
        "BASELINE_ROWS_MAX": ROWS_MAX,
        "BEST_SLICES": BEST_SLICES,
        "TARGET": TARGET,
        "REQUIRED": REQUEST_REQUIRED,
        "INPUTS": [column.name for column in INPUT_COLUMNS],
        "PARTS": _PARTS,
        "RIVALS": _RIVALS,
    }


def _figures(found: Mapping[str, float]) -> Iterator[tuple[str, str]]:
    """Yield the model's own figures: the known ones in their order, then all others."""
    others = [
        key
        for key in sorted(found.keys() - _FIGURES.keys())
        if not key.startswith(("baseline_", "champion_"))
        and not (key.endswith(("_low", "_high")) and key.rpartition("_")[0] in found)
    ]
    for key in [*(key for key in _FIGURES if key in found), *others]:
        label, form = _FIGURES.get(key, (key, ".4f"))
        yield label, md.with_interval(found, key, form)


def _slices(slices: pd.DataFrame) -> dict[str, Any]:
    """Return what the template says of slices: all bad ones, and the best of the others."""
    ordered = slices.sort_values("rmse", kind="stable", ignore_index=True)
    # A slice whose error is not known is not among the good ones.
    good = (ordered["ratio"] <= 1.0).astype(bool)
    worse = ordered[~good].sort_values("rmse", ascending=False, na_position="first", kind="stable")
    return {
        "divisions": ", ".join(str(name).replace("_", " ") for name in slices["slice"].unique()),
        "worse": worse.to_dict("records"),
        "better": ordered[good].to_dict("records"),
        "weakest": next(iter(worse.dropna(subset="rmse").to_dict("records")), None),
    }


def _slice_name(row: Mapping[Any, Any]) -> str:
    return f"{str(row['slice']).replace('_', ' ')}: {shorten(str(row['value']))}"


def _commands(facts: ModelFacts, commit: str | None) -> Iterator[str]:
    """Yield what a shell has to be told to train this model again."""
    if commit is not None:
        yield shlex.join(["git", "checkout", commit])
    given = [] if facts.demo else ["--data", facts.lineage.get("data_file") or "ads.csv"]
    yield shlex.join(["python", "run.py", "--pipeline", "training", *given])
