"""Read the ads."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import pandas as pd
from zenml import log_metadata, step

from demand.errors import AdsFileError
from demand.ingestion.reading import read_ads
from steps.common import CACHED, timed


@step(cache_policy=CACHED)
def ingest(
    path: str, md5: str, max_file_gb: float
) -> tuple[
    Annotated[pd.DataFrame, "ads"],
    Annotated[pd.DataFrame, "unparsed"],
    Annotated[pd.DataFrame, "lines"],
]:
    """Read a file of labelled ads; ``md5`` makes ZenML's cache follow its bytes.

    ``lines`` has the line of the file in which each ad begins; it is empty for Parquet.
    """
    with timed():
        loaded = read_ads(Path(path), labelled=True, max_file_gb=max_file_gb)
        if loaded.md5 != md5:
            raise AdsFileError(f"{path} changed while it was read: run again when it is complete")
        log_metadata({"rows": len(loaded.frame), "ignored_columns": list(loaded.ignored_columns)})
    lines = [] if loaded.lines is None else loaded.lines
    return loaded.frame, loaded.unparsed, pd.DataFrame({"line": lines}, dtype="int64")
