from __future__ import annotations

import pandas as pd
import pytest

from demand.demo import generate


@pytest.fixture(scope="session")
def demo_ads() -> pd.DataFrame:
    """As many demo ads as the embedded default has, same seed."""
    return generate(20_000, 2017)


@pytest.fixture(scope="session")
def many_ads() -> pd.DataFrame:
    """Enough demo ads for shares to half a percent."""
    return generate(60_000, 31)
