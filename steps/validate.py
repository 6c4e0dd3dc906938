"""Divide the ads into good and bad rows, or refuse the table."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Annotated

import pandas as pd
from zenml import log_metadata, step
from zenml.types import HTMLString

from demand.config import ValidationSettings
from demand.expectations.validation import validate_ads
from steps.common import CACHED, REPORTS, pipeline_reports, publish, refuse, timed


@step(cache_policy=CACHED)
def validate(
    ads: pd.DataFrame, unparsed: pd.DataFrame, lines: pd.DataFrame, settings: ValidationSettings
) -> tuple[
    Annotated[pd.DataFrame, "accepted_ads"],
    Annotated[list[str], "warnings"],
    Annotated[HTMLString, "data_docs"],
    Annotated[Path, REPORTS],
]:
    """Run the Great Expectations suites; a bad table stops the pipeline here."""
    with timed():
        reports = Path(tempfile.mkdtemp())
        known = None if lines.empty else lines["line"].to_numpy()
        found = validate_ads(ads, unparsed, settings, reports, lines=known)
        publish(reports, pipeline_reports())
        log_metadata({"validation": found.summary})
        page = HTMLString(found.docs_html.read_text(encoding="utf-8"))
        if found.refusal is not None:
            refuse("data", found.refusal, data_docs=page)
    return found.accepted, list(found.warnings), page, reports
