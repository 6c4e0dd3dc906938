from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from demand.ads import TARGET
from demand.errors import ModelError
from demand.features.feature_set import FeatureSet
from demand.predictor import Predictor
from steps.materializers import FeatureSetMaterializer, PredictorMaterializer
from tests.ads_factory import make_ads
from tests.tiny_model import tiny_features, tiny_predictor

ADS = make_ads(30, seed=8).drop(columns=TARGET)


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


def test_no_artifact_is_a_pickle(tmp_path: Path) -> None:
    PredictorMaterializer(uri=str(tmp_path / "p")).save(tiny_predictor())
    (tmp_path / "f").mkdir()
    FeatureSetMaterializer(uri=str(tmp_path / "f")).save(tiny_features())
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert {path.suffix for path in files} == {".json", ".safetensors"}


def test_an_artifact_that_is_gone_is_an_error(tmp_path: Path) -> None:
    with pytest.raises((ModelError, OSError)):
        PredictorMaterializer(uri=str(tmp_path)).load(Predictor)
