from __future__ import annotations

import numpy as np
import pytest

from demand.features.groups import _roundness


@pytest.mark.parametrize(
    ("price", "kind"),
    [
        (np.nan, 0),
        (np.inf, 0),
        (-5.0, 0),
        (0.0, 1),
        (25_000.0, 2),
        (1_900.0, 3),
        (990.0, 4),
        (999.0, 5),
        (0.5, 5),
    ],
)
def test_prices_are_told_apart_by_their_zeros(price: float, kind: int) -> None:
    assert _roundness(price) == kind
