from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from demand.features.builder import Features
from demand.features.columns import AdColumns
from demand.forward import forward, quantise, serving_weights
from demand.network import HEADS, DemandNetwork
from tests.ads_factory import make_ads
from tests.tiny_model import FEATURES, tiny_features


@pytest.fixture(scope="module")
def features() -> Features:
    return tiny_features().builder.transform(AdColumns.from_frame(make_ads(60, seed=5)))


def network(hidden: list[int]) -> DemandNetwork:
    """Return a network of which no weight is zero."""
    torch.manual_seed(3)
    width = tiny_features().builder.width
    made = DemandNetwork(FEATURES.buckets, width, hidden=hidden, dropout=0.4, prior=0.2)
    for parameter in made.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return made.eval()


@pytest.mark.parametrize("hidden", [[1], [8], [8, 4], [8, 4, 2]])
def test_numpy_gives_the_answers_of_torch(hidden: list[int], features: Features) -> None:
    made = network(hidden)
    sparse = features.sparse
    with torch.no_grad():
        logits = made(
            torch.from_numpy(sparse.buckets),
            torch.from_numpy(sparse.weights),
            torch.from_numpy(sparse.starts[:-1]),
            torch.from_numpy(features.dense),
        )
    answers = forward(serving_weights(made.state_dict(), HEADS), features)
    assert answers.std() > 0.01
    np.testing.assert_allclose(answers, torch.sigmoid(logits[:, 0]), rtol=0, atol=1e-6)


def test_serving_keeps_the_first_head() -> None:
    state = {name: value.numpy() for name, value in network([8, 4]).state_dict().items()}
    kept = serving_weights(state, HEADS)
    np.testing.assert_array_equal(kept["table"][:, 0], state["table"][:, 0])
    np.testing.assert_array_equal(kept["table"][:, 1:], state["table"][:, HEADS:])
    for name in ("wide", "deep.1"):
        np.testing.assert_array_equal(kept[f"{name}.weight"], state[f"{name}.weight"][:1])
        np.testing.assert_array_equal(kept[f"{name}.bias"], state[f"{name}.bias"][:1])
    np.testing.assert_array_equal(kept["deep.0.weight"], state["deep.0.weight"])
    np.testing.assert_array_equal(kept["first.weight"], state["first.weight"])


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(("bias", "answer"), [(1e4, 1.0), (-1e4, 0.0), (3e38, 1.0), (-3e38, 0.0)])
def test_huge_logits_do_not_overflow(bias: float, answer: float, features: Features) -> None:
    weights = serving_weights(network([4]).state_dict(), HEADS)
    weights["wide.bias"] = np.array([bias], dtype=np.float32)
    np.testing.assert_array_equal(forward(weights, features), answer)


@given(
    arrays(
        np.float32,
        array_shapes(min_dims=2, max_dims=2, max_side=6),
        elements=st.floats(-100, 100, width=32),
    )
)
def test_rounding_to_eight_bits_is_off_by_half_a_step_at_most(table: np.ndarray) -> None:
    rounded, scale = quantise(table)
    assert (rounded.dtype, scale.dtype, scale.shape) == (np.int8, np.float32, table.shape[1:])
    assert np.abs(rounded.astype(np.int16)).max() <= 127
    assert (np.abs(rounded * scale - table) <= 0.5001 * scale + 1e-12).all()
    np.testing.assert_allclose(scale, np.abs(table).max(axis=0) / 127, rtol=1e-6, atol=1e-13)


def test_a_column_of_zeros_stays_zero() -> None:
    rounded, scale = quantise(np.zeros((3, 2), dtype=np.float32))
    assert (rounded * scale == 0).all()
