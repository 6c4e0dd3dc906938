"""Divide the ads into training, validation and test parts."""

from __future__ import annotations

from typing import Annotated

import pandas as pd
from zenml import log_metadata, step

from demand.config import SplitSettings
from demand.splitting import split_ads
from steps.common import CACHED, timed


@step(cache_policy=CACHED)
def split(
    ads: pd.DataFrame, settings: SplitSettings, seed: int
) -> tuple[
    Annotated[pd.DataFrame, "training_ads"],
    Annotated[pd.DataFrame, "validation_ads"],
    Annotated[pd.DataFrame, "test_ads"],
    Annotated[dict[str, int], "rows"],
]:
    """Split so that no seller lies on two sides."""
    with timed():
        parts = split_ads(ads, settings, seed)
        rows = {
            "rows_train": len(parts.train),
            "rows_validation": len(parts.validation),
            "rows_test": len(parts.test),
        }
        log_metadata({"rows": rows})
    return parts.train, parts.validation, parts.test, rows
