"""The pages and files about an evaluation and the checks."""

from __future__ import annotations

import dataclasses
import math
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from demand.config import CheckSettings, GateSettings
from demand.errors import StateError
from demand.evaluation.baselines import mean_baseline
from demand.evaluation.checks import run_checks
from demand.evaluation.evaluate import Evaluation, evaluate
from demand.reports.pages import write_checks, write_evaluation
from demand.schema.columns import TARGET
from tests.ads_factory import make_ads
from tests.toy_model import GoodModel

EVIL = '<script>alert("x")</script> & $5'
ADS = make_ads(600, seed=21)
CURVE = pd.DataFrame({"epoch": [1, 2], "train_loss": [0.5, 0.4], "validation_rmse": [0.3, 0.2]})


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
    write_evaluation(found, CURVE, folder)
    return folder


def test_all_files_are_written(written: Path) -> None:
    assert sorted(path.name for path in written.iterdir()) == [
        "calibration.csv",
        "calibration.png",
        "compared.csv",
        "curves.csv",
        "error_by_category.png",
        "evaluation.html",
        "predicted_and_actual.png",
        "slices.csv",
        "training_curve.png",
    ]


def test_tables_are_read_back_as_they_were(evaluation, tmp_path: Path) -> None:
    write_evaluation(evaluation, CURVE, tmp_path)
    slices = pd.read_csv(tmp_path / "slices.csv")
    calibration = pd.read_csv(tmp_path / "calibration.csv")
    pd.testing.assert_frame_equal(slices, evaluation.slices, check_dtype=False)
    pd.testing.assert_frame_equal(calibration, evaluation.calibration, check_dtype=False)
    pd.testing.assert_frame_equal(pd.read_csv(tmp_path / "curves.csv"), CURVE)


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
    assert "&lt;script&gt;alert(&#34;x&#34;)" in page


def test_the_page_follows_light_and_dark(page: str) -> None:
    assert "prefers-color-scheme: dark" in page


def test_a_folder_that_cannot_be_written_is_named(evaluation, tmp_path: Path) -> None:
    taken = tmp_path / "taken"
    taken.write_text("a file")
    with pytest.raises(StateError, match="taken"):
        write_evaluation(evaluation, CURVE, taken)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_predictions_that_are_not_finite_are_still_reported(
    predicted, bad: float, tmp_path: Path
) -> None:
    broken = predicted.copy()
    broken[3] = bad
    page = write_evaluation(evaluate_it(ADS, broken), CURVE, tmp_path)
    assert "Refused by the rmse gate" in page.read_text("utf-8")


# The checks.


def checks(folder: Path, ads: pd.DataFrame = ADS, **more: object) -> str:
    found = run_checks(GoodModel(), ads, CheckSettings(giskard_scan=False), **more)
    page, scan = write_checks(found, folder)
    assert scan is None
    return page.read_text(encoding="utf-8")


def test_the_page_says_that_there_was_no_scan(tmp_path: Path) -> None:
    (tmp_path / "giskard_scan.html").write_text("of an earlier run")
    assert "checks.giskard_scan is false" in checks(tmp_path)
    assert not (tmp_path / "giskard_scan.html").exists()


def test_a_model_that_always_raises_gets_a_page(tmp_path: Path) -> None:
    class Raising:
        def predict(self, _: pd.DataFrame) -> np.ndarray:
            raise RuntimeError("no weights")

    found = run_checks(Raising(), ADS, CheckSettings(giskard_scan=False))
    page = write_checks(found, tmp_path)[0].read_text(encoding="utf-8")
    assert "raised RuntimeError: no weights" in page
    assert "Not measured: the model gave no predictions." in page


def test_giskards_reports_are_shown_without_scripts(tmp_path: Path) -> None:
    found = run_checks(GoodModel(), ADS, CheckSettings(giskard_scan=False))
    its_page = "<html>Giskard's page</html>"
    found = dataclasses.replace(found, suite_html="<b>its suite</b>", scan_html=its_page)
    page, scanned = write_checks(found, tmp_path)
    text = page.read_text(encoding="utf-8")
    assert 'sandbox=""' in text
    assert 'srcdoc="&lt;b&gt;its suite&lt;/b&gt;"' in text
    assert scanned is not None
    assert scanned.read_text(encoding="utf-8") == its_page


def test_values_of_ads_are_escaped_in_the_page_of_the_checks(tmp_path: Path) -> None:
    page = checks(tmp_path, ADS.assign(parent_category_name="<script>alert(1)</script>"))
    assert "&lt;script&gt;" in page
    assert "<script" not in page


def test_the_page_of_the_checks_loads_nothing(tmp_path: Path) -> None:
    page = checks(tmp_path)
    assert re.findall(r"(?:src|href|url)\s*[=(]\s*['\"]?(?:https?:)?//", page) == []
    assert "default-src 'none'" in page


def test_the_baseline_stands_beside_the_model_on_the_reports_weak_slices(tmp_path: Path) -> None:
    page = checks(tmp_path, baseline_predicted=np.full(len(ADS), 0.14))
    assert "MSE, report's MLP" in page
    assert "+91 % MSE" in page
