from __future__ import annotations

import math
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from demand.errors import StateError
from demand.workspace.workspace import (
    PROJECT_ROOT,
    Workspace,
    current_workspace,
    exclusive,
    read_json,
    reports_folder,
    write_json,
)
from tests.full_disk import full_disk

HOLD = """
import sys
from pathlib import Path
from demand.workspace.workspace import exclusive
with exclusive(Path(sys.argv[1]), "training"):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_all_state_lies_below_demand_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEMAND_HOME", str(tmp_path / "a"))
    workspace = current_workspace()
    folders = (
        workspace.mlflow_database,
        workspace.mlflow_artifacts,
        workspace.studies,
        workspace.serving,
        workspace.logs,
        workspace.locks,
    )
    assert all(folder.is_relative_to(tmp_path / "a") for folder in folders)
    assert len(set(folders)) == 6
    assert not workspace.root.exists()


def test_demand_home_is_read_at_each_call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEMAND_HOME", str(tmp_path / "a"))
    first = current_workspace()
    monkeypatch.setenv("DEMAND_HOME", str(tmp_path / "b"))
    assert (first, current_workspace()) == (Workspace(tmp_path / "a"), Workspace(tmp_path / "b"))


@pytest.mark.parametrize("value", [None, ""])
def test_without_demand_home_state_lies_in_the_project(
    monkeypatch: pytest.MonkeyPatch, value: str | None
) -> None:
    monkeypatch.delenv("DEMAND_HOME", raising=False)
    if value is not None:
        monkeypatch.setenv("DEMAND_HOME", value)
    assert current_workspace().root == PROJECT_ROOT / ".demand"


def test_demand_home_may_be_relative(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DEMAND_HOME", "here")
    assert current_workspace().root == tmp_path / "here"


@pytest.mark.parametrize("below", ["", "/home", "/a/b"])
def test_a_demand_home_that_is_a_file_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, below: str
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("DEMAND_HOME", f"{tmp_path}/file{below}")
    with pytest.raises(StateError, match=f"{tmp_path}/file is a file; set DEMAND_HOME to a folder"):
        current_workspace()


@pytest.mark.parametrize("name", ["a?b", "a?", "a%41b", "%20", "a%c3%a4"])
def test_a_demand_home_that_mlflow_reads_as_another_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv("DEMAND_HOME", str(tmp_path / name / "home"))
    with pytest.raises(StateError, match=r"MLflow reads .* set DEMAND_HOME to a folder without it"):
        current_workspace()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["a#b", "a b", "100%", "50% a", "ä;x&y=1", "a:b", "'"])
def test_other_signs_in_demand_home_are_letters(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv("DEMAND_HOME", str(tmp_path / name))
    assert current_workspace().root == tmp_path / name


def test_reports_lie_below_demand_reports(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEMAND_REPORTS", str(tmp_path / "r"))
    assert reports_folder("training") == tmp_path / "r" / "training"
    assert (tmp_path / "r" / "training").is_dir()


def test_a_reports_folder_that_cannot_be_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "r").touch()
    monkeypatch.setenv("DEMAND_REPORTS", str(tmp_path / "r"))
    with pytest.raises(StateError, match=f"cannot create the reports folder {tmp_path}/r/training"):
        reports_folder("training")


def test_json_is_readable(tmp_path: Path) -> None:
    write_json(tmp_path / "x.json", {"название": 1})
    assert (tmp_path / "x.json").read_text(encoding="utf-8") == '{\n  "название": 1\n}\n'
    assert read_json(tmp_path / "x.json") == {"название": 1}


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_json_holds_no_nan(tmp_path: Path, value: float) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "x.json", {"a": value})
    assert not (tmp_path / "x.json").exists()


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe\x00", b"{'a': 1}"])
def test_damaged_json_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.json").write_bytes(content)
    with pytest.raises(StateError, match=f"{tmp_path}/x.json is not valid JSON"):
        read_json(tmp_path / "x.json")


def test_absent_json_is_named(tmp_path: Path) -> None:
    with pytest.raises(StateError, match=f"cannot read {tmp_path}/x.json: No such file"):
        read_json(tmp_path / "x.json")


@pytest.fixture
def lock(tmp_path: Path) -> Path:
    return tmp_path / "home" / "locks" / "training.lock"


@pytest.fixture
def holder(lock: Path) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(lock)],
        cwd=PROJECT_ROOT,
        text=True,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def test_a_second_process_is_refused_and_told_who_is_first(
    lock: Path, holder: subprocess.Popen[str]
) -> None:
    words = rf"process {holder.pid} \(training\) is using {lock.parent.parent}: .*DEMAND_HOME"
    with pytest.raises(StateError, match=words), exclusive(lock, "training"):
        pass


def test_the_lock_is_free_when_its_holder_was_killed(
    lock: Path, holder: subprocess.Popen[str]
) -> None:
    holder.kill()
    holder.wait()
    with exclusive(lock, "training"):
        assert f"process {os.getpid()} (training)" in lock.read_text()


def test_one_waits_for_the_lock_when_asked_to(lock: Path, holder: subprocess.Popen[str]) -> None:
    program = HOLD.replace('"training"', '"next", wait=True')
    with subprocess.Popen(
        [sys.executable, "-c", program, str(lock)],
        cwd=PROJECT_ROOT,
        text=True,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
    ) as waiting:
        assert waiting.poll() is None
        holder.communicate("")
        assert waiting.communicate(timeout=60)[0] == "held\n"
    assert waiting.returncode == 0


def test_the_lock_is_free_after_the_block(lock: Path) -> None:
    with pytest.raises(RuntimeError), exclusive(lock, "one"):
        raise RuntimeError
    with exclusive(lock, "two"):
        assert "(two)" in lock.read_text()
    assert lock.read_text() == ""


def test_the_same_process_cannot_hold_it_twice(lock: Path) -> None:
    with (
        exclusive(lock, "one"),
        pytest.raises(StateError, match=f"process {os.getpid()}"),
        exclusive(lock, "two"),
    ):
        pass


def test_a_full_disk_keeps_nobody_from_locking(lock: Path) -> None:
    with (
        full_disk(limit=0),
        exclusive(lock, "one"),
        pytest.raises(StateError),
        exclusive(lock, "two"),
    ):
        pass


def test_a_lock_that_cannot_be_opened_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with (
        pytest.raises(StateError, match=f"cannot open the lock {tmp_path}/file/x.lock"),
        exclusive(tmp_path / "file" / "x.lock", "training"),
    ):
        pass
