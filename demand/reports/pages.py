"""HTML pages that need nothing but themselves, each a template on ``templates/base.html``."""

from __future__ import annotations

import base64
import copy
import datetime
import html
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd
from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape

from demand.evaluation.behaviour import one_line
from demand.evaluation.checks import CheckReport
from demand.evaluation.evaluate import Evaluation
from demand.evaluation.giskard_scan import LEFT_OUT
from demand.schema.error_text import spreadsheet_table
from demand.validation.validate import Validation
from demand.workspace.workspace import write_aside

TEMPLATES = Path(__file__).parent / "templates"
WORST_SLICES = 20
PLOT_TITLES = {
    "calibration": "Mean deal probability over mean prediction, in bins of equal count",
    "error_by_category": "RMSE of each category, the number of its ads in brackets",
    "predicted_and_actual": "Predicted and actual deal probabilities",
    "training_curve": "Training loss and validation RMSE of each epoch",
}


@cache
def environment() -> Environment:
    """Return what reads ``templates/``; names that are not given are errors."""
    read = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=select_autoescape(["html"]),
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
    read.filters["form"] = format
    return read


def render(template: str, **context: object) -> str:
    """Return a page of ``templates/``; every text in ``context`` is escaped."""
    return environment().get_template(template).render(context)


def data_address(png: bytes) -> str:
    """Return the address that holds a picture itself."""
    return f"data:image/png;base64,{base64.b64encode(png).decode('ascii')}"


def write_evaluation(evaluation: Evaluation, curve: pd.DataFrame, folder: Path) -> Path:
    """Write tables, plots and a page about an evaluation; return the page's path.

    Written are ``calibration.csv``, ``compared.csv``, ``slices.csv``, ``curves.csv`` (what
    :func:`demand.reports.plots.training_curve` draws), a PNG for each of ``PLOT_TITLES``, and
    ``evaluation.html``, which carries the plots in itself. Files from before are replaced,
    each one whole; :class:`StateError` where the folder cannot be written.
    """
    from demand.reports import plots  # with matplotlib, which few who write pages need

    slices, overall = evaluation.slices, evaluation.metrics["rmse"]
    categories = slices[slices["slice"] == "category_name"]
    drawn = {
        "calibration": plots.calibration(evaluation.calibration),
        "error_by_category": plots.error_by_category(categories, overall),
        "predicted_and_actual": plots.predicted_and_actual(evaluation.actual, evaluation.predicted),
        "training_curve": plots.training_curve(curve),
    }
    tables = {name: getattr(evaluation, name) for name in ("calibration", "compared", "slices")}
    for name, table in (tables | {"curves": curve}).items():
        with write_aside(folder / f"{name}.csv") as aside:
            spreadsheet_table(table).to_csv(aside, index=False, encoding="utf-8")
    for name, png in drawn.items():
        with write_aside(folder / f"{name}.png") as aside:
            aside.write_bytes(png)
    page = render(
        "evaluation.html",
        evaluation=evaluation,
        plots=[{"caption": PLOT_TITLES[n], "source": data_address(p)} for n, p in drawn.items()],
        worst=slices.sort_values("ratio", ascending=False).head(WORST_SLICES),
    )
    return _write(folder / "evaluation.html", page)


def write_checks(checks: CheckReport, folder: Path) -> tuple[Path, Path | None]:
    """Write ``checks.html``, and Giskard's own page as ``giskard_scan.html``.

    Returns their paths; None in the place of the second where the scan was off or could not
    start, and then an old page of it is removed. :class:`StateError` where one cannot be written.
    """
    page = render("checks.html", checks=checks, left_out=LEFT_OUT, one_line=one_line)
    path, scan_path = _write(folder / "checks.html", page), folder / "giskard_scan.html"
    if checks.scan_html is None:
        scan_path.unlink(missing_ok=True)
        return path, None
    return path, _write(scan_path, checks.scan_html)


def write_data_docs(validation: Validation, folder: Path) -> Path:
    """Write Great Expectations' Data Docs as ``folder/index.html``; return its path.

    Great Expectations' own pages load styles, scripts and pictures from seven hosts, and
    write values of the data into tables as if they were HTML (version 1.24). Its renderers
    and its templates of the sections are used as they are; the page around them is ours.
    :class:`StateError` where it cannot be written.
    """
    # These take seconds to import, which no other command should wait for.
    from great_expectations.render.renderer.page_renderer import ValidationResultsPageRenderer
    from great_expectations.render.view import DefaultJinjaPageView

    escaped = copy.copy(validation.results)
    escaped.results = [copy.copy(result) for result in escaped.results]
    for result in escaped.results:
        result.result = _escaped(result.result)
    document = ValidationResultsPageRenderer().render(escaped)
    # Great Expectations' overview repeats the verdict and links to pages not written.
    document.sections.pop(0)
    page = DefaultJinjaPageView(custom_views_directory=TEMPLATES).render(
        document,
        "data_docs.html",
        refusal=validation.refusal,
        warnings=validation.warnings,
        summary=validation.summary,
        written=datetime.datetime.now().astimezone(),
    )
    return _write(folder / "index.html", page)


def _escaped(value: Any) -> Any:
    """Return a result in which the values of ads are text for an HTML page."""
    if isinstance(value, Mapping):
        return {key: _escaped(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_escaped(item) for item in value]
    return html.escape(value) if isinstance(value, str) else value


def _write(path: Path, text: str) -> Path:
    with write_aside(path) as aside:
        aside.write_text(text, encoding="utf-8", errors="backslashreplace")
    return path
