from __future__ import annotations

from typing import Literal

import numpy as np
import pytest
import torch

from demand.config import TrainingSettings
from demand.errors import ConfigError
from demand.features.feature_set import build_features
from demand.features.training_ads import TrainingAds
from demand.model.devices import deterministic
from demand.model.training import train
from tests.ads_factory import make_ads
from tests.tiny_model import FEATURES, TRAINING

UNSEEN = make_ads(80, seed=6)
FOUND = torch.cuda.is_available()
Asked = Literal["auto", "cpu", "cuda"]


@pytest.mark.parametrize(
    ("asked", "kind"), [("cpu", "cpu"), ("auto", "cuda" if FOUND else "cpu")], ids=["cpu", "auto"]
)
def test_the_device_is_the_one_that_was_asked_for(asked: Asked, kind: str) -> None:
    with deterministic(1, TrainingSettings(device=asked)) as device:
        assert device.type == kind


@pytest.mark.skipif(FOUND, reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_an_error_that_names_the_setting() -> None:
    with (
        pytest.raises(ConfigError, match=r"training\.device is cuda, .* say cpu, or auto"),
        deterministic(1, TrainingSettings(device="cuda")),
    ):
        pass


@pytest.mark.skipif(not FOUND, reason="needs a GPU")
@pytest.mark.parametrize("crosses", [False, True])
def test_a_gpu_learns_what_the_processor_does(crosses: bool) -> None:
    known = TrainingAds(make_ads(1000))
    features = FEATURES.model_copy(update={"crosses": crosses, "cross_buckets": 4096})
    built = build_features(known, make_ads(200, seed=3), features, 1)
    # What is silenced at random differs from device to device.
    settings = TRAINING.model_copy(update={"dropout": 0.0})
    answers = [
        train(
            built, settings.model_copy(update={"device": device}), 1, ads=known
        ).predictor.predict(UNSEEN)
        for device in ("cpu", "cuda", "cuda")
    ]
    np.testing.assert_allclose(answers[1], answers[0], atol=1e-3)
    np.testing.assert_array_equal(answers[2], answers[1])
