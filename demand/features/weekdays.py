"""Days of the week of dates, compiled."""

from __future__ import annotations

from math import nan

import numpy as np
from numpy.typing import NDArray

from demand.features.compiled import compiled

_NANOSECONDS = np.dtype("datetime64[ns]")
_DAY = 24 * 60 * 60 * 1_000_000_000  # in nanoseconds
_NOT_A_DATE = np.iinfo(np.int64).min


def weekdays(dates: NDArray[np.datetime64]) -> NDArray[np.float64]:
    """Return the day of the week of each date, shape (n,): Monday is 0; NaN where missing."""
    return _weekdays(dates.astype(_NANOSECONDS).view(np.int64))


@compiled
def _weekdays(nanoseconds: NDArray[np.int64]) -> NDArray[np.float64]:
    days = np.empty(len(nanoseconds))
    for row in range(len(nanoseconds)):
        moment = nanoseconds[row]
        # The first of January 1970 was a Thursday.
        days[row] = nan if moment == _NOT_A_DATE else (moment // _DAY + 3) % 7
    return days
