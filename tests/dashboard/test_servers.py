from pathlib import Path

import pytest

from demand.dashboard.servers import connected_zenml_server, mlflow_server, zenml_server


@pytest.fixture(autouse=True)
def private_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("DEMAND_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("ZENML_CONFIG_PATH", str(tmp_path / "zen"))
    monkeypatch.delenv("ZENML_STORE_URL", raising=False)


def configure_zenml(folder: Path, text: str) -> None:
    (folder / "zen").mkdir()
    (folder / "zen" / "config.yaml").write_text(text, encoding="utf-8")


def test_a_zenml_that_was_never_used_is_connected_to_no_server():
    assert connected_zenml_server() is None


def test_a_zenml_with_its_own_database_is_connected_to_no_server(tmp_path: Path):
    configure_zenml(tmp_path, "store: {type: sql, url: 'sqlite:////tmp/zenml.db'}")

    assert connected_zenml_server() is None


def test_a_zenml_that_logged_in_to_a_server_is_connected_to_it(tmp_path: Path):
    configure_zenml(tmp_path, "store: {type: rest, url: 'https://zenml.example'}")

    assert connected_zenml_server() == "https://zenml.example"


def test_the_environment_outranks_the_configuration_as_in_zenml(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    configure_zenml(tmp_path, "store: {type: sql, url: 'sqlite:////tmp/zenml.db'}")
    monkeypatch.setenv("ZENML_STORE_URL", "https://zenml.example")

    assert connected_zenml_server() == "https://zenml.example"


def test_a_damaged_configuration_is_left_to_zenml_to_complain_about(tmp_path: Path):
    configure_zenml(tmp_path, "store: [")

    assert connected_zenml_server() is None


def test_zenml_is_kept_from_writing_the_users_configuration():
    assert zenml_server(8237).environment["ZENML_SERVER"] == "true"


def test_mlflow_answers_only_to_loopback_names():
    options = mlflow_server(5000).module

    hosts = options[options.index("--allowed-hosts") + 1]
    assert hosts == "127.0.0.1:5000,localhost:5000"


def test_each_server_keeps_its_log_in_the_installation(tmp_path: Path):
    logs = {zenml_server(8237).log.parent, mlflow_server(5000).log.parent}

    assert logs == {tmp_path / "home" / "logs"}
