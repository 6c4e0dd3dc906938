from __future__ import annotations

from pathlib import Path

import pytest
from rich.console import Console

from cli.pipelines import demo_origin, find_ads
from demand.config import DataSettings
from demand.data.versioning import demo_file
from demand.demo import DEFAULT_MD5

OUT = Console(quiet=True)


def test_a_file_that_is_given_is_used() -> None:
    assert find_ads(Path("a.csv"), DataSettings(file="b.csv"), OUT) == Path("a.csv")


def test_a_file_of_the_config_is_used() -> None:
    assert find_ads(None, DataSettings(file="b.csv"), OUT) == Path("b.csv")


def test_the_default_demo_ads_are_recognised_wherever_they_lie() -> None:
    assert demo_origin(Path("copy.csv"), DEFAULT_MD5, DataSettings()) == (20_000, 2017)


def test_other_demo_ads_are_recognised_where_they_were_generated() -> None:
    asked = DataSettings(demo_rows=500, demo_seed=3)
    assert demo_origin(demo_file(500, 3), "0" * 32, asked) == (500, 3)


@pytest.mark.parametrize("path", [Path("ads.csv"), demo_file(20_000, 2017)])
def test_ads_of_other_bytes_are_no_demo_ads(path: Path) -> None:
    assert demo_origin(path, "0" * 32, DataSettings()) is None
