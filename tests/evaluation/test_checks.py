"""All checks together: the report, what is critical, and Giskard kept in its place."""

from __future__ import annotations

import logging
import os
import random
import re
import socket
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from demand.config import CheckSettings
from demand.errors import AdsFileError, ConfigError
from demand.evaluation.checks import CHECK_NAMES, CheckReport, require_known, run_checks
from demand.evaluation.giskard_scan import SCAN_NAMES, giskard_frame, typed_ads
from tests.ads_factory import make_ads
from tests.toy_model import GoodModel, SpoiltModel

ADS = make_ads(500, seed=31)
SCAN = CheckSettings(scan_rows=200, critical=["scan_text_perturbation"])
NO_SCAN = CheckSettings(giskard_scan=False)
OUT_OF_RANGE = SpoiltModel(lambda _, p: p + 1.0)


class Raising:
    def __init__(self, error: BaseException) -> None:
        self.error = error

    def predict(self, _: pd.DataFrame) -> np.ndarray:
        raise self.error


def shouting(frame: pd.DataFrame, p: np.ndarray) -> np.ndarray:
    return np.where(frame["title"].str.isupper(), p + 0.2, p)


def plain(model: object, **settings: object) -> CheckReport:
    return run_checks(model, ADS, NO_SCAN.model_copy(update=settings))  # type: ignore[arg-type]


class TestWithoutGiskard:
    def test_a_good_model_passes(self) -> None:
        report = plain(GoodModel())
        assert report.failed == ()
        assert report.refusal is None

    def test_a_critical_failure_refuses_with_name_and_numbers(self) -> None:
        refusal = plain(OUT_OF_RANGE).refusal
        assert refusal is not None
        assert refusal.startswith("predictions_in_range: outside: 500 of 500 test rows")
        assert "\n" not in refusal

    def test_a_failure_that_is_not_named_critical_is_a_warning(self) -> None:
        report = plain(OUT_OF_RANGE, critical=[])
        assert [finding.name for finding in report.warnings] == ["predictions_in_range"]
        assert report.refusal is None

    def test_a_model_that_always_raises_fails_every_check(self) -> None:
        report = plain(Raising(RuntimeError("no weights")))
        assert not any(finding.passed for finding in report.findings)
        assert "raised RuntimeError: no weights" in report.findings[0].detail
        assert report.slices is None

    def test_no_test_rows_are_refused(self) -> None:
        with pytest.raises(AdsFileError, match="no test row"):
            run_checks(GoodModel(), ADS.head(0), NO_SCAN)

    def test_one_test_row_is_enough_to_run(self) -> None:
        report = run_checks(GoodModel(), ADS.head(1), NO_SCAN)
        assert {finding.name for finding in report.failed} == {"predictions_not_constant"}


class TestCriticalNames:
    def test_an_unknown_name_is_an_error_that_suggests_the_near_one(self) -> None:
        with pytest.raises(ConfigError, match=r"'invariance_cases'.*did you mean invariance_case"):
            require_known(CheckSettings(critical=["invariance_cases"]))

    def test_a_name_near_none_lists_all(self) -> None:
        with pytest.raises(ConfigError, match="known: invariance_case, "):
            require_known(CheckSettings(critical=["zzz"]))

    def test_a_scan_that_is_off_cannot_be_critical(self) -> None:
        with pytest.raises(ConfigError, match="giskard_scan is false"):
            require_known(CheckSettings(critical=[SCAN_NAMES[0]], giskard_scan=False))

    def test_it_is_found_out_before_anything_runs(self) -> None:
        asked = SpoiltModel(lambda *_: pytest.fail("the model was asked"))
        with pytest.raises(ConfigError):
            plain(asked, critical=["zzz"])

    def test_the_defaults_are_known(self) -> None:
        assert set(CheckSettings().critical) <= set(CHECK_NAMES)


@dataclass
class Watched:
    """A scan, and what it did beside its work."""

    report: CheckReport
    connections: list[object]
    before: object
    after: object
    home: Path


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Watched:
    home, connections = tmp_path_factory.mktemp("home"), []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket.socket, "connect", lambda _, address: connections.append(address))
        patch.setenv("HOME", str(home))
        np.random.seed(5)
        random.seed(5)
        before = _process_state()
        found = run_checks(SpoiltModel(shouting), ADS, SCAN)
        return Watched(found, connections, before, _process_state(), home)


