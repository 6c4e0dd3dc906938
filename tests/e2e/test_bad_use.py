"""Bad files, bad configs and wrong usage at the training door; what serves is left alone."""

from __future__ import annotations

import dataclasses
import re
import zipfile
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from demand.schema.columns import TARGET
from tests.e2e.door import Door, Run
from tests.e2e.installation import Installation, answer

pytestmark = pytest.mark.e2e

LINES_MAX = 8


@dataclasses.dataclass
class Told:
    """What a run said that was refused."""

    status: int
    message: str


@pytest.fixture
def refuse(serving: Installation, door: Door) -> Callable[..., Told]:
    """Return a run of the pipeline that must be refused and change nothing that serves."""

    def refuse(data: Path, config: Path | None = None) -> Told:
        before = serving.status()
        asked = answer(before["endpoint"])
        run: Run = door.start(serving, "--quiet", data=data, config=config)
        told = Told(run.wait(), run.printed)
        assert "Traceback" not in told.message
        assert told.message.startswith("error: " if told.status == 1 else "stopped: ")
        assert len(re.findall(r"^(?:error|stopped): ", told.message, re.MULTILINE)) == 1
        assert told.message.count("\n") <= LINES_MAX
        assert serving.status() == before
        assert answer(before["endpoint"]) == asked
        return told

    return refuse


@pytest.fixture
def ads(demo_ads: Path) -> pd.DataFrame:
    """Return some of the good ads as text, to be spoiled."""
    return pd.read_csv(demo_ads, dtype=str, keep_default_na=False).head(600)


def written(frame: pd.DataFrame, folder: Path) -> Path:
    path = folder / "bad.csv"
    frame.to_csv(path, index=False)
    return path


def cut_zip(frame: pd.DataFrame, folder: Path) -> Path:
    whole, cut = folder / "whole.zip", folder / "cut.zip"
    with zipfile.ZipFile(whole, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.write(written(frame, folder), "train.csv")
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    return cut


# One that is missed before the pipeline begins, and one that a step finds; all the others are
# tried in tests/data/test_refused_files.py.
@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda _, folder: folder / "nowhere.csv", r"there is no file .*nowhere\.csv"),
        (cut_zip, r"cut\.zip is a truncated or damaged archive"),
    ],
    ids=["absent", "cut zip"],
)
def test_a_file_that_is_no_table_of_ads_is_an_error(
    spoil: Callable[[pd.DataFrame, Path], Path],
    message: str,
    ads: pd.DataFrame,
    tmp_path: Path,
    refuse: Callable[..., Told],
) -> None:
    told = refuse(spoil(ads, tmp_path))
    assert told.status == 1
    assert re.search(message, told.message), told.message


# The other bad tables are tried in tests/validation/test_validate.py.
def test_a_bad_table_is_refused_by_the_data_gate(
    ads: pd.DataFrame, tmp_path: Path, serving: Installation, refuse: Callable[..., Told]
) -> None:
    ads.loc[: len(ads) // 5, "price"] = "дорого"
    told = refuse(written(ads, tmp_path))
    assert told.status == 2
    assert not (serving.reports / "metrics.json").exists()
    assert told.message.startswith("stopped: the data gate said no: ")
    assert told.message.endswith("what was serving still serves\n")
    assert re.search(r"price.*дорого", told.message)


def test_a_few_bad_rows_are_put_aside_and_the_rest_is_trained_on(
    serving: Installation, demo_ads: Path, tmp_path: Path, door: Door
) -> None:
    ads = pd.read_csv(demo_ads, dtype=str, keep_default_na=False)
    ads.loc[0, "price"] = "дорого"
    ads.loc[1, TARGET] = "7"
    run = door.start(serving, "--no-deploy", data=written(ads, tmp_path))
    assert run.wait() in (0, 2), run.printed
    quarantine = pd.read_csv(serving.reports / "quarantine.csv", dtype=str)
    assert quarantine["column"].tolist() == ["price", TARGET]
    metrics = serving.metrics()
    rows = [metrics[f"rows_{part}"] for part in ("train", "validation", "test")]
    assert sum(rows) == len(ads) - 2


# Other wrong configs are tried in tests/test_config.py.
def test_a_wrong_config_is_an_error_that_names_the_key_before_anything_is_touched(
    serving: Installation, tmp_path: Path, door: Door
) -> None:
    config = tmp_path / "wrong.yaml"
    config.write_text("gate:\n  rmse_treshold: 0.2\n", encoding="utf-8")
    metrics = serving.metrics()
    run = door.start(serving, config=config)
    assert run.wait() == 1
    assert run.printed.startswith("error: ")
    assert "gate.rmse_treshold" in run.printed
    assert "did you mean 'rmse_threshold'" in run.printed
    assert "Traceback" not in run.printed
    assert run.printed.count("\n") <= LINES_MAX
    assert serving.metrics() == metrics
