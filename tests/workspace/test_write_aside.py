from __future__ import annotations

import contextlib
import os
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from demand.errors import StateError
from demand.workspace.workspace import (
    PROJECT_ROOT,
    read_json,
    write_aside,
    write_aside_folder,
    write_json,
)
from tests.full_disk import full_disk


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_takes_its_place_when_the_block_succeeds(tmp_path: Path) -> None:
    path = tmp_path / "new" / "x.txt"
    with write_aside(path) as aside:
        aside.write_text("whole")
        assert not path.exists()
    assert path.read_text() == "whole"
    assert names(path.parent) == ["x.txt"]


@pytest.fixture(params=[0o022, 0o077, 0o002])
def umask(request: pytest.FixtureRequest) -> Iterator[int]:
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_new_file_or_folder_has_the_mode_that_the_umask_leaves(
    tmp_path: Path, umask: int
) -> None:
    write_json(tmp_path / "x.json", 1)
    with write_aside_folder(tmp_path / "m"):
        pass
    assert mode(tmp_path / "x.json") == 0o666 & ~umask
    assert mode(tmp_path / "m") == 0o777 & ~umask


@pytest.mark.parametrize("before", [0o600, 0o640, 0o444, 0o664])
def test_a_file_that_is_replaced_keeps_its_mode(tmp_path: Path, before: int) -> None:
    path = tmp_path / "x.txt"
    path.touch()
    path.chmod(before)
    with write_aside(path) as aside:
        assert mode(aside) & ~0o200 == before & ~0o200, "others could read it meanwhile"
        aside.write_text("new")
    assert (mode(path), path.read_text()) == (before, "new")


@pytest.mark.parametrize("before", [0o700, 0o750, 0o775])
def test_a_folder_that_is_replaced_keeps_its_mode(tmp_path: Path, before: int) -> None:
    path = tmp_path / "m"
    path.mkdir()
    path.chmod(before)
    with write_aside_folder(path) as aside:
        (aside / "new").touch()
    assert (mode(path), names(path)) == (before, ["new"])


def test_a_link_is_replaced_and_what_it_leads_to_stays(tmp_path: Path) -> None:
    cached, path = tmp_path / "cache" / "object", tmp_path / "x.txt"
    write_json(cached, "kept")
    cached.chmod(0o444)
    path.symlink_to(cached)
    with write_aside(path) as aside:
        aside.write_text("new")
    assert (path.read_text(), path.is_symlink()) == ("new", False)
    assert mode(path) & 0o200, "the mode of the cache's object is not that of the new file"
    assert (read_json(cached), mode(cached), names(cached.parent)) == ("kept", 0o444, ["object"])


def test_another_name_of_the_same_file_keeps_its_bytes(tmp_path: Path) -> None:
    cached, path = tmp_path / "object", tmp_path / "x.txt"
    cached.write_text("kept")
    os.link(cached, path)
    with write_aside(path) as aside:
        aside.write_text("new")
    assert (cached.read_text(), path.read_text()) == ("kept", "new")


def test_a_link_that_leads_nowhere_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "x.txt"
    path.symlink_to(tmp_path / "gone" / "object")
    with write_aside(path) as aside:
        aside.write_text("new")
    assert (path.read_text(), names(tmp_path)) == ("new", ["x.txt"])


def test_a_link_to_a_folder_is_replaced_and_the_folder_stays(tmp_path: Path) -> None:
    cached, path = tmp_path / "object", tmp_path / "m"
    (cached / "kept").mkdir(parents=True)
    path.symlink_to(cached)
    with write_aside_folder(path) as aside:
        (aside / "new").touch()
    assert (names(path), path.is_symlink(), names(cached)) == (["new"], False, ["kept"])
    assert names(tmp_path) == ["m", "object"]


def test_a_device_or_pipe_is_not_replaced(tmp_path: Path) -> None:
    pipe, link = tmp_path / "pipe", tmp_path / "link"
    os.mkfifo(pipe)
    link.symlink_to(pipe)
    for path in (pipe, link):
        with pytest.raises(StateError, match=f"{path}: it is no regular file"), write_aside(path):
            pass
    assert stat.S_ISFIFO(pipe.stat().st_mode)
    assert names(tmp_path) == ["link", "pipe"]


