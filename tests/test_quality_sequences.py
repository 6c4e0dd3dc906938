from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch

from benchmarks.models.folds import cross_validate, seller_folds
from benchmarks.models.ours import (
    BUCKETS,
    EMBEDDING,
    ENCODERS,
    PADDING,
    WORDS_MAX,
    SequenceModel,
    features_without_texts,
    our_entries,
    word_sequences,
)
from benchmarks.quality import chosen_entries
from demand.config import TrainingConfig
from demand.features.encoding import BLOCK, AdColumns
from demand.schema.columns import TARGET
from tests.ads_factory import make_ads
from tests.tiny_model import FEATURES, TRAINING, tiny_features

CONFIG = TrainingConfig(features=FEATURES, training=TRAINING)
BUILDER = tiny_features().builder


def sequences(*ads: tuple[str | None, str | None]) -> np.ndarray:
    return word_sequences(
        BUILDER, AdColumns.from_frame(pd.DataFrame(ads, columns=["title", "description"]))
    )


def test_words_stand_in_the_order_of_title_and_description() -> None:
    found = sequences(("а б", "в г а"), ("в", "а"), ("в", None))
    assert found.shape == (3, WORDS_MAX)
    a, b, c, d, again = found[0, :5]
    assert len({a, b, c, d}) == 4
    assert again == a
    assert (found[0, 5:] == PADDING).all()
    assert found[1].tolist() == [c, a, *[PADDING] * (WORDS_MAX - 2)]
    assert found[2].tolist() == [c, *[PADDING] * (WORDS_MAX - 1)]


def test_an_ad_without_words_is_padding() -> None:
    assert (sequences((None, None), ("а", None), ("", "—"))[[0, 2]] == PADDING).all()


def test_words_behind_the_last_that_is_read_change_nothing() -> None:
    words = " ".join(f"с{n}" for n in range(WORDS_MAX))
    np.testing.assert_array_equal(sequences((words, "ещё")), sequences((words, None)))


def test_buckets_are_in_their_range_and_no_word_is_padding() -> None:
    found = sequences(*((f"слово{n}", None) for n in range(BLOCK + 1)))[:, 0]
    assert 0 < found.min() < found.max() < BUCKETS


def test_the_wide_path_gets_no_words_of_title_and_description() -> None:
    ads = AdColumns.from_frame(make_ads(30))
    sparse, dense = features_without_texts(BUILDER, ads)
    whole = BUILDER.transform(ads)
    np.testing.assert_array_equal(dense, whole.dense)
    assert 0 < len(sparse.row) < len(whole.sparse.row) / 2
    other = make_ads(30).assign(title=lambda ad: ad["title"].str.replace(r"\w", "ы", regex=True))
    changed, _ = features_without_texts(BUILDER, AdColumns.from_frame(other))
    np.testing.assert_array_equal(changed.bucket, sparse.bucket)


@pytest.fixture(params=ENCODERS)
def encoder(request: pytest.FixtureRequest) -> torch.nn.Module:
    torch.manual_seed(1)
    made = ENCODERS[request.param]()
    for parameter in made.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return made


def test_a_text_without_words_is_zeros(encoder: torch.nn.Module) -> None:
    read = encoder(torch.tensor([[PADDING] * 3, [3, 1, PADDING]]))
    assert read.shape == (2, EMBEDDING)
    assert (read[0] == 0).all()
    assert (read[1] != 0).all()


def test_padding_and_neighbours_change_nothing(encoder: torch.nn.Module) -> None:
    together = encoder(torch.tensor([[3, 1, 8, PADDING], [2, PADDING, PADDING, PADDING]]))
    torch.testing.assert_close(encoder(torch.tensor([[3, 1, 8]]))[0], together[0])


@pytest.mark.parametrize(("name", "differs"), [("gru", True), ("attention", False)])
def test_only_the_gru_sees_the_order(name: str, differs: bool) -> None:
    torch.manual_seed(1)
    one, other = ENCODERS[name]()(torch.tensor([[3, 1, 8], [8, 1, 3]]))
    assert bool((one - other).abs().max() > 1e-3) == differs


@pytest.mark.parametrize("name", ENCODERS)
def test_the_same_seed_learns_the_same_and_another_something_else(name: str) -> None:
    ads, unseen = make_ads(300), make_ads(40, seed=2).drop(columns=TARGET)
    one, same, other = (
        SequenceModel(CONFIG, name, seed).fit(ads).predict(unseen) for seed in (1, 1, 2)
    )
    assert ((one > 0) & (one < 1)).all()
    assert one.std() > 0.001
    np.testing.assert_array_equal(one, same)
    assert (one != other).any()


@pytest.mark.parametrize("name", ENCODERS)
def test_an_encoder_is_a_line_of_the_comparison(name: str) -> None:
    ads = make_ads(300)
    (entry,) = chosen_entries(our_entries(CONFIG), f"ours-{name}")
    fold = seller_folds(ads["user_id"], 2, 0)
    (outcome,) = cross_validate([entry], ads, fold)
    assert outcome.predicted.shape == (1, len(ads))
    train, test = ads[fold != 0].reset_index(drop=True), ads[fold == 0].drop(columns=TARGET)
    alone = SequenceModel(CONFIG, name, 42).fit(train).predict(test)
    np.testing.assert_array_equal(outcome.predicted[0, fold == 0], alone)
