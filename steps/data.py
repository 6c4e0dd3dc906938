"""Steps from a file of ads to its training, validation and test part."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import pandas as pd
from zenml import step
from zenml.types import HTMLString

from demand.config import SplitSettings, ValidationSettings
from demand.data.reading import read_ads
from demand.data.splitting import split_ads
from demand.data.versioning import dvc_version, git_commit
from demand.errors import AdsFileError
from demand.progress import console
from demand.reports.pages import write_data_docs
from demand.serving.batch import repeated
from demand.validation.validate import validate_ads
from orchestration.steps import (
    CACHED,
    REPORTS,
    cached_until_midnight,
    noted,
    output,
    pipeline_reports,
    refuse,
    reported,
    shown,
)


@step(cache_policy=CACHED)
def ingest(
    path: str, md5: str, max_file_gb: float
) -> tuple[
    Annotated[pd.DataFrame, output("ads", "All ads of the file, typed", "ads")],
    Annotated[pd.DataFrame, output("unparsed", "Cells that could not be read, and why", "ads")],
    Annotated[pd.DataFrame, output("lines", "Line of the file in which each ad begins", "ads")],
]:
    """Read a file of labelled ads, whose ``md5`` is in ZenML's key; Parquet has no ``lines``."""
    with noted() as notes:
        loaded = read_ads(Path(path), labelled=True, max_file_gb=max_file_gb)
        if loaded.md5 != md5:
            raise AdsFileError(f"{path} changed while it was read: run again when it is complete")
        notes |= {"rows": len(loaded.frame), "ignored_columns": list(loaded.ignored_columns)}
        for warning in repeated(loaded):
            console().print(f"  warning: {warning}", markup=False, soft_wrap=True)
    lines = [] if loaded.lines is None else loaded.lines
    return loaded.frame, loaded.unparsed, pd.DataFrame({"line": lines}, dtype="int64")


# Never cached: the same bytes may have been committed since. Steps that take the lineage
# leave it out of their own cache keys.
@step(enable_cache=False)
def trace(
    ads: pd.DataFrame, path: str, md5: str
) -> Annotated[dict[str, str], output("lineage", "Data and code of the run", "lineage")]:
    """Return the file's name, MD5, rows and DVC version, and the git commit of the code."""
    with noted() as notes:
        version = dvc_version(Path(path), md5)
        lineage = {
            "data_file": Path(path).name,
            "data_md5": md5,
            "data_rows": str(len(ads)),
            "dvc_md5": version.md5 if version and version.matches else "",
            "git_commit": git_commit() or "",
        }
        notes |= lineage
    return lineage


@step(cache_policy=CACHED)
def validate(
    ads: pd.DataFrame, unparsed: pd.DataFrame, lines: pd.DataFrame, settings: ValidationSettings
) -> tuple[
    Annotated[pd.DataFrame, output("accepted_ads", "Ads that met every expectation", "ads")],
    Annotated[list[str], output("warnings", "Rows in quarantine, and drift", "validation")],
    Annotated[HTMLString, output("data_docs", "Great Expectations' Data Docs", "report")],
    Annotated[Path, output(REPORTS, "Data Docs and quarantined rows", "report")],
]:
    """Run the Great Expectations suites; a bad table stops the pipeline here."""
    with noted() as notes, reported() as reports:
        known = None if lines.empty else lines["line"].to_numpy()
        published = pipeline_reports()
        found = validate_ads(ads, unparsed, settings, reports, lines=known, published=published)
        page = shown(write_data_docs(found, reports / "data_docs"))
        notes["validation"] = found.summary
        if (found.quarantine["column"] == "activation_date").any():
            cached_until_midnight()  # a day in the future is none tomorrow
        if found.refusal is not None:
            refuse("data", found.refusal, data_docs=page)
    return found.accepted, list(found.warnings), page, reports


@step(cache_policy=CACHED)
def split(
    ads: pd.DataFrame, settings: SplitSettings, seed: int
) -> tuple[
    Annotated[pd.DataFrame, output("training_ads", "Ads that are learnt from", "ads")],
    Annotated[pd.DataFrame, output("validation_ads", "Ads that end and calibrate a fit", "ads")],
    Annotated[pd.DataFrame, output("test_ads", "Ads that only measure", "ads")],
    Annotated[dict[str, int], output("rows", "Ads in each part", "ads")],
]:
    """Split so that no seller lies on two sides."""
    with noted() as notes:
        parts = split_ads(ads, settings, seed)
        rows = {
            "rows_train": len(parts.train),
            "rows_validation": len(parts.validation),
            "rows_test": len(parts.test),
        }
        notes |= rows
    return parts.train, parts.validation, parts.test, rows
