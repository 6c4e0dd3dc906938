from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from numpy.typing import NDArray

from demand.features.builder import FeatureBuilder, Features
from demand.features.encoding import AdColumns
from demand.features.feature_set import build_features
from demand.model.network import DemandNetwork, Wide
from demand.model.predictor import Inference
from tests.ads_factory import make_ads
from tests.tiny_model import FEATURES

TEXTS = [
    {"title": "", "description": None},
    {"title": "шкаф", "description": ""},
    {"title": None, "description": "стол " * 60},
]


@cache
def fitted() -> tuple[FeatureBuilder, Features]:
    """Return a fitted builder, and ads of which some have no words and some too many."""
    ads = make_ads(60, seed=5)
    ads = pd.concat([ads, *(ads.head(1).assign(**texts) for texts in TEXTS)], ignore_index=True)
    builder = build_features(make_ads(200), None, FEATURES, seed=1).builder
    return builder, builder.transform(AdColumns.from_frame(ads))


def network(hidden: list[int]) -> DemandNetwork:
    """Return a network of which no weight is zero."""
    torch.manual_seed(3)
    made = DemandNetwork(fitted()[0].width, hidden=hidden, dropout=0.4)
    for parameter in made.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return made.eval()


def weights_of(made: DemandNetwork, wide: Wide) -> dict[str, NDArray[Any]]:
    state = {name: value.numpy() for name, value in made.state_dict().items()}
    return state | {"wide.table": wide.table, "wide.bias": np.array([wide.bias])}


def wide() -> Wide:
    table = np.random.default_rng(0).normal(scale=0.3, size=FEATURES.buckets)
    return Wide(table.astype(np.float32), -0.7)


@pytest.mark.parametrize("hidden", [[1], [8], [8, 4], [8, 4, 2]])
def test_numpy_gives_the_answers_of_torch(hidden: list[int]) -> None:
    made, features = network(hidden), fitted()[1]
    with torch.no_grad():
        logits = made(
            torch.from_numpy(features.dense),
            torch.from_numpy(wide().logits(features.sparse)).float(),
        )
    answers = Inference(weights_of(made, wide()))(features)
    assert answers.dtype == np.float64
    assert answers.std() > 0.01
    np.testing.assert_allclose(answers, torch.sigmoid(logits), rtol=0, atol=1e-6)


@pytest.mark.parametrize("hidden", [[1], [8], [33, 17], [8, 4, 2]])
def test_compiled_layers_give_what_matrices_do(hidden: list[int]) -> None:
    weights, features = weights_of(network(hidden), wide()), fitted()[1]
    x = features.dense.astype(np.float64)
    for layer in range(len(hidden) + 1):
        x = np.maximum(x, 0.0) if layer else x
        x = x @ weights[f"deep.{layer}.weight"].T + weights[f"deep.{layer}.bias"]
    expected = 1.0 / (1.0 + np.exp(-wide().logits(features.sparse) - x[:, 0]))
    np.testing.assert_allclose(Inference(weights)(features), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("hidden", [[8], [8, 4]])
def test_the_answer_to_an_ad_does_not_depend_on_its_neighbours(hidden: list[int]) -> None:
    builder, _ = fitted()
    forward = Inference(weights_of(network(hidden), wide()))
    ads = AdColumns.from_frame(make_ads(20, seed=5))
    together = forward(builder.transform(ads))
    alone = [forward(builder.transform(ads.part(slice(n, n + 1))))[0] for n in range(20)]
    np.testing.assert_array_equal(alone, together)


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("deep.0.weight", (8, 3)),
        ("deep.0.bias", (7,)),
        ("deep.1.weight", (4, 7)),
        ("deep.1.bias", (4, 1)),
        ("deep.2.bias", (2,)),
    ],
)
def test_weights_that_do_not_fit_together_are_an_error(name: str, shape: tuple[int, ...]) -> None:
    weights = weights_of(network([8, 4]), wide()) | {name: np.zeros(shape, np.float32)}
    with pytest.raises(ValueError, match=r"deep\.|features"):
        Inference(weights)(fitted()[1])


def test_a_network_without_an_end_is_an_error() -> None:
    weights = weights_of(network([8, 4]), wide())
    del weights["deep.2.weight"], weights["deep.2.bias"]
    with pytest.raises(ValueError, match="the last layer has 4 outputs"):
        Inference(weights)


def test_every_weight_matters() -> None:
    weights, features = weights_of(network([8, 4]), wide()), fitted()[1]
    before = Inference(weights)(features)
    for name, weight in weights.items():
        assert (Inference(weights | {name: weight * 0.5})(features) != before).any(), name


def test_a_deep_path_that_adds_nothing_leaves_the_wide_one() -> None:
    features = fitted()[1]
    weights = weights_of(network([4]), wide())
    weights |= {"deep.1.weight": np.zeros((1, 4)), "deep.1.bias": np.zeros(1)}
    expected = 1.0 / (1.0 + np.exp(-wide().logits(features.sparse)))
    np.testing.assert_allclose(Inference(weights)(features), expected, rtol=1e-12)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(("bias", "answer"), [(1e4, 1.0), (-1e4, 0.0), (3e38, 1.0), (-3e38, 0.0)])
def test_huge_logits_do_not_overflow(bias: float, answer: float) -> None:
    weights = weights_of(network([4]), wide()) | {"wide.bias": np.array([bias])}
    np.testing.assert_array_equal(Inference(weights)(fitted()[1]), answer)
