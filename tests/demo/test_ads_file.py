"""Writing demo ads: the same bytes everywhere, in a stream, whole or not at all."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

import pytest
from pandas.testing import assert_frame_equal

from demand.data.reading import read_ads
from demand.demo import generate, write_demo
from demand.errors import StateError

# The first 200 ads of the default file. It changes only together with the generator, its
# vocabulary or its calibration; data.dvc then wants its new md5 too.
PINNED_MD5 = "9a0e894ed737cd36f7b10edc431b7285"


def test_a_small_file_has_the_pinned_bytes(tmp_path: Path) -> None:
    assert write_demo(tmp_path / "ads.csv", 200, 2017) == PINNED_MD5


def test_the_answer_is_the_md5_of_the_file(tmp_path: Path) -> None:
    answered = write_demo(tmp_path / "ads.csv", 50, 1)
    content = (tmp_path / "ads.csv").read_bytes()
    assert answered == hashlib.md5(content, usedforsecurity=False).hexdigest()


def test_another_process_with_another_hash_seed_writes_the_same_bytes(tmp_path: Path) -> None:
    path = tmp_path / "ads.csv"
    program = (
        "from pathlib import Path; from demand.demo import write_demo;"
        f"print(write_demo(Path({str(path)!r}), 200, 2017))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={"PYTHONHASHSEED": "77", "LC_ALL": "C", "OMP_NUM_THREADS": "2"},
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == PINNED_MD5


def test_another_seed_gives_other_ads(tmp_path: Path) -> None:
    one, other = (write_demo(tmp_path / "ads.csv", 50, seed) for seed in (1, 2))
    assert one != other


def test_the_file_reads_back_as_the_generated_frame(tmp_path: Path) -> None:
    write_demo(tmp_path / "ads.csv", 2_000, 5)
    assert_frame_equal(read_ads(tmp_path / "ads.csv").frame, generate(2_000, 5))


def test_every_cell_of_the_file_is_understood(tmp_path: Path) -> None:
    write_demo(tmp_path / "ads.csv", 2_000, 6)
    assert read_ads(tmp_path / "ads.csv").unparsed.empty


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr("demand.demo.generator.CHUNK_ROWS", 300)
    return 300


def test_streaming_over_several_chunks_equals_generating_at_once(
    tmp_path: Path, small_chunks: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = 2 * small_chunks + 10
    write_demo(tmp_path / "ads.csv", rows, 7)
    monkeypatch.setattr("demand.demo.generator.CHUNK_ROWS", rows)
    assert_frame_equal(read_ads(tmp_path / "ads.csv").frame, generate(rows, 7))


def test_a_longer_file_begins_with_the_shorter_one(tmp_path: Path) -> None:
    write_demo(tmp_path / "short.csv", 300, 8)
    write_demo(tmp_path / "long.csv", 900, 8)
    long = (tmp_path / "long.csv").read_bytes()
    assert long.startswith((tmp_path / "short.csv").read_bytes())


def test_progress_counts_up_to_all_rows(tmp_path: Path, small_chunks: int) -> None:
    seen: list[int] = []
    write_demo(tmp_path / "ads.csv", small_chunks + 1, 9, progress=seen.append)
    assert seen == [small_chunks, small_chunks + 1]


def test_an_interrupted_write_leaves_no_file(tmp_path: Path) -> None:
    def interrupt(_: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_demo(tmp_path / "ads.csv", 100, 1, progress=interrupt)
    assert list(tmp_path.iterdir()) == []


def test_an_interrupted_write_leaves_the_old_file_whole(tmp_path: Path) -> None:
    path = tmp_path / "ads.csv"
    path.write_text("from before")

    def interrupt(_: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_demo(path, 100, 1, progress=interrupt)
    assert path.read_text() == "from before"


def test_a_folder_that_is_a_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StateError, match="file"):
        write_demo(tmp_path / "file" / "ads.csv", 10, 1)


@pytest.mark.parametrize(("rows", "seed"), [(0, 1), (-5, 1), (10, -1)])
def test_no_rows_and_negative_seeds_are_refused(tmp_path: Path, rows: int, seed: int) -> None:
    with pytest.raises(ValueError, match="at least"):
        write_demo(tmp_path / "ads.csv", rows, seed)
