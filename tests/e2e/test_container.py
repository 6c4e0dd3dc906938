"""The container image: built from Debian's packages, run, and asked. By ``make container-test``."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from demand.errors import ModelError
from demand.evaluation.metrics import Floats
from demand.model.predictor import Predictor
from demand.registry.registry import Registry
from demand.schema.records import frame_from_records
from demand.workspace.workspace import PROJECT_ROOT, Workspace, read_json
from tests.e2e.door import Door
from tests.e2e.installation import Installation
from tests.e2e.thousand_ads import TOLERANCE, thousand_ads

FOLDER = PROJECT_ROOT / "deployment" / "container"
TRIAL_S = 2700
MEGABYTES_MAX = 800
SECONDS_TO_ANSWER_MAX = 60.0
# What the image is asked while it answers: a file for the answers, and a file of labelled ads.
QUESTIONS = """set -e
python -m tests.e2e.thousand_ads "$URL" "$1"
python run.py --pipeline production-evaluation --data "$2" --url "$URL"
"""


def why_not() -> str | None:
    """Say what a build needs and is not here."""
    if not os.environ.get("CONTAINER_TEST"):
        return "builds an image from Debian's packages: run `make container-test`"
    if os.geteuid() != 0:
        return "debootstrap and chroot need root"
    absent = [name for name in ("buildah", "debootstrap") if shutil.which(name) is None]
    return f"not installed: {', '.join(absent)}" if absent else None


def script(name: str) -> ModuleType:
    """Return one of the image's programs, which lie in no package."""
    spec = importlib.util.spec_from_file_location(f"container_{name}", FOLDER / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@dataclass(frozen=True)
class Trial:
    """What came of a trial of a fresh champion's image.

    Parameters
    ----------
    printed
        By the program.
    answers, expected
        To the ads of :func:`tests.e2e.thousand_ads.thousand_ads`, of the image and of the
        Predictor; shape (n,).
    evaluation
        The figures of ``production-evaluation``.
    """

    printed: str
    answers: list[float]
    expected: Floats
    evaluation: dict[str, Any]


@pytest.fixture(scope="module")
def trial(new_installation: Any, door: Door, tmp_path_factory: pytest.TempPathFactory) -> Trial:
    installation: Installation = new_installation()
    training = door.start(installation, "--no-deploy")
    assert training.wait() == 0, training.printed
    answers = tmp_path_factory.mktemp("trial") / "answers.json"
    done = subprocess.run(
        [FOLDER / "try", "bash", "-c", QUESTIONS, "bash", answers, installation.data],
        cwd=PROJECT_ROOT,
        env=installation.environment,
        capture_output=True,
        text=True,
        timeout=TRIAL_S,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    champion = Registry(Workspace(installation.home)).version("1").source
    predictor = Predictor.load(champion / "data" / "predictor")
    return Trial(
        done.stdout,
        json.loads(answers.read_text(encoding="utf-8")),
        predictor.predict(frame_from_records(thousand_ads())),
        read_json(installation.reports.parent / "production-evaluation" / "metrics.json"),
    )


def figure(trial: Trial, name: str) -> float:
    found = re.search(rf"^{name}: (\S+)$", trial.printed, re.MULTILINE)
    assert found, f"no {name!r} in:\n{trial.printed}"
    return float(found[1])


@pytest.mark.container
@pytest.mark.e2e
@pytest.mark.timeout(TRIAL_S + 300)
@pytest.mark.skipif(bool(why_not()), reason=str(why_not()))
class TestImage:
    # Those of every other way to the model: see test_parity.py.
    def test_gives_the_predictors_answers_to_a_thousand_ads(self, trial: Trial) -> None:
        np.testing.assert_allclose(trial.answers, trial.expected, rtol=0, atol=TOLERANCE)

    def test_passes_the_evaluation_in_production(self, trial: Trial) -> None:
        assert trial.evaluation["passed"]
        assert trial.evaluation["model_version"] == "1"
        assert trial.evaluation["max_difference"] <= TOLERANCE

    def test_the_page_opens_in_an_image_of_its_own(self, trial: Trial) -> None:
        found = re.search(r"^the page has (\d+) bytes$", trial.printed, re.MULTILINE)
        assert found, trial.printed
        assert int(found[1]) > 10_000
        assert figure(trial, "megabytes of the page's image") <= MEGABYTES_MAX

    def test_that_of_mlflow_alone_answers_alike(self, trial: Trial) -> None:
        assert figure(trial, "MLflow's own: largest difference to the Predictor") <= TOLERANCE

    def test_answers_soon_after_its_start(self, trial: Trial) -> None:
        assert figure(trial, "seconds from start to /ping") < SECONDS_TO_ANSWER_MAX

    def test_compiles_nothing_at_run_time(self, trial: Trial) -> None:
        assert figure(trial, "functions compiled at run time") == 0

    def test_is_small(self, trial: Trial) -> None:
        assert figure(trial, "megabytes of the image") <= MEGABYTES_MAX

    def test_is_healthy_and_no_root(self, trial: Trial) -> None:
        assert "healthy, as demand\n" in trial.printed


@pytest.mark.parametrize("image", ["serving", "page"])
def test_image_has_the_versions_of_the_lock(image: str) -> None:
    lock = (PROJECT_ROOT / "requirements.lock").read_text(encoding="utf-8").splitlines()
    locked = {canonicalize_name(line.partition("==")[0]) for line in lock if "==" in line}
    lines = (FOLDER / f"{image}.txt").read_text(encoding="utf-8").splitlines()
    wanted = [Requirement(line.partition("#")[0]) for line in lines if not line.startswith("#")]
    assert {each.name for each in wanted} <= locked
    assert not any(each.specifier for each in wanted)
    assert not {"mlflow", "torch", "zenml"} & {each.name for each in wanted}


def test_without_a_champion_nothing_is_exported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DEMAND_HOME", str(tmp_path / "home"))
    with pytest.raises(ModelError, match="no champion yet: run"):
        script("champion").export_champion(tmp_path / "model")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("words", [["bash"], [], ["healthy"]])
def test_a_container_runs_nothing_but_its_services(words: list[str]) -> None:
    with pytest.raises(SystemExit, match="but one of: model-server"):
        script("start").command(words)


def test_options_reach_the_services() -> None:
    command = script("start").command
    assert command(["model-server", "--port", "9"])[-2:] == ["--port", "9"]
    assert command(["demand", "api", "--port", "8000"])[1:] == [
        *("-m", "cli.main", "api", "--port", "8000")
    ]


def test_every_service_is_confined() -> None:
    services = yaml.safe_load((FOLDER / "compose.yaml").read_text(encoding="utf-8"))["services"]
    for name, service in services.items():
        assert service["read_only"] is True, name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert service["mem_limit"], name
        assert all(port.startswith("127.0.0.1:") for port in service["ports"]), name


def test_prove_refuses_other_answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prove = script("prove")
    (tmp_path / "samples.json").write_text('{"ads": [{}], "predictions": [0.25]}')
    monkeypatch.setattr(sys, "argv", ["prove.py", str(tmp_path), "--url", "http://127.0.0.1:1"])
    for answer, status in (("0.25", 0), ("0.2500011", 1), ("NaN", 1)):
        monkeypatch.setattr(
            prove, "ask", lambda *_, answer=answer: b'{"predictions": [%s]}' % answer.encode()
        )
        assert prove.main() == status, answer
