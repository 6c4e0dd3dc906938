"""Steps from a file of ads to its training, validation and test part."""

from __future__ import annotations

import shutil
import tempfile
import weakref
from pathlib import Path
from typing import Annotated

import numpy as np
import pandas as pd
from zenml import step
from zenml.types import HTMLString

from demand.config import SplitSettings, ValidationSettings
from demand.data.flaws import repeated
from demand.data.splitting import DECISIVE_COLUMNS, split_ads
from demand.data.typed import TypedAds, store_ads
from demand.data.versioning import dvc_version, git_commit
from demand.errors import AdsFileError
from demand.progress import console
from demand.reports.pages import write_data_docs
from demand.validation.validate import validate_ads
from orchestration.steps import (
    CACHED,
    REPORTS,
    RowsMaterializer,
    TypedAdsMaterializer,
    cached_until_midnight,
    noted,
    output,
    pipeline_reports,
    refuse,
    reported,
    shown,
)


@step(
    cache_policy=CACHED,
    output_materializers={"ads": TypedAdsMaterializer, "lines": RowsMaterializer},
)
def ingest(
    path: str, md5: str, max_file_gb: float
) -> tuple[
    Annotated[TypedAds, output("ads", "All ads of the file, typed", "ads")],
    Annotated[pd.DataFrame, output("unparsed", "Cells that could not be read, and why", "ads")],
    Annotated[np.ndarray, output("lines", "Line of the file in which each ad begins", "ads")],
]:
    """Read a file of labelled ads, whose ``md5`` is in ZenML's key; Parquet has no ``lines``."""
    with noted() as notes:
        folder = tempfile.mkdtemp()
        stored = Path(folder) / "ads.parquet"
        ads, loaded = store_ads(Path(path), stored, max_file_gb=max_file_gb)
        # The step ends before ZenML has copied the file, and then lets go of the ads.
        weakref.finalize(ads, shutil.rmtree, folder, ignore_errors=True)
        if loaded.md5 != md5:
            raise AdsFileError(f"{path} changed while it was read: run again when it is complete")
        notes |= {"rows": ads.rows, "ignored_columns": list(loaded.ignored_columns)}
        for warning in repeated(loaded):
            console().print(f"  warning: {warning}", markup=False, soft_wrap=True)
    return ads, loaded.unparsed, np.arange(0) if loaded.lines is None else loaded.lines


# Never cached: the same bytes may have been committed since. Steps that take the lineage
# leave it out of their own cache keys.
@step(enable_cache=False)
def trace(
    ads: TypedAds, path: str, md5: str
) -> Annotated[dict[str, str], output("lineage", "Data and code of the run", "lineage")]:
    """Return the file's name, MD5, rows and DVC version, and the git commit of the code."""
    with noted() as notes:
        version = dvc_version(Path(path), md5)
        lineage = {
            "data_file": Path(path).name,
            "data_md5": md5,
            "data_rows": str(ads.rows),
            "dvc_md5": version.md5 if version and version.matches else "",
            "git_commit": git_commit() or "",
        }
        notes |= lineage
    return lineage


@step(cache_policy=CACHED, output_materializers={"accepted_rows": RowsMaterializer})
def validate(
    ads: TypedAds, unparsed: pd.DataFrame, lines: np.ndarray, settings: ValidationSettings
) -> tuple[
    Annotated[np.ndarray, output("accepted_rows", "Ads that met every expectation", "ads")],
    Annotated[list[str], output("warnings", "Rows in quarantine, and drift", "validation")],
    Annotated[HTMLString, output("data_docs", "Great Expectations' Data Docs", "report")],
    Annotated[Path, output(REPORTS, "Data Docs and quarantined rows", "report")],
]:
    """Run the Great Expectations suites; a bad table stops the pipeline here."""
    with noted() as notes, reported() as reports:
        known = lines if len(lines) else None
        published = pipeline_reports()
        found = validate_ads(ads, unparsed, settings, reports, lines=known, published=published)
        page = shown(write_data_docs(found, reports / "data_docs"))
        notes["validation"] = found.summary
        if (found.quarantine["column"] == "activation_date").any():
            cached_until_midnight()  # a day in the future is none tomorrow
        if found.refusal is not None:
            refuse("data", found.refusal, data_docs=page)
    return found.accepted, list(found.warnings), page, reports


@step(
    cache_policy=CACHED,
    output_materializers=dict.fromkeys(
        ("training_rows", "validation_rows", "test_rows"), RowsMaterializer
    ),
)
def split(
    ads: TypedAds, accepted_rows: np.ndarray, settings: SplitSettings, seed: int
) -> tuple[
    Annotated[np.ndarray, output("training_rows", "Ads that are learnt from", "ads")],
    Annotated[np.ndarray, output("validation_rows", "Ads that end and calibrate a fit", "ads")],
    Annotated[np.ndarray, output("test_rows", "Ads that only measure", "ads")],
    Annotated[dict[str, int], output("rows", "Ads in each part", "ads")],
]:
    """Split so that no seller lies on two sides; a part is numbers of rows in ``ads``."""
    with noted() as notes:
        parts = split_ads(ads.frame(accepted_rows, DECISIVE_COLUMNS), settings, seed)
        rows = {
            "rows_train": len(parts.train),
            "rows_validation": len(parts.validation),
            "rows_test": len(parts.test),
        }
        notes |= rows
    training, validation, test = (
        accepted_rows[part] for part in (parts.train, parts.validation, parts.test)
    )
    return training, validation, test, rows
