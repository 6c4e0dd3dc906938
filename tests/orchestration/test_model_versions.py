"""ZenML's stages follow the registry's aliases, in a real store of its own."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from cli.main import tell_zenml
from tests.own_store import run_program

# Versions 1 to 3 are known to ZenML, 4 was registered beside another store; each row is
# the champion, the challenger and the version before.
STAGES = """
import json
from types import SimpleNamespace
from zenml.client import Client
from orchestration import model_versions
from orchestration.model_versions import follow_aliases, zenml_model

versions = {n: SimpleNamespace(version=n, fingerprint=n * 32) for n in "1234"}
aliased = {}

class Registry:
    def champion(self): return versions.get(aliased["champion"])
    def challenger(self): return versions.get(aliased["challenger"])
    def previous(self): return versions.get(aliased["previous"])

model_versions.Registry = Registry
found = []
for row in (("1", None, None), ("1", "2", None), ("2", None, "1"), ("3", None, "2"),
            ("2", "4", "1"), (None, "3", None), ("4", None, None)):
    for number in "123":
        if number in row:
            assert zenml_model(versions[number].fingerprint).id
    aliased.update(zip(("champion", "challenger", "previous"), row))
    follow_aliases()
    listed = Client().list_model_versions(model_name_or_id="demand", hydrate=True).items
    found.append({each.name[-1]: each.stage for each in listed})
tags = {each.name[-1]: sorted(tag.name for tag in each.tags) for each in listed}
model = Client().get_model("demand")
print(json.dumps([found, tags, model.license]))
"""


def test_stages_follow_the_aliases_forth_and_back(tmp_path: Path) -> None:
    done = run_program(tmp_path, STAGES)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    found, tags, licence = json.loads(done.stdout.splitlines()[-1])
    production, staging, archived = "production", "staging", "archived"
    assert found == [
        {"1": production},
        {"1": production, "2": staging},
        {"1": archived, "2": production},
        {"1": archived, "2": archived, "3": production},
        {"1": archived, "2": production, "3": archived},
        {"1": archived, "2": archived, "3": staging},
        {"1": archived, "2": archived, "3": archived},
    ]
    assert "mlflow-version-2" in tags["2"]
    assert "tabular" in tags["2"]
    assert licence == "MIT"


def test_a_change_of_the_champion_needs_no_zenml(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ZENML_CONFIG_PATH", str(tmp_path / "nowhere"))
    tell_zenml()
    assert capfd.readouterr() == ("", "")
    assert not (tmp_path / "nowhere").exists()


def test_a_zenml_that_is_broken_is_only_warned_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "config.yaml").touch()
    monkeypatch.setenv("ZENML_CONFIG_PATH", str(tmp_path))
    monkeypatch.setitem(sys.modules, "orchestration.model_versions", None)
    tell_zenml()
    assert capfd.readouterr().err.startswith("warning: ZenML cannot be told what serves: ")
