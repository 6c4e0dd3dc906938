from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from demand.features.weekdays import weekdays


@pytest.mark.parametrize("unit", ["ns", "s", "D"])
def test_a_day_of_the_week_is_that_of_pandas(unit: str) -> None:
    days = pd.date_range("1678-01-01", "2261-12-31", freq="97h23min")
    dates = days.to_numpy().astype(f"datetime64[{unit}]")
    np.testing.assert_array_equal(weekdays(dates), days.dayofweek)


def test_no_date_has_no_day() -> None:
    assert np.isnan(weekdays(np.array(["NaT"], "datetime64[ns]"))).all()


def test_dates_may_lie_apart_and_be_read_only() -> None:
    dates = np.array(["2017-03-27", "2017-03-28", "2017-03-29"], "datetime64[ns]")
    dates.flags.writeable = False
    assert weekdays(dates[::2]).tolist() == [0.0, 2.0]
