from __future__ import annotations

import doctest

import numpy as np
import pytest
import torch

import demand.network
from demand.network import HEADS, DemandNetwork


def network(prior: float = 0.14, hidden: list[int] | None = None) -> DemandNetwork:
    torch.manual_seed(0)
    return DemandNetwork(16, 3, hidden=hidden or [6, 4], dropout=0.5, prior=prior)


def inputs(ads: int = 5) -> tuple[torch.Tensor, ...]:
    random = np.random.default_rng(0)
    return (
        torch.from_numpy(random.integers(0, 16, 4 * ads)),
        torch.from_numpy(random.normal(size=4 * ads).astype(np.float32)),
        torch.arange(0, 4 * ads, 4),
        torch.from_numpy(random.normal(size=(ads, 3)).astype(np.float32)),
    )


def test_the_example_of_the_docstring_runs() -> None:
    assert doctest.testmod(demand.network).failed == 0


@pytest.mark.parametrize("hidden", [[1], [6], [6, 4], [8, 4, 2]])
def test_each_ad_gets_one_logit_a_head(hidden: list[int]) -> None:
    assert network(hidden=hidden)(*inputs(5)).shape == (5, HEADS)


@pytest.mark.parametrize("prior", [0.0, 0.14, 1.0])
def test_it_starts_at_the_prior(prior: float) -> None:
    fresh = network(prior).eval()
    for parameter in fresh.deep[-1].parameters():
        torch.nn.init.zeros_(parameter)
    answers = torch.sigmoid(fresh(*inputs()))
    np.testing.assert_allclose(answers.detach(), prior, atol=2e-4)


def test_dropout_is_off_in_evaluation() -> None:
    trained = network().eval()
    torch.testing.assert_close(trained(*inputs()), trained(*inputs()), rtol=0, atol=0)


def test_dropout_is_on_in_training() -> None:
    trained = network().train()
    assert (trained(*inputs()) != trained(*inputs())).any()


def test_every_parameter_learns() -> None:
    trained = network().eval()
    trained(*inputs()).sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in trained.parameters())


def test_an_ads_logits_do_not_depend_on_its_neighbours() -> None:
    trained = network().eval()
    buckets, weights, _, dense = inputs(5)
    alone = trained(buckets[8:12], weights[8:12], torch.tensor([0]), dense[2:3])
    torch.testing.assert_close(alone[0], trained(*inputs(5))[2], rtol=0, atol=1e-6)
