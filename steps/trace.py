"""Record which data and code a run works on."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import pandas as pd
from zenml import log_metadata, step

from demand.versioning import dvc_version, git_commit
from steps.common import timed


# Never cached: the same bytes may have been committed since. Steps that take the lineage
# leave it out of their own cache keys.
@step(enable_cache=False)
def trace(ads: pd.DataFrame, path: str, md5: str) -> Annotated[dict[str, str], "lineage"]:
    """Return the file's name, MD5, rows and DVC version, and the git commit of the code."""
    with timed():
        version = dvc_version(Path(path), md5)
        lineage = {
            "data_file": Path(path).name,
            "data_md5": md5,
            "data_rows": str(len(ads)),
            "dvc_md5": version.md5 if version and version.matches else "",
            "git_commit": git_commit() or "",
        }
        log_metadata(dict(lineage))
    return lineage
