from __future__ import annotations

import numpy as np
import pytest

from demand.ads import TARGET
from demand.evaluation.coverage import PARENT_ROWS_MIN, measure_coverage
from tests.ads_factory import make_ads


def test_coverage_is_the_share_of_outcomes_within_their_bounds() -> None:
    ads = make_ads(4).assign(**{TARGET: [0.0, 0.2, 0.5, 1.0]})
    low, high = np.array([0.0, 0.3, 0.4, 0.0]), np.array([0.1, 0.4, 0.5, 0.9])
    found = measure_coverage(ads, low, high)
    assert found.overall == 0.5
    assert found.width == pytest.approx(0.3)
    assert found.by_parent_category == {}


def test_a_parent_category_is_measured_with_enough_ads() -> None:
    ads = make_ads(PARENT_ROWS_MIN + 5)
    ads["parent_category_name"] = ["много"] * PARENT_ROWS_MIN + ["мало"] * 5
    ads[TARGET] = [0.0] * PARENT_ROWS_MIN + [1.0] * 5
    bounds = np.zeros(len(ads))
    assert measure_coverage(ads, bounds, bounds).by_parent_category == {"много": 1.0}
