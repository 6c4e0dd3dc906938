from __future__ import annotations

import doctest

import numpy as np
import pytest
import torch

import demand.network
from demand.features.sequences import PADDING
from demand.network import AttentionEncoder, DemandNetwork, GruEncoder, TextEncoder

WORDS, LENGTH, EMBEDDING = 9, 6, 4
ENCODERS: list[TextEncoder] = ["ngrams", "gru", "attention"]


def network(
    encoder: TextEncoder = "ngrams", hidden: list[int] | None = None, *, fresh: bool = False
) -> DemandNetwork:
    torch.manual_seed(0)
    made = DemandNetwork(
        3,
        hidden=hidden or [6, 4],
        dropout=0.5,
        encoder=encoder,
        words=WORDS,
        embedding=EMBEDDING,
    )
    if not fresh:
        _fill(made)
    return made


def _fill(module: torch.nn.Module) -> None:
    """Leave no weight at zero."""
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter, std=0.3)


def sequences(ads: int) -> torch.Tensor:
    """Words of texts of different lengths, the first of which has none."""
    random = np.random.default_rng(0)
    words = random.integers(1, WORDS, (ads, LENGTH))
    words[np.arange(LENGTH) >= (np.arange(ads) % (LENGTH + 1))[:, None]] = PADDING
    return torch.from_numpy(words)


def inputs(ads: int = 5) -> tuple[torch.Tensor, ...]:
    random = np.random.default_rng(0)
    return (
        torch.from_numpy(random.normal(size=(ads, 3)).astype(np.float32)),
        sequences(ads),
        torch.from_numpy(random.normal(size=ads).astype(np.float32)),
    )


def test_the_example_of_the_docstring_runs() -> None:
    assert doctest.testmod(demand.network).failed == 0


@pytest.mark.parametrize("encoder", ENCODERS)
@pytest.mark.parametrize("hidden", [[1], [6], [6, 4], [8, 4, 2]])
def test_each_ad_gets_one_logit(encoder: TextEncoder, hidden: list[int]) -> None:
    assert network(encoder, hidden)(*inputs(5)).shape == (5,)


@pytest.mark.parametrize("encoder", ENCODERS)
def test_it_starts_at_the_wide_path(encoder: TextEncoder) -> None:
    dense, words, wide = inputs()
    torch.testing.assert_close(network(encoder, fresh=True)(dense, words, wide), wide)


@pytest.mark.parametrize("encoder", ENCODERS)
def test_the_deep_path_adds_to_the_wide_one(encoder: TextEncoder) -> None:
    made = network(encoder).eval()
    dense, words, wide = inputs()
    added = made(dense, words, torch.zeros(5))
    assert (added != 0).all()
    torch.testing.assert_close(made(dense, words, wide), added + wide)


def test_dropout_is_off_in_evaluation() -> None:
    trained = network().eval()
    torch.testing.assert_close(trained(*inputs()), trained(*inputs()), rtol=0, atol=0)


def test_dropout_is_on_in_training() -> None:
    trained = network().train()
    assert (trained(*inputs()) != trained(*inputs())).any()


@pytest.mark.parametrize("encoder", ENCODERS)
def test_every_parameter_learns(encoder: TextEncoder) -> None:
    trained = network(encoder).eval()
    trained(*inputs()).sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in trained.parameters())


@pytest.mark.parametrize("encoder", ENCODERS)
def test_what_starts_at_the_wide_path_can_leave_it(encoder: TextEncoder) -> None:
    trained = network(encoder, [32, 16], fresh=True).eval()
    trained(*inputs()).sum().backward()
    last = trained.deep[-1]
    assert isinstance(last, torch.nn.Linear)
    assert last.weight.grad is not None
    assert last.weight.grad.abs().sum() > 0


@pytest.mark.parametrize("encoder", ENCODERS)
def test_an_ads_logit_does_not_depend_on_its_neighbours(encoder: TextEncoder) -> None:
    trained = network(encoder).eval()
    together = trained(*inputs(9))
    for row in range(9):
        alone = trained(*(each[row : row + 1] for each in inputs(9)))
        torch.testing.assert_close(alone[0], together[row], rtol=0, atol=1e-6)


@pytest.fixture(params=[GruEncoder, AttentionEncoder])
def reader(request: pytest.FixtureRequest) -> torch.nn.Module:
    torch.manual_seed(1)
    made: torch.nn.Module = request.param(WORDS, EMBEDDING)
    _fill(made)
    return made


def test_a_text_without_words_is_zeros(reader: torch.nn.Module) -> None:
    texts = torch.tensor([[PADDING] * LENGTH, [3, 1] + [PADDING] * (LENGTH - 2)])
    read = reader(texts)
    assert read.shape == (2, EMBEDDING)
    assert (read[0] == 0).all()
    assert (read[1] != 0).all()


def test_texts_none_of_which_has_words_are_zeros(reader: torch.nn.Module) -> None:
    assert (reader(torch.full((3, LENGTH), PADDING)) == 0).all()


def test_no_texts_at_all_can_be_read(reader: torch.nn.Module) -> None:
    assert reader(torch.zeros((0, LENGTH), dtype=torch.long)).shape == (0, EMBEDDING)


def test_padding_changes_nothing(reader: torch.nn.Module) -> None:
    short = torch.tensor([[3, 1, 8]])
    padded = torch.nn.functional.pad(short, (0, 4), value=PADDING)
    torch.testing.assert_close(reader(padded), reader(short))


@pytest.mark.parametrize(("kind", "differs"), [(GruEncoder, True), (AttentionEncoder, False)])
def test_only_the_recurrent_reader_sees_the_order(
    kind: type[torch.nn.Module], differs: bool
) -> None:
    torch.manual_seed(1)
    made = kind(WORDS, EMBEDDING)
    _fill(made)
    one, other = made(torch.tensor([[3, 1, 8], [8, 1, 3]]))
    assert bool((one - other).abs().max() > 1e-3) == differs


def test_attention_without_a_question_is_the_mean() -> None:
    made = AttentionEncoder(WORDS, EMBEDDING)
    read = made(torch.tensor([[3, 1, 8, PADDING]]))
    torch.testing.assert_close(read[0], made.table[[3, 1, 8]].mean(dim=0))


@pytest.mark.parametrize("size", [1e2, 1e4, 1e8])
def test_a_question_of_any_size_stays_finite(size: float) -> None:
    made = AttentionEncoder(WORDS, EMBEDDING)
    _fill(made)
    with torch.no_grad():
        made.question.mul_(size)
    assert torch.isfinite(made(sequences(7))).all()
