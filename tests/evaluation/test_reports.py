"""The files about an evaluation."""

from __future__ import annotations

import math
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from demand.ads import TARGET
from demand.config import GateSettings
from demand.errors import StateError
from demand.evaluation import plots
from demand.evaluation.baselines import mean_baseline
from demand.evaluation.evaluate import Evaluation, evaluate
from demand.evaluation.reports import write_evaluation
from tests.ads_factory import make_ads

EVIL = '<script>alert("x")</script> & $5'
ADS = make_ads(600, seed=21)


def evaluate_it(ads: pd.DataFrame, predicted: np.ndarray, *rivals: str) -> Evaluation:
    """Evaluate against the mean, which is given the names of other rivals too."""
    mean = mean_baseline(ads[TARGET], len(ads))
    return evaluate(
        ads,
        predicted,
        baselines=dict.fromkeys(("mean", *rivals), mean),
        champion_predicted=mean,
        settings=GateSettings(bootstrap_samples=200),
        seed=5,
        noise_floor_rmse=0.01,
    )


@pytest.fixture(scope="module")
def predicted() -> np.ndarray:
    noise = np.random.default_rng(0).normal(0.0, 0.1, len(ADS))
    return (ADS[TARGET].to_numpy() * 0.7 + noise).clip(0.0, 1.0)


@pytest.fixture(scope="module")
def evaluation(predicted) -> Evaluation:
    return evaluate_it(ADS, predicted)


@pytest.fixture(scope="module")
def written(predicted, tmp_path_factory) -> Path:
    named = ADS.copy()
    named.loc[: len(ADS) // 2, "category_name"] = EVIL
    folder = tmp_path_factory.mktemp("reports") / "training"
    found = evaluate_it(named, predicted, EVIL)
    write_evaluation(found, folder, training_curve=plots.predicted_and_actual([0.3], [0.3]))
    return folder


def test_all_files_are_written(written: Path) -> None:
    assert sorted(path.name for path in written.iterdir()) == [
        "calibration.csv",
        "calibration.png",
        "compared.csv",
        "error_by_category.png",
        "evaluation.html",
        "predicted_and_actual.png",
        "slices.csv",
        "training_curve.png",
    ]


def test_tables_are_read_back_as_they_were(evaluation, tmp_path: Path) -> None:
    write_evaluation(evaluation, tmp_path)
    slices = pd.read_csv(tmp_path / "slices.csv")
    calibration = pd.read_csv(tmp_path / "calibration.csv")
    pd.testing.assert_frame_equal(slices, evaluation.slices, check_dtype=False)
    pd.testing.assert_frame_equal(calibration, evaluation.calibration, check_dtype=False)


class _Links(HTMLParser):
    """Collects what a page would load, and the tags it has."""

    def __init__(self) -> None:
        super().__init__()
        self.sources: list[str] = []
        self.tags: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.sources += [value or "" for name, value in attrs if name in ("src", "href")]


@pytest.fixture(scope="module")
def page(written: Path) -> str:
    return (written / "evaluation.html").read_text(encoding="utf-8")


def test_the_page_loads_nothing_but_its_own_images(page: str) -> None:
    links = _Links()
    links.feed(page)
    assert len(links.sources) == 4
    assert all(source.startswith("data:image/png;base64,") for source in links.sources)
    assert "http://" not in page
    assert "https://" not in page
    assert re.search(r"url\(|@import", page) is None


def test_texts_of_the_page_are_escaped(page: str) -> None:
    links = _Links()
    links.feed(page)
    assert "script" not in links.tags
    assert "&lt;script&gt;alert(&quot;x&quot;)" in page


def test_the_page_follows_light_and_dark(page: str) -> None:
    assert "prefers-color-scheme: dark" in page


def test_a_folder_that_cannot_be_written_is_named(evaluation, tmp_path: Path) -> None:
    taken = tmp_path / "taken"
    taken.write_text("a file")
    with pytest.raises(StateError, match="taken"):
        write_evaluation(evaluation, taken)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_predictions_that_are_not_finite_are_still_reported(
    predicted, bad: float, tmp_path: Path
) -> None:
    broken = predicted.copy()
    broken[3] = bad
    page = write_evaluation(evaluate_it(ADS, broken), tmp_path)
    assert "Refused by the rmse gate" in page.read_text("utf-8")