@pytest.fixture(scope="module")
def report(watched: Watched) -> CheckReport:
    return watched.report


class TestWithGiskard:
    """One scan of a toy model; it takes some ten seconds, so all tests look at the same."""

    def test_every_check_is_found_once_and_in_order(self, report: CheckReport) -> None:
        assert tuple(finding.name for finding in report.findings) == CHECK_NAMES

    def test_the_scan_meets_the_same_bad_habit_as_our_check(self, report: CheckReport) -> None:
        names = {finding.name for finding in report.failed}
        assert {"invariance_case", "scan_text_perturbation"} <= names

    def test_a_major_issue_can_be_critical(self, report: CheckReport) -> None:
        assert report.refusal is not None
        assert report.refusal.startswith("scan_text_perturbation: ")

    def test_a_model_that_is_steady_passes_the_detectors_of_unsteadiness(
        self, report: CheckReport
    ) -> None:
        passed = {finding.name for finding in report.findings if finding.passed}
        assert {"scan_stochasticity", "scan_data_leakage"} <= passed

    def test_giskards_suite_has_run_every_one_of_our_checks(self, report: CheckReport) -> None:
        assert report.suite_html is not None
        named = set(re.findall(r"Test (\w+)</span", report.suite_html))
        assert named == set(CHECK_NAMES) - set(SCAN_NAMES)
        assert "test-card-error'" not in report.suite_html

    def test_giskards_page_is_forbidden_to_load_anything(self, report: CheckReport) -> None:
        page = report.scan_html or ""
        assert "default-src 'none'" in page
        assert re.findall(r"<(?:script|link|img|iframe)[^>]+(?:src|href)=", page) == []

    def test_nothing_of_the_process_is_left_changed(self, watched: Watched) -> None:
        assert watched.before == watched.after

    def test_it_connects_to_nobody(self, watched: Watched) -> None:
        assert watched.connections == []

    def test_it_leaves_nothing_in_the_users_home(self, watched: Watched) -> None:
        assert list(watched.home.glob("*giskard*")) == []

    def test_it_prints_nothing(self, capfd: pytest.CaptureFixture[str]) -> None:
        run_checks(GoodModel(), ADS.head(40), CheckSettings())
        assert capfd.readouterr() == ("", "")

    def test_a_second_scan_finds_the_same(self, report: CheckReport) -> None:
        assert run_checks(SpoiltModel(shouting), ADS, SCAN).findings == report.findings

    def test_an_unsteady_model_is_found_out(self) -> None:
        noise = np.random.default_rng(0)
        model = SpoiltModel(lambda _, p: np.clip(p + noise.uniform(0, 0.05, len(p)), 0, 1))
        report = run_checks(model, ADS.head(60), CheckSettings(scan_rows=60))
        assert "scan_stochasticity" in {finding.name for finding in report.failed}

    def test_a_model_that_raises_fails_the_scan_and_does_not_end_it(self) -> None:
        report = run_checks(Raising(RuntimeError("no weights")), ADS.head(60), CheckSettings())
        scans = {f.name: f.passed for f in report.findings if f.name in SCAN_NAMES}
        assert scans == {name: name == "scan_performance_bias" for name in SCAN_NAMES}

    def test_ctrl_c_is_not_swallowed_by_the_suite(self) -> None:
        with pytest.raises(KeyboardInterrupt):
            run_checks(Raising(KeyboardInterrupt()), ADS.head(5), CheckSettings())


def _process_state() -> object:
    giskards = {name: value for name, value in os.environ.items() if name.startswith("GSK_")}
    numbers = np.random.get_state()[1].tolist()
    return giskards, numbers, random.getstate(), logging.getLogger().handlers, sys.stdout


def test_missing_text_survives_the_way_through_giskard() -> None:
    ads = ADS.drop(columns="deal_probability").reset_index(drop=True)
    pd.testing.assert_frame_equal(typed_ads(giskard_frame(ads)), ads)


def test_importing_the_checks_does_not_import_giskard() -> None:
    code = "import sys, demand.evaluation.checks; print('giskard' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
