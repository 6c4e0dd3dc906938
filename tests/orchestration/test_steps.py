from __future__ import annotations

import shutil
import tempfile
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import numpy as np
import pandas as pd
import pytest

from demand.data.lineage import code_fingerprint
from demand.data.typed import TypedAds
from demand.errors import ModelError
from demand.features.feature_set import FeatureSet
from demand.model.predictor import Predictor
from demand.schema.columns import TARGET
from orchestration import steps
from orchestration.steps import (
    CACHED,
    FeatureSetMaterializer,
    PredictorMaterializer,
    RowsMaterializer,
    TypedAdsMaterializer,
    noted,
    publish,
)
from tests.ads_factory import make_ads
from tests.tiny_model import tiny_features, tiny_predictor

ADS = make_ads(30, seed=8).drop(columns=TARGET)
STEP, RUN, VERSION = (UUID(int=number) for number in (1, 2, 3))


@pytest.fixture
def logged(monkeypatch: pytest.MonkeyPatch) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """Take what a step would log, since no step runs here."""
    kept: list[tuple[dict[str, Any], dict[str, Any]]] = []
    context = SimpleNamespace(
        step_name="train",
        pipeline_run=SimpleNamespace(id=RUN),
        step_run=SimpleNamespace(id=STEP),
        model_version=SimpleNamespace(id=VERSION),
    )
    monkeypatch.setattr(steps, "get_step_context", lambda: context)
    monkeypatch.setattr(steps, "bulk_log_metadata", lambda notes, **to: kept.append((notes, to)))
    return kept


@pytest.mark.parametrize("error", [None, RuntimeError()])
def test_seconds_and_notes_are_those_of_step_run_and_model(
    logged: list[tuple[dict[str, Any], dict[str, Any]]], error: Exception | None
) -> None:
    with suppress(RuntimeError), noted() as notes:
        notes["rows"] = 7
        if error:
            raise error
    ((told, to),) = logged
    assert (told["rows"], told.keys()) == (7, {"rows", "train_seconds"})
    assert 0.0 <= told["train_seconds"] < 5.0
    assert ([each.id for each in to["step_runs"]], to["infer_models"]) == ([STEP], True)
    assert [each.id for each in to["pipeline_runs"]] == [RUN]


def test_the_cache_follows_the_code_of_the_core() -> None:
    assert CACHED.cache_func is not None
    assert code_fingerprint.__name__ in str(CACHED.cache_func)


def test_reports_are_published_with_their_folders(tmp_path: Path) -> None:
    reports, folder = tmp_path / "made", tmp_path / "read"
    (reports / "plots").mkdir(parents=True)
    (reports / "a.html").write_text("new")
    (reports / "plots" / "b.png").write_bytes(b"png")
    folder.mkdir()
    (folder / "a.html").write_text("old")
    (folder / "other.json").write_text("{}")
    publish(reports, folder)
    files = {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    assert files == {"a.html": b"new", "plots/b.png": b"png", "other.json": b"{}"}


def test_no_reports_are_published_of_nothing(tmp_path: Path) -> None:
    publish(tmp_path / "absent", tmp_path / "read")
    assert not (tmp_path / "read").exists()


def test_a_predictor_comes_back_with_the_same_answers(tmp_path: Path) -> None:
    PredictorMaterializer(uri=str(tmp_path)).save(tiny_predictor())
    again = PredictorMaterializer(uri=str(tmp_path)).load(Predictor)
    assert again.predict(ADS).tobytes() == tiny_predictor().predict(ADS).tobytes()


def test_features_come_back_as_they_were(tmp_path: Path) -> None:
    FeatureSetMaterializer(uri=str(tmp_path)).save(tiny_features())
    again = FeatureSetMaterializer(uri=str(tmp_path)).load(FeatureSet)
    assert again.builder.settings == tiny_features().builder.settings
    kept = again.to_arrays()
    for name, array in tiny_features().to_arrays().items():
        np.testing.assert_array_equal(kept[name], array)
        assert kept[name].dtype == array.dtype


def test_typed_ads_are_read_where_a_local_store_has_them(tmp_path: Path) -> None:
    ads = TypedAds.write(tmp_path / "read.parquet", [ADS])
    (tmp_path / "store").mkdir()
    TypedAdsMaterializer(uri=str(tmp_path / "store")).save(ads)
    ads.path.unlink()
    again = TypedAdsMaterializer(uri=str(tmp_path / "store")).load(TypedAds)
    assert again.path.parent == tmp_path / "store"
    pd.testing.assert_frame_equal(again.frame(), ADS)


def test_typed_ads_are_copied_from_a_store_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    ads = TypedAds.write(tmp_path / "ads.parquet", [ADS])
    bucket = {"s3://bucket/ads.parquet": ads.path}
    monkeypatch.setattr(
        steps.fileio, "copy", lambda source, copy: shutil.copyfile(bucket[source], copy)
    )
    again = TypedAdsMaterializer(uri="s3://bucket").load(TypedAds)
    assert again.path.is_relative_to(tmp_path / "temporary")
    pd.testing.assert_frame_equal(again.frame(), ADS)


def test_numbers_of_rows_come_back_as_they_were(tmp_path: Path) -> None:
    for rows in (np.array([3, 5, 8]), np.arange(0)):
        RowsMaterializer(uri=str(tmp_path)).save(rows)
        again = RowsMaterializer(uri=str(tmp_path)).load(np.ndarray)
        assert (again.tolist(), again.dtype) == (rows.tolist(), np.int64)


def test_no_artifact_is_a_pickle(tmp_path: Path) -> None:
    RowsMaterializer(uri=str(tmp_path)).save(np.arange(3))
    PredictorMaterializer(uri=str(tmp_path / "p")).save(tiny_predictor())
    (tmp_path / "f").mkdir()
    FeatureSetMaterializer(uri=str(tmp_path / "f")).save(tiny_features())
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert {path.suffix for path in files} == {".json", ".safetensors"}


def test_an_artifact_that_is_gone_is_an_error(tmp_path: Path) -> None:
    with pytest.raises((ModelError, OSError)):
        PredictorMaterializer(uri=str(tmp_path)).load(Predictor)
