"""What clients are told: nothing of this machine, and nothing without the token."""

from __future__ import annotations

from pathlib import Path

import pytest

from demand.errors import ConfigError
from demand.registry.versions import RegisteredVersion
from demand.serving.api import model_provider
from demand.serving.api.application import create_app
from demand.serving.api.model_provider import FollowedChampion, ModelServerProxy
from demand.serving.api.server import ApiSettings
from demand.serving.api.telemetry import Telemetry
from demand.serving.client import token_from_environment
from demand.workspace.workspace import Workspace
from tests.served import api

AD = {"title": "Велосипед горный", "category_name": "Велосипеды"}


def damaged_registry(workspace: Workspace) -> None:
    workspace.mlflow_database.write_bytes(b"no database" * 1000)


def missing_model(workspace: Workspace) -> None:
    gone = workspace.root / "artifacts" / "gone"
    champion = RegisteredVersion("3", "", "", "", "", {}, gone, "abc", "", {})
    workspace.mlflow_database.touch()
    # Those that other tests of this process have left following read on as before.
    read = model_provider.read_champion
    model_provider.read_champion = lambda asked: champion if asked == workspace else read(asked)


@pytest.mark.parametrize("spoil", [damaged_registry, missing_model])
def test_no_path_of_this_machine_is_told_but_logged(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    spoil: object,
) -> None:
    monkeypatch.setattr(model_provider, "read_champion", model_provider.read_champion)
    workspace = Workspace(tmp_path / "secret-place")
    workspace.root.mkdir()
    assert callable(spoil)
    spoil(workspace)
    followed = FollowedChampion(workspace)
    followed.look()
    upstream, telemetry = ModelServerProxy(lambda: None), Telemetry(followed)
    client = create_app(followed, upstream, ApiSettings(), telemetry).test_client()
    for answer in (client.get("/ready"), client.get("/info"), client.post("/predict", json=AD)):
        assert "secret-place" not in answer.text
        assert "the API's log says why" in answer.text
    followed.look()
    assert sum("secret-place" in record.getMessage() for record in caplog.records) == 1


@pytest.mark.parametrize("token", ["", " ", "a\nb", "тайна"])
def test_a_token_that_protects_nothing_is_refused(
    monkeypatch: pytest.MonkeyPatch, token: str
) -> None:
    monkeypatch.setenv("DEMAND_API_TOKEN", token)
    with pytest.raises(ConfigError, match="DEMAND_API_TOKEN"):
        token_from_environment()


@pytest.mark.e2e
def test_no_answer_has_a_traceback_or_a_path(tmp_path: Path) -> None:
    with api(tmp_path / "log", body_bytes=100_000) as server:
        answers = [
            server.get(path)
            for path in ("/info", "/ready", "/card", "/market", "/nothing", "/%00", "/%ff", "/..")
        ]
        answers += [server.post("/predict", data=b"{"), server.get("/invocations")]
        answers += [server.post("/predict", json=value) for value in (None, 1, "a", [], {}, [[]])]
        for answer in answers:
            assert "Traceback" not in answer.text
            assert str(Path(__file__).parents[2]) not in answer.text
            assert str(tmp_path) not in answer.text
        assert "Traceback" not in server.log
