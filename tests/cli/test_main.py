from __future__ import annotations

import hashlib
import io
import json
import re
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from cli.main import main
from demand import __version__
from demand.workspace.workspace import PROJECT_ROOT
from tests.ads_factory import make_ads

COMMANDS = (
    *("status", "serve", "stop", "rollback", "withdraw", "history", "cache", "api", "ui"),
    *("validate", "demo", "dashboard", "predict", "explain"),
)
Captured = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def installation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Name an empty installation."""
    monkeypatch.setenv("DEMAND_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("DEMAND_REPORTS", str(tmp_path / "reports"))
    return tmp_path / "home"


def ended(argv: list[str]) -> int:
    with pytest.raises(SystemExit) as raised:
        main(argv)
    assert isinstance(raised.value.code, int)
    return raised.value.code


def ask(monkeypatch: pytest.MonkeyPatch, given: bytes) -> int:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(given)))
    return main(["predict"])


def test_help_names_every_command(capfd: Captured) -> None:
    assert ended(["--help"]) == 0
    told = capfd.readouterr().out
    assert all(re.search(rf"^\s+{command}\s", told, re.MULTILINE) for command in COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_a_command_ends_with_an_example(command: str, capfd: Captured) -> None:
    assert ended([command, "--help"]) == 0
    example = capfd.readouterr().out.rpartition("example:\n")[2]
    assert f"demand {command}" in example


def test_help_is_fast_since_it_loads_nothing_heavy() -> None:
    program = (
        "import sys; from cli import main; main.parser()\n"
        "print(*(set(sys.modules) & {'torch', 'mlflow', 'pandas', 'zenml', 'giskard'}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=PROJECT_ROOT, capture_output=True, check=True
    )
    assert done.stdout == b"\n"


def test_the_version_is_told(capfd: Captured) -> None:
    assert ended(["--version"]) == 0
    assert capfd.readouterr().out == f"avito-demand {__version__}\n"


@pytest.mark.parametrize(
    "argv",
    [
        [],
        ["statu"],
        ["status", "--jso"],
        ["status", "more"],
        ["demo"],
        ["demo", "--output", "x.csv", "--rows", "0"],
        ["demo", "--output", "x.csv", "--rows", "20000001"],
        ["demo", "--output", "x.csv", "--rows", "many"],
        ["dashboard", "--zenml-port", "x"],
        ["rollback", "--to"],
    ],
    ids=" ".join,
)
def test_wrong_usage_ends_with_64(argv: list[str], capfd: Captured) -> None:
    assert ended(argv) == 64
    assert "Usage: demand" in capfd.readouterr().err


def test_the_status_of_an_empty_installation_is_not_healthy(capfd: Captured) -> None:
    assert main(["status", "--json"]) == 1
    told = capfd.readouterr()
    status = json.loads(told.out)
    assert (status["champion"], status["endpoint"], status["healthy"]) == (None, None, False)
    assert "run.py --pipeline training" in status["problem"]
    assert told.err == ""


def test_the_status_is_a_table_for_people(capfd: Captured) -> None:
    assert main(["status"]) == 1
    assert re.search(r"healthy +False", capfd.readouterr().out)


def test_asking_for_the_status_writes_nothing(installation: Path) -> None:
    main(["status", "--json"])
    assert not installation.exists()


def test_stopping_nothing_is_no_error(capfd: Captured) -> None:
    assert main(["stop"]) == 0
    assert capfd.readouterr().out == "no model server was running\n"


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (b"", "standard input is not valid JSON"),
        (b"{", "standard input is not valid JSON"),
        (b"{'title': 1}", "standard input is not valid JSON"),
        (b"\xff\xfe\x00", "standard input is not valid JSON"),
    ],
)
def test_bad_json_is_told(
    given: bytes, words: str, monkeypatch: pytest.MonkeyPatch, capfd: Captured
) -> None:
    assert ask(monkeypatch, given) == 1
    assert capfd.readouterr().err.startswith(f"error: {words}")


def test_a_file_that_is_absent_is_named(tmp_path: Path, capfd: Captured) -> None:
    assert main(["predict", "--ad", str(tmp_path / "ad.json")]) == 1
    told = f"error: cannot read {tmp_path}/ad.json: No such file or directory\n"
    assert capfd.readouterr().err == told


def test_demo_ads_are_written_with_their_md5(tmp_path: Path, capfd: Captured) -> None:
    path = tmp_path / "ads.csv"
    assert main(["demo", "--rows", "50", "--seed", "1", "--output", str(path), "--quiet"]) == 0
    md5 = hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()
    assert capfd.readouterr() == (f"50 demo ads in {path}, md5 {md5}\n", "")


def test_validating_tells_the_line_of_every_bad_row(tmp_path: Path) -> None:
    ads = make_ads(300).assign(description="две\nстроки")
    ads.loc[4, "price"] = -1.0
    path = tmp_path / "ads.csv"
    ads.to_csv(path, index=False)
    assert main(["validate", "--data", str(path)]) == 0
    bad = pd.read_csv(tmp_path / "reports" / "validation" / "quarantine.csv")
    assert bad[["row", "line", "column"]].to_numpy().tolist() == [[4, 10, "price"]]


def test_validating_names_the_columns_that_it_ignores(tmp_path: Path, capfd: Captured) -> None:
    path = tmp_path / "ads.csv"
    make_ads(300).assign(**{"": 0, "two\nlines": 1}).to_csv(path, index=False)
    main(["validate", "--data", str(path)])
    told = capfd.readouterr().out.splitlines()
    assert "warning: ignored columns: '', 'two\\nlines'" in told


def test_demo_ads_that_cannot_be_written_are_an_error(tmp_path: Path, capfd: Captured) -> None:
    (tmp_path / "file").touch()
    assert main(["demo", "--rows", "5", "--output", str(tmp_path / "file" / "ads.csv")]) == 1
    assert capfd.readouterr().err.startswith(f"error: cannot write {tmp_path}/file/ads.csv: ")


def test_a_config_that_is_absent_is_named(tmp_path: Path, capfd: Captured) -> None:
    assert main(["serve", "--config", str(tmp_path / "no.yaml")]) == 1
    assert capfd.readouterr().err.startswith(f"error: cannot read the config {tmp_path}/no.yaml")
