"""Bad files, bad configs and wrong usage at the training door; what serves is left alone."""

from __future__ import annotations

import dataclasses
import os
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


def written(frame: pd.DataFrame, folder: Path, **options: object) -> Path:
    path = folder / "bad.csv"
    frame.to_csv(path, index=False, **options)
    return path


def cut_zip(frame: pd.DataFrame, folder: Path) -> Path:
    whole, cut = folder / "whole.zip", folder / "cut.zip"
    with zipfile.ZipFile(whole, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.write(written(frame, folder), "train.csv")
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    return cut


def raw(content: bytes, folder: Path) -> Path:
    path = folder / "bad.csv"
    path.write_bytes(content)
    return path


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda _, folder: folder / "nowhere.csv", r"there is no file .*nowhere\.csv"),
        (lambda _, folder: folder, r"is a directory"),
        (lambda _, folder: raw(b"", folder), r"is empty"),
        (lambda _, folder: raw(b"\x89PNG\r\n\x1a\n" + bytes(99), folder), r"is a binary file"),
        (lambda ads, folder: written(ads, folder, sep=";"), r"separated by semicolons"),
        (lambda ads, folder: written(ads, folder, encoding="cp1251", errors="replace"), r"cp1251"),
        (lambda ads, folder: written(ads.drop(columns="price"), folder), r"lacks 1 .*: price;"),
        (cut_zip, r"cut\.zip is a truncated or damaged archive"),
    ],
    ids=["absent", "folder", "empty", "binary", "semicolons", "cp1251", "no price", "cut zip"],
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


def with_values(column: str, value: str, share: float) -> Callable[[pd.DataFrame], pd.DataFrame]:
    def spoil(ads: pd.DataFrame) -> pd.DataFrame:
        ads.loc[: int(len(ads) * share) - 1, column] = value
        return ads

    return spoil


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (with_values("price", "дорого", 0.2), r"price.*дорого"),
        (with_values(TARGET, "1.5", 0.2), rf"{TARGET}.*1\.5"),
        (with_values("item_id", "same", 0.2), r"item_id.*same"),
        (with_values("description", "", 1.0), r"description"),
        (with_values("category_name", "Космолёты", 0.2), r"category_name.*Космолёты"),
        (lambda ads: ads.head(1), r"1 "),
    ],
    ids=[
        "text prices",
        "targets above one",
        "duplicate ids",
        "no description at all",
        "unknown category",
        "one row",
    ],
)
def test_a_bad_table_is_refused_by_the_data_gate(
    spoil: Callable[[pd.DataFrame], pd.DataFrame],
    message: str,
    ads: pd.DataFrame,
    tmp_path: Path,
    serving: Installation,
    refuse: Callable[..., Told],
) -> None:
    told = refuse(written(spoil(ads), tmp_path))
    assert told.status == 2
    assert not (serving.reports / "metrics.json").exists()
    assert told.message.startswith("stopped: the data gate said no: ")
    assert told.message.endswith("what was serving still serves\n")
    assert re.search(message, told.message, re.DOTALL), told.message


def test_ads_of_one_category_stop_where_the_config_says_so(
    serving: Installation, ads: pd.DataFrame, tmp_path: Path, refuse: Callable[..., Told]
) -> None:
    config = serving.write_config("stop.yaml", validation={"on_drift": "stop"})
    one = ads.assign(
        category_name="Квартиры", parent_category_name="Недвижимость", param_1="Продам"
    )
    told = refuse(written(one, tmp_path), config)
    assert told.status == 2
    assert "category_name" in told.message


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


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("gate:\n  rmse_treshold: 0.2\n", r"gate\.rmse_treshold: .*did you mean 'rmse_threshold'"),
        ('gate:\n  rmse_threshold: "0,25"\n', r"gate\.rmse_threshold: .*'0,25'"),
        ("gate:\n  rmse_threshold: 0,25\n", r"gate\.rmse_threshold"),
        ("gate: [\n", r"is not valid YAML"),
        ("- a\n", r"must hold sections, not a list"),
        ("gate:\n  rmse_threshold: .nan\n", r"gate\.rmse_threshold"),
        ("checks:\n  critical: [no_such_check]\n", r"no_such_check"),
    ],
)
def test_a_wrong_config_is_an_error_that_names_the_key(
    text: str, message: str, demo_ads: Path, tmp_path: Path, refuse_config: Callable[..., Told]
) -> None:
    config = tmp_path / "wrong.yaml"
    config.write_text(text, encoding="utf-8")
    told = refuse_config(config)
    assert re.search(message, told.message), told.message


@pytest.fixture
def refuse_config(serving: Installation, door: Door) -> Callable[[Path], Told]:
    """Return a run that must end before anything is touched."""

    def refuse(config: Path) -> Told:
        run = door.start(serving, config=config)
        told = Told(run.wait(), run.printed)
        assert told.status == 1
        assert told.message.startswith("error: ")
        assert "Traceback" not in told.message
        assert told.message.count("\n") <= LINES_MAX
        return told

    return refuse


def test_a_config_that_cannot_be_read_is_an_error(
    tmp_path: Path, refuse_config: Callable[[Path], Told]
) -> None:
    assert "cannot read the config" in refuse_config(tmp_path / "nowhere.yaml").message
    (tmp_path / "binary.yaml").write_bytes(os.urandom(8) + b"\xff\xfe\x00")
    assert "is not valid YAML" in refuse_config(tmp_path / "binary.yaml").message


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "--pipeline"),
        (["--pipeline", "trainin"], "trainin"),
        (["--pipeline", "training", "--date", "x"], "--date"),
        (["--pipeline", "training", "--data"], "--data"),
    ],
)
def test_wrong_usage_ends_with_64(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    import run

    with pytest.raises(SystemExit) as ended:
        run.main(arguments)
    assert ended.value.code == 64
    told = capsys.readouterr().err
    assert message in told
    assert "usage" in told.lower()
