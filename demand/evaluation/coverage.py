"""How often the outcome lies within the interval that was promised."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from demand.ads import TARGET
from demand.metrics import Floats

PARENT_ROWS_MIN = 100


@dataclass(frozen=True)
class MeasuredCoverage:
    """Coverage of intervals on ads that they were not calibrated on.

    Parameters
    ----------
    overall
        Share of the outcomes within their interval.
    width
        Mean distance of the bounds.
    by_parent_category
        Share of each parent category with enough ads.
    """

    overall: float
    width: float
    by_parent_category: dict[str, float]


def measure_coverage(
    ads: pd.DataFrame, low: Floats, high: Floats, rows_min: int = PARENT_ROWS_MIN
) -> MeasuredCoverage:
    """Count outcomes within their bounds.

    Parameters
    ----------
    ads
        Typed ads with their target, shape (n, 18).
    low, high
        Bounds, shape (n,).
    rows_min
        Parent categories with fewer ads are left out.
    """
    actual: npt.NDArray[np.float64] = ads[TARGET].to_numpy(dtype=np.float64)
    within = pd.Series((actual >= low) & (actual <= high))
    groups = within.groupby(ads["parent_category_name"].to_numpy())
    shares = groups.mean()[groups.size() >= rows_min]
    return MeasuredCoverage(
        float(within.mean()),
        float(np.mean(high - low)),
        {str(name): float(share) for name, share in shares.items()},
    )
