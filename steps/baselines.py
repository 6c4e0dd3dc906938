"""Train what the model has to beat, on the same rows."""

from __future__ import annotations

from typing import Annotated

import pandas as pd
from zenml import step

from demand.evaluation.baselines import baseline_answers
from steps.common import CACHED, timed


@step(cache_policy=CACHED)
def baselines(
    training_ads: pd.DataFrame, validation_ads: pd.DataFrame, test_ads: pd.DataFrame, seed: int
) -> Annotated[pd.DataFrame, "baseline_answers"]:
    """Answer the test ads with the mean, the category means and the report's MLP."""
    with timed():
        # The baselines stop by no validation, so its rows are theirs to learn from.
        known = pd.concat([training_ads, validation_ads], ignore_index=True)
        return pd.DataFrame(baseline_answers(known, test_ads, seed))
