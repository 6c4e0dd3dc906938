from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from demand.config import OnePassSettings, TrainingSettings
from demand.data.typed import TypedAds
from demand.errors import ModelError
from demand.features.feature_set import build_features
from demand.features.training_ads import TrainingAds
from demand.model.predictor import Predictor
from demand.model.training import Training, refit, train
from demand.progress import Epoch
from demand.schema.columns import TARGET
from tests.ads_factory import make_ads
from tests.tiny_model import FEATURES

CROSSED = FEATURES.model_copy(update={"crosses": True, "cross_buckets": 4096})
SMALL = OnePassSettings(hidden=[8], batch_size=32, wide_learning_rate=0.2)
SETTINGS = TrainingSettings(one_pass=SMALL)
UNSEEN = make_ads(80, seed=6)


def told_by_two_words(rows: int, seed: int) -> pd.DataFrame:
    """Ads that sell where the title's words go together, and neither word says so alone."""
    rng = np.random.default_rng(seed)
    first, second = rng.integers(0, 2, (2, rows))
    ads = make_ads(rows, seed=seed)
    ads["title"] = [
        f"{['красный', 'синий'][a]} {['стол', 'стул'][b]}"
        for a, b in zip(first, second, strict=True)
    ]
    ads["user_id"] = [f"seller {seed} {n}" for n in range(rows)]
    return ads.assign(**{TARGET: np.where(first == second, 0.8, 0.1)})


def fit(ads: pd.DataFrame, validation: pd.DataFrame | None = None, seed: int = 1) -> Training:
    known = TrainingAds(ads)
    return train(build_features(known, validation, CROSSED, seed), SETTINGS, seed, ads=known)


@cache
def trained() -> Training:
    return fit(told_by_two_words(1500, 1), told_by_two_words(300, 2))


def test_what_only_two_words_together_say_is_learnt() -> None:
    others = told_by_two_words(300, 3)
    error = trained().predictor.predict(others) - others[TARGET]
    assert np.sqrt(np.mean(error**2)) < 0.1 < others[TARGET].std()


def test_each_ad_is_learnt_from_once_and_the_validation_ads_measure() -> None:
    (epoch,) = trained().epochs
    assert trained().best_epoch == epoch.epoch == 1
    others = told_by_two_words(300, 2)
    answers = trained().predictor.predict(others)
    # The answers are those of the weights as they are kept, rounded.
    error = np.sqrt(np.mean((answers - others[TARGET]) ** 2))
    assert epoch.validation_rmse == pytest.approx(error, abs=0.01)


def test_the_same_seed_gives_the_same_bits_from_memory() -> None:
    one, other = (fit(make_ads(300)).predictor.predict(UNSEEN) for _ in range(2))
    assert one.tobytes() == other.tobytes()
    assert (fit(make_ads(300), seed=2).predictor.predict(UNSEEN) != one).any()


def test_a_saved_model_answers_as_before(tmp_path: Path) -> None:
    trained().predictor.save(tmp_path / "model")
    again = Predictor.load(tmp_path / "model")
    assert again.features.crosses
    expected = trained().predictor.predict(UNSEEN)
    assert again.predict(UNSEEN).tobytes() == expected.tobytes()


def test_no_more_weights_are_kept_than_asked_for() -> None:
    few = SETTINGS.model_copy(update={"one_pass": SMALL.model_copy(update={"wide_weights": 50})})
    known = TrainingAds(make_ads(300))
    predictor = train(build_features(known, None, CROSSED, 1), few, 1, ads=known).predictor
    assert predictor.size_bytes < fit(make_ads(300)).predictor.size_bytes


def test_a_refit_is_of_the_kind_that_was_judged() -> None:
    seen: list[Epoch] = []
    again = refit(make_ads(300), 1, trained().predictor.features, SETTINGS, 1, seen.append)
    assert again.features.crosses
    assert [epoch.epoch for epoch in seen] == [1]


def test_the_number_of_ads_decides_where_the_settings_do_not() -> None:
    open_settings = CROSSED.model_copy(update={"crosses": None, "crosses_rows_min": 200})
    for rows, crosses in ((199, False), (200, True)):
        built = build_features(make_ads(rows), None, open_settings, 1)
        assert built.builder.settings.crosses is crosses
        assert (len(built.training.features.sparse.row) == 0) is crosses


def test_a_step_that_is_too_long_is_an_error_that_names_the_setting() -> None:
    wild = SMALL.model_copy(update={"learning_rate": 1e30})
    known = TrainingAds(make_ads(300))
    built = build_features(known, None, CROSSED, 1)
    with pytest.raises(ModelError, match=r"training\.one_pass\.learning_rate, which is 1e\+30"):
        train(built, SETTINGS.model_copy(update={"one_pass": wild}), 1, ads=known)


def test_without_the_ads_there_is_nothing_to_learn_from() -> None:
    with pytest.raises(ValueError, match="the ads themselves"):
        train(build_features(make_ads(100), None, CROSSED, 1), SETTINGS, 1)


@pytest.fixture
def in_a_file(tmp_path: Path) -> TrainingAds:
    return TrainingAds(TypedAds.write(tmp_path / "ads.parquet", [told_by_two_words(1500, 1)]))


def test_two_processes_learn_what_one_does(in_a_file: TrainingAds) -> None:
    held = told_by_two_words(300, 2)
    built = build_features(in_a_file, held, CROSSED, 1)
    one, two = (
        train(built, SETTINGS.model_copy(update={"processes": n}), 1, ads=in_a_file) for n in (1, 2)
    )
    assert two.epochs[0].validation_rmse == pytest.approx(one.epochs[0].validation_rmse, abs=1e-4)
    assert two.epochs[0].train_loss == pytest.approx(one.epochs[0].train_loss, abs=1e-4)
    answers = (trained.predictor.predict(UNSEEN) for trained in (one, two))
    np.testing.assert_allclose(*answers, atol=1e-3)


def test_a_process_that_fails_is_an_error_with_its_last_words(in_a_file: TrainingAds) -> None:
    built = build_features(in_a_file, None, CROSSED, 1)
    path, _ = in_a_file.stored()
    path.unlink()
    two = SETTINGS.model_copy(update={"processes": 2})
    with pytest.raises(ModelError, match=r"(?s)training\.processes: 1 does without.*ads\.parquet"):
        train(built, two, 1, ads=in_a_file)


def test_several_processes_need_a_file() -> None:
    known = TrainingAds(make_ads(100))
    two = SETTINGS.model_copy(update={"processes": 2})
    with pytest.raises(ValueError, match="in no file"):
        train(build_features(known, None, CROSSED, 1), two, 1, ads=known)
