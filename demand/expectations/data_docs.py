"""Great Expectations' Data Docs as one page that needs nothing from other hosts.

Great Expectations' own pages load styles, scripts and pictures from seven hosts, and
write values of the data into tables as if they were HTML (version 1.24). Its renderers
and its templates of the sections are used as they are; the page around them is ours, with
a style of its own, no script, and a policy that forbids browsers to load or run any.

This module imports Great Expectations (seconds); import it where it is needed.
"""

from __future__ import annotations

import copy
import datetime
import html
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from great_expectations.core.expectation_validation_result import ExpectationSuiteValidationResult
from great_expectations.render.renderer.page_renderer import ValidationResultsPageRenderer
from great_expectations.render.view import DefaultJinjaPageView
from jinja2 import ChoiceLoader, DictLoader

from demand.state import write_aside


@dataclass(frozen=True)
class Verdict:
    """What the page says above the expectations."""

    refusal: str | None
    warnings: Sequence[str]
    figures: dict[str, str]


def write_data_docs(
    report: ExpectationSuiteValidationResult, verdict: Verdict, folder: Path
) -> Path:
    """Write ``folder/index.html``, atomically, and return its path."""
    view = DefaultJinjaPageView()
    template = (files("demand.expectations") / "data_docs.html").read_text(encoding="utf-8")
    view.env.loader = ChoiceLoader([DictLoader({"page.j2": template}), view.env.loader])
    document = ValidationResultsPageRenderer().render(_escaped_report(report))
    # Great Expectations' overview repeats the verdict and links to pages not written.
    document.sections.pop(0)
    page = view.render(document, verdict=verdict, written=datetime.datetime.now().astimezone())
    path = folder / "index.html"
    with write_aside(path) as temporary:
        temporary.write_text(page, encoding="utf-8", errors="backslashreplace")
    return path


def _escaped_report(report: ExpectationSuiteValidationResult) -> ExpectationSuiteValidationResult:
    """Return a copy in which the values of ads are text for an HTML page."""
    escaped = copy.copy(report)
    escaped.results = [copy.copy(result) for result in report.results]
    for result in escaped.results:
        result.result = {
            key: _escaped(value) if key.startswith("partial_unexpected") else value
            for key, value in result.result.items()
        }
    return escaped


def _escaped(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _escaped(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_escaped(item) for item in value]
    return html.escape(value) if isinstance(value, str) else value