@pytest.mark.parametrize("failure", [RuntimeError, KeyboardInterrupt, SystemExit])
def test_the_file_before_stays_when_the_block_fails(
    tmp_path: Path, failure: type[BaseException]
) -> None:
    path = tmp_path / "x.txt"
    path.write_text("before")
    with contextlib.suppress(failure), write_aside(path) as aside:
        aside.write_text("half")
        raise failure
    assert path.read_text() == "before"
    assert names(tmp_path) == ["x.txt"]


def test_the_file_before_stays_when_the_disk_is_full(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    write_json(path, {"whole": True})
    untouched = f"cannot write {path}: .*; the file from before is untouched"
    with full_disk(), pytest.raises(StateError, match=untouched):
        write_json(path, {"long": "x" * 10_000})
    assert read_json(path) == {"whole": True}
    assert names(tmp_path) == ["x.json"]


def test_the_file_before_stays_when_the_process_is_killed(tmp_path: Path) -> None:
    path = tmp_path / "x.txt"
    path.write_text("before")
    program = (
        "import os, sys; from pathlib import Path\n"
        "from demand.workspace.workspace import write_aside\n"
        "with write_aside(Path(sys.argv[1])) as aside:\n"
        "    aside.write_text('half'); os.kill(os.getpid(), 9)"
    )
    done = subprocess.run([sys.executable, "-c", program, str(path)], cwd=PROJECT_ROOT, check=False)
    assert done.returncode == -signal.SIGKILL
    assert path.read_text() == "before"


@pytest.mark.parametrize("name", ["file/x.txt", "n" * 300])
def test_a_file_that_cannot_be_written_is_named(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").touch()
    with (
        pytest.raises(StateError, match=f"cannot write {tmp_path / name}"),
        write_aside(tmp_path / name),
    ):
        pass


def test_a_folder_takes_the_place_of_the_one_before(tmp_path: Path) -> None:
    path = tmp_path / "m"
    for name in ("one", "two"):
        with write_aside_folder(path) as aside:
            (aside / name).touch()
    assert names(path) == ["two"]
    assert names(tmp_path) == ["m"]


def test_the_folder_before_stays_when_the_block_fails(tmp_path: Path) -> None:
    path = tmp_path / "m"
    with write_aside_folder(path) as aside:
        (aside / "one").touch()
    with pytest.raises(StateError, match=f"cannot write {path}: "), write_aside_folder(path):
        raise OSError(28, "No space left on device")
    with pytest.raises(KeyboardInterrupt), write_aside_folder(path):
        raise KeyboardInterrupt
    assert names(path) == ["one"]
    assert names(tmp_path) == ["m"]


# Kills itself at the event of Python's audit whose number is given; without renameat2 if so
# asked, as on a system that cannot let two folders change places.
KILLED = """
import os, sys
from pathlib import Path
from demand.workspace.workspace import write_aside_folder
kill_at, exchange = int(sys.argv[2]), sys.argv[3] == "True"
seen, armed = 0, False
def hook(event, arguments):
    global seen
    if event == "ctypes.dlsym" and not exchange:
        raise AttributeError(event)
    if armed and event in ("os.rename", "os.remove", "os.rmdir", "os.chmod", "shutil.rmtree"):
        seen += 1
        if seen == kill_at:
            os.kill(os.getpid(), 9)
sys.addaudithook(hook)
with write_aside_folder(Path(sys.argv[1])) as aside:
    (aside / "two").touch()
    (aside / "both").touch()
    armed = True
"""


@pytest.mark.parametrize("exchange", [True, False])
def test_a_kill_at_any_moment_loses_no_folder(tmp_path: Path, exchange: bool) -> None:
    path = tmp_path / "m"
    absent = False
    for kill_at in range(1, 30):
        with write_aside_folder(path) as aside:
            (aside / "one").touch()
            (aside / "both").touch()
        arguments = (str(path), str(kill_at), str(exchange))
        command = [sys.executable, "-c", KILLED, *arguments]
        done = subprocess.run(command, cwd=PROJECT_ROOT, check=False)
        absent |= not path.exists()
        with contextlib.suppress(RuntimeError), write_aside_folder(path):
            raise RuntimeError
        assert names(path) in (["both", "one"], ["both", "two"])
        assert not (tmp_path / ".m.before").exists()
        if done.returncode == 0:
            break
    assert done.returncode == 0, "it was killed at each of its steps"
    assert absent is not exchange
