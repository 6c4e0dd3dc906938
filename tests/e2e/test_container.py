"""The container image: built from Debian's packages, run, and asked. By ``make container-test``."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml

from demand.errors import ModelError
from demand.state import PROJECT_ROOT
from tests.e2e.door import Door
from tests.e2e.installation import Installation

FOLDER = PROJECT_ROOT / "deployment" / "container"
TRIAL_S = 900
MEGABYTES_MAX = 800
SECONDS_TO_ANSWER_MAX = 60.0
TOLERANCE = 1e-6


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


@pytest.fixture(scope="module")
def trial(new_installation: Any, door: Door) -> str:
    """Return what a trial of a fresh champion's image printed."""
    installation: Installation = new_installation()
    training = door.start(installation, "--no-deploy")
    assert training.wait() == 0, training.printed
    done = subprocess.run(
        [FOLDER / "try"],
        env=installation.environment,
        capture_output=True,
        text=True,
        timeout=TRIAL_S,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    return done.stdout


def figure(trial: str, name: str) -> float:
    found = re.search(rf"^{name}: (\S+)$", trial, re.MULTILINE)
    assert found, f"no {name!r} in:\n{trial}"
    return float(found[1])


@pytest.mark.container
@pytest.mark.e2e
@pytest.mark.timeout(TRIAL_S + 300)
@pytest.mark.skipif(bool(why_not()), reason=str(why_not()))
class TestImage:
    def test_answers_like_the_predictor(self, trial: str) -> None:
        assert figure(trial, "largest difference to the Predictor") <= TOLERANCE

    def test_answers_soon_after_its_start(self, trial: str) -> None:
        assert figure(trial, "seconds from start to /ping") < SECONDS_TO_ANSWER_MAX

    def test_compiles_nothing_at_run_time(self, trial: str) -> None:
        assert figure(trial, "functions compiled at run time") == 0

    def test_is_small(self, trial: str) -> None:
        assert figure(trial, "megabytes of the image") <= MEGABYTES_MAX

    def test_is_healthy_and_no_root(self, trial: str) -> None:
        assert "healthy, as demand\n" in trial


def test_image_has_the_versions_of_the_lock(capsys: pytest.CaptureFixture[str]) -> None:
    assert script("requirements").main() == 0
    lines = capsys.readouterr().out.splitlines()
    lock = (PROJECT_ROOT / "requirements.lock").read_text(encoding="utf-8").lower()
    assert all(line.replace("-", "_") in lock.replace("-", "_") for line in lines)
    names = {line.partition("==")[0] for line in lines}
    assert {"mlflow-skinny", "numba", "uvicorn", "flask"} <= names
    assert not names & {"mlflow", "torch", "zenml", "scikit-learn", "pyarrow", "gradio"}


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
        *("-m", "demand.cli", "api", "--port", "8000")
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
