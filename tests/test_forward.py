from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from numpy.typing import NDArray

from demand.features.builder import FeatureBuilder, Features
from demand.features.columns import AdColumns
from demand.features.feature_set import build_features
from demand.forward import forward
from demand.network import DemandNetwork, TextEncoder
from demand.wide import Wide
from tests.ads_factory import make_ads
from tests.tiny_model import FEATURES

ENCODERS: list[TextEncoder] = ["ngrams", "gru", "attention"]
TEXTS = [
    {"title": "", "description": None},
    {"title": "шкаф", "description": ""},
    {"title": None, "description": "стол " * 60},
]


@cache
def features_of(encoder: TextEncoder) -> tuple[FeatureBuilder, Features]:
    """Return a fitted builder, and ads of which some have no words and some too many."""
    settings = FEATURES.model_copy(update={"text_encoder": encoder, "sequence_buckets": 64})
    ads = make_ads(60, seed=5)
    ads = pd.concat([ads, *(ads.head(1).assign(**texts) for texts in TEXTS)], ignore_index=True)
    builder = build_features(make_ads(200), None, settings, seed=1).builder
    return builder, builder.transform(AdColumns.from_frame(ads))


def network(hidden: list[int], encoder: TextEncoder = "ngrams") -> DemandNetwork:
    """Return a network of which no weight is zero."""
    torch.manual_seed(3)
    made = DemandNetwork(
        features_of(encoder)[0].width,
        hidden=hidden,
        dropout=0.4,
        encoder=encoder,
        words=64,
        embedding=5,
    )
    for parameter in made.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return made.eval()


def weights_of(made: DemandNetwork, wide: Wide) -> dict[str, NDArray[Any]]:
    state = {name: value.numpy() for name, value in made.state_dict().items()}
    return state | {"wide.table": wide.table, "wide.bias": np.array([wide.bias])}


def wide() -> Wide:
    return Wide(np.random.default_rng(0).normal(scale=0.3, size=FEATURES.buckets), -0.7)


@pytest.mark.parametrize("encoder", ENCODERS)
@pytest.mark.parametrize("hidden", [[1], [8], [8, 4], [8, 4, 2]])
def test_numpy_gives_the_answers_of_torch(encoder: TextEncoder, hidden: list[int]) -> None:
    made, features = network(hidden, encoder), features_of(encoder)[1]
    with torch.no_grad():
        logits = made(
            torch.from_numpy(features.dense),
            torch.from_numpy(features.words),
            torch.from_numpy(wide().logits(features.sparse)).float(),
        )
    answers = forward(weights_of(made, wide()), features)
    assert answers.dtype == np.float64
    assert answers.std() > 0.01
    np.testing.assert_allclose(answers, torch.sigmoid(logits), rtol=0, atol=1e-6)


@pytest.mark.parametrize("encoder", ENCODERS)
def test_every_weight_matters(encoder: TextEncoder) -> None:
    weights, features = weights_of(network([8, 4], encoder), wide()), features_of(encoder)[1]
    before = forward(weights, features)
    for name, weight in weights.items():
        assert (forward(weights | {name: weight * 0.5}, features) != before).any(), name


@pytest.mark.parametrize("encoder", ENCODERS)
def test_a_deep_path_that_adds_nothing_leaves_the_wide_one(encoder: TextEncoder) -> None:
    features = features_of(encoder)[1]
    weights = weights_of(network([4], encoder), wide())
    weights |= {"deep.1.weight": np.zeros((1, 4)), "deep.1.bias": np.zeros(1)}
    expected = 1.0 / (1.0 + np.exp(-wide().logits(features.sparse)))
    np.testing.assert_allclose(forward(weights, features), expected, rtol=1e-12)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("encoder", ENCODERS)
@pytest.mark.parametrize(("bias", "answer"), [(1e4, 1.0), (-1e4, 0.0), (3e38, 1.0), (-3e38, 0.0)])
def test_huge_logits_do_not_overflow(encoder: TextEncoder, bias: float, answer: float) -> None:
    weights = weights_of(network([4], encoder), wide()) | {"wide.bias": np.array([bias])}
    np.testing.assert_array_equal(forward(weights, features_of(encoder)[1]), answer)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("encoder", ["gru", "attention"])
def test_huge_weights_of_an_encoder_do_not_overflow(encoder: TextEncoder) -> None:
    weights = weights_of(network([4], encoder), wide())
    huge = {k: v * 1e4 for k, v in weights.items() if k.startswith("encoder")}
    assert np.isfinite(forward(weights | huge, features_of(encoder)[1])).all()
