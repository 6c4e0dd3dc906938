"""The project's own files of DVC, in a copy of the project, with the real DVC.

The training is replaced by a stand-in that writes figures of the same shape in no time:
what is tested here is when DVC calls it and what DVC makes of what it wrote.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from demand.data import versioning
from demand.data.versioning import demo_file, ensure_demo_ads
from demand.workspace.workspace import PROJECT_ROOT

pytestmark = pytest.mark.e2e

CONFIG = """seed: 42
validation: {min_rows: 200}
split: {by: seller}
features: {buckets: 2048}
training:
  epochs_max: 3
checks: {giskard_scan: true}
gate:
  rmse_threshold: 0.25  # keep me
"""
STANDIN_TRAINING = """
import json, pathlib, sys, yaml

config = yaml.safe_load(pathlib.Path("configs/training.yaml").read_text())
epochs = config["training"]["epochs_max"]
rmse = 0.25 - epochs / 1000
if rmse >= config["gate"]["rmse_threshold"]:
    sys.exit(2)
with open("calls.txt", "a") as calls:
    calls.write(" ".join(sys.argv[1:]) + "\\n")
reports = pathlib.Path(sys.argv[sys.argv.index("--metrics") + 1])
reports.mkdir(parents=True, exist_ok=True)
(reports / "metrics.json").write_text(json.dumps({"rmse": rmse}))
rows = "".join(f"{epoch},0.{epoch},0.{epoch}\\n" for epoch in range(1, epochs + 1))
(reports / "curves.csv").write_text("epoch,train_loss,validation_rmse\\n" + rows)
bins = "bin,predicted_mean,actual_mean,rows\\n1,0.1,0.12,5\\n2,0.2,0.19,6\\n"
(reports / "calibration.csv").write_text(bins)
"""
DEFAULT = (20_000, 2017)


class Project:
    """A copy of the project as a fresh clone has it, but for the stand-in."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def dvc(self, *arguments: str, status: int = 0) -> str:
        return self._run(sys.executable, "-m", "dvc", *arguments, status=status)

    def git(self, *arguments: str) -> str:
        return self._run("git", "-c", "user.name=t", "-c", "user.email=t@example.org", *arguments)

    def commit(self) -> None:
        self.git("add", ".")
        self.git("commit", "--quiet", "--allow-empty", "--message", "next")

    def calls(self) -> int:
        calls = self.root / "calls.txt"
        return len(calls.read_text(encoding="utf-8").splitlines()) if calls.exists() else 0

    def set(self, old: str, new: str) -> None:
        config = self.root / "configs" / "training.yaml"
        config.write_text(config.read_text(encoding="utf-8").replace(old, new), encoding="utf-8")

    def _run(self, *command: str, status: int = 0) -> str:
        scripts = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        done = subprocess.run(
            command,
            cwd=self.root,
            env={**os.environ, "PATH": scripts},
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.returncode == status, done.stdout + done.stderr
        return done.stdout + done.stderr


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """Return a project after its first ``dvc repro``; each test gets a copy."""
    root = tmp_path_factory.mktemp("trained") / "project"
    (root / ".dvc").mkdir(parents=True)
    for name in (".dvc/config", ".dvc/.gitignore", ".dvcignore", ".gitignore", "dvc.yaml"):
        shutil.copy(PROJECT_ROOT / name, root / name)
    for package in ("cli", "demand", "orchestration", "steps", "pipelines", "configs", "data"):
        (root / package).mkdir()
        (root / package / "code.py").write_text("x = 1\n", encoding="utf-8")
    (root / "configs" / "training.yaml").write_text(CONFIG, encoding="utf-8")
    (root / "run.py").write_text(STANDIN_TRAINING, encoding="utf-8")
    with (root / ".gitignore").open("a", encoding="utf-8") as ignored:
        ignored.write("/calls.txt\n")
    (root / "data" / "demo.csv").write_text("item_id\na\n", encoding="utf-8")
    pin = yaml.safe_load((PROJECT_ROOT / "data.dvc").read_text(encoding="utf-8"))
    pin["outs"][0] = {"path": pin["outs"][0]["path"], "hash": "md5"}
    (root / "data.dvc").write_text(yaml.safe_dump(pin), encoding="utf-8")
    project = Project(root)
    project.git("init", "--quiet")
    project.dvc("commit", "--force", "data.dvc")
    project.commit()
    project.dvc("repro")
    return project


@pytest.fixture
def project(trained: Project, tmp_path: Path) -> Project:
    shutil.copytree(trained.root, tmp_path / "project", symlinks=True)
    return Project(tmp_path / "project")


def test_nothing_is_trained_again_when_nothing_changed(project: Project):
    project.dvc("repro")

    assert project.calls() == 1
    assert "up to date" in project.dvc("status")


def test_a_change_of_the_config_trains_again(project: Project):
    project.set("epochs_max: 3", "epochs_max: 4")

    project.dvc("repro")

    assert project.calls() == 2


@pytest.mark.parametrize("changed", ["demand/code.py", "steps/code.py", "data/demo.csv"])
def test_a_change_of_code_or_ads_trains_again(project: Project, changed: str):
    with (project.root / changed).open("a", encoding="utf-8") as file:
        file.write("b = 1\n")

    project.dvc("repro")

    assert project.calls() == 2


@pytest.mark.parametrize("beside", ["demand/page/texts.json", "demand/demo/words.json", "run.py"])
def test_a_wording_trains_nothing_again(project: Project, beside: str):
    (project.root / beside).parent.mkdir(parents=True, exist_ok=True)
    with (project.root / beside).open("a", encoding="utf-8") as file:
        file.write("\n")

    assert "up to date" in project.dvc("status")


def test_how_a_model_is_packaged_counts(project: Project):
    (project.root / "demand" / "registry").mkdir()
    (project.root / "demand" / "registry" / "loader.py").write_text("y = 1\n", encoding="utf-8")

    project.dvc("repro")

    assert project.calls() == 2


def test_what_python_compiles_does_not_count_as_a_change(project: Project):
    (project.root / "demand" / "__pycache__").mkdir()
    (project.root / "demand" / "__pycache__" / "code.pyc").write_bytes(b"x")

    assert "up to date" in project.dvc("status")


def test_training_by_dvc_stops_short_of_promotion(project: Project):
    assert "--no-promote" in (project.root / "calls.txt").read_text(encoding="utf-8")


def test_dvc_fails_on_a_gate_that_says_no_and_removes_no_figure(project: Project):
    before = (project.root / "metrics/metrics.json").read_bytes()
    project.set("0.25", "0.1")

    assert "exited with 2" in project.dvc("repro", status=255)
    assert (project.root / "metrics/metrics.json").read_bytes() == before


def test_metrics_of_two_commits_can_be_compared(project: Project):
    project.commit()
    project.set("epochs_max: 3", "epochs_max: 5")
    project.dvc("repro")
    project.commit()

    difference = project.dvc("metrics", "diff", "HEAD~1", "HEAD", "--md")

    assert "rmse     | 0.247    | 0.245  | -0.002   |" in difference


def test_a_fresh_clone_has_figures_and_curves_to_compare_with(project: Project, tmp_path: Path):
    project.commit()
    clone = Project(tmp_path / "clone")
    project.git("clone", "--quiet", str(project.root), str(clone.root))
    assert "0.247" in clone.dvc("metrics", "show")
    shutil.copytree(project.root / "data", clone.root / "data", dirs_exist_ok=True)
    clone.dvc("commit", "--force", "data.dvc")
    assert "up to date" in clone.dvc("status")
    clone.set("epochs_max: 3", "epochs_max: 5")

    clone.dvc("repro")

    assert "rmse     | 0.247  | 0.245       | -0.002   |" in clone.dvc("metrics", "diff", "--md")
    clone.dvc("plots", "diff")
    page = (clone.root / "dvc_plots" / "index.html").read_text(encoding="utf-8")
    assert page.count('"rev": "HEAD"') == page.count('"rev": "workspace"') - 4 > 0


def test_training_by_dvc_changes_what_git_tracks_only_where_the_figures_are(project: Project):
    project.commit()
    project.set("min_rows: 200", "min_rows: 201")
    project.dvc("repro")

    changed = project.git("status", "--porcelain").split()

    assert changed == ["M", "configs/training.yaml", "M", "dvc.lock"]


def test_plots_show_the_curve_and_the_calibration(project: Project):
    project.dvc("plots", "show")

    page = (project.root / "dvc_plots" / "index.html").read_text(encoding="utf-8")
    assert "Loss on training ads" in page
    assert "Mean deal probability, predicted and observed" in page


def test_an_experiment_sets_a_parameter_and_keeps_the_comments(project: Project):
    project.commit()

    project.dvc("exp", "run", "-S", "configs/training.yaml:training.epochs_max=2")

    config = (project.root / "configs/training.yaml").read_text(encoding="utf-8")
    assert config == CONFIG.replace("epochs_max: 3", "epochs_max: 2")
    assert "0.248" in project.dvc("metrics", "show")


def test_demo_ads_of_a_fresh_clone_are_stored_without_touching_the_pin(
    project: Project, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(versioning, "PROJECT_ROOT", project.root)
    shutil.rmtree(project.root / ".dvc" / "cache")
    ads = demo_file(*DEFAULT)
    ads.rename(ads.with_suffix(".before"))
    pin = (project.root / "data.dvc").read_bytes()
    assert "not in cache" in project.dvc("status", "data.dvc")
    monkeypatch.setattr(
        "demand.demo.write_demo", lambda path, *_: ads.with_suffix(".before").rename(path)
    )

    ensure_demo_ads(ads, *DEFAULT)

    assert "up to date" in project.dvc("status", "data.dvc")
    assert (project.root / "data.dvc").read_bytes() == pin


def test_a_folder_is_a_remote_after_one_command(project: Project, tmp_path: Path):
    project.dvc("remote", "add", "--default", "storage", str(tmp_path / "storage"))

    project.dvc("push")
    shutil.rmtree(project.root / ".dvc" / "cache")
    (project.root / "data" / "demo.csv").unlink()
    project.dvc("pull")
    assert "up to date" in project.dvc("status")
