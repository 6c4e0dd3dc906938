from __future__ import annotations

import doctest

import numpy as np
import pytest
import torch

import demand.model.network
from demand.model.network import DemandNetwork


def network(hidden: list[int] | None = None, *, fresh: bool = False) -> DemandNetwork:
    torch.manual_seed(0)
    made = DemandNetwork(3, hidden=hidden or [6, 4], dropout=0.5)
    if not fresh:  # leave no weight at zero
        for parameter in made.parameters():
            torch.nn.init.normal_(parameter, std=0.3)
    return made


def inputs(ads: int = 5) -> tuple[torch.Tensor, ...]:
    random = np.random.default_rng(0)
    return (
        torch.from_numpy(random.normal(size=(ads, 3)).astype(np.float32)),
        torch.from_numpy(random.normal(size=ads).astype(np.float32)),
    )


def test_the_example_of_the_docstring_runs() -> None:
    assert doctest.testmod(demand.model.network).failed == 0


@pytest.mark.parametrize("hidden", [[1], [6], [6, 4], [8, 4, 2]])
def test_each_ad_gets_one_logit(hidden: list[int]) -> None:
    assert network(hidden)(*inputs(5)).shape == (5,)


def test_it_starts_at_the_wide_path() -> None:
    dense, wide = inputs()
    torch.testing.assert_close(network(fresh=True)(dense, wide), wide)


def test_the_deep_path_adds_to_the_wide_one() -> None:
    made = network().eval()
    dense, wide = inputs()
    added = made(dense, torch.zeros(5))
    assert (added != 0).all()
    torch.testing.assert_close(made(dense, wide), added + wide)


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


def test_what_starts_at_the_wide_path_can_leave_it() -> None:
    trained = network([32, 16], fresh=True).eval()
    trained(*inputs()).sum().backward()
    last = trained.deep[-1]
    assert isinstance(last, torch.nn.Linear)
    assert last.weight.grad is not None
    assert last.weight.grad.abs().sum() > 0


def test_an_ads_logit_does_not_depend_on_its_neighbours() -> None:
    trained = network().eval()
    together = trained(*inputs(9))
    for row in range(9):
        alone = trained(*(each[row : row + 1] for each in inputs(9)))
        torch.testing.assert_close(alone[0], together[row], rtol=0, atol=1e-6)
