from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from demand.config import TrainingSettings
from demand.errors import ModelError
from demand.features.feature_set import build_features
from demand.model.predictor import Predictor
from demand.model.training import Training, train
from demand.progress import Epoch
from tests.ads_factory import make_ads
from tests.tiny_model import (
    FEATURES,
    TRAINING,
    tiny_features,
    tiny_training,
)

UNSEEN = make_ads(80, seed=6)


def fit(
    seed: int = 1, on_epoch: Any = None, epochs: int | None = None, **settings: Any
) -> Training:
    chosen = TRAINING.model_copy(update=settings)
    return train(tiny_features(), chosen, seed, on_epoch, epochs=epochs)


def rmse_of(predictor: Predictor) -> float:
    """RMSE on the validation ads, of which only the features are left."""
    features = tiny_features()
    assert features.validation is not None
    answers = predictor.infer(features.validation.features)
    return float(np.sqrt(np.mean((answers - features.validation.target) ** 2)))


def test_the_same_seed_gives_the_same_bits() -> None:
    one, other = fit().predictor, fit().predictor
    assert one.predict(UNSEEN).tobytes() == other.predict(UNSEEN).tobytes()


def test_what_happened_before_does_not_matter() -> None:
    expected = fit().predictor.predict(UNSEEN)
    torch.rand(7)
    assert fit().predictor.predict(UNSEEN).tobytes() == expected.tobytes()


def test_another_seed_gives_another_model() -> None:
    assert (fit(1).predictor.predict(UNSEEN) != fit(2).predictor.predict(UNSEEN)).any()


def test_training_makes_the_loss_smaller() -> None:
    losses = [epoch.train_loss for epoch in fit(epochs_max=6, dropout=0.0).epochs]
    assert losses[-1] < losses[0]


def test_the_best_epoch_is_kept() -> None:
    # At this rate the few ads are soon learned by heart.
    trained = fit(epochs_max=12, patience=3, learning_rate=0.05, dropout=0.0, weight_decay=0.0)
    errors = [epoch.validation_rmse for epoch in trained.epochs]
    assert errors[trained.best_epoch - 1] == min(errors)
    assert trained.best_epoch < len(errors)
    assert rmse_of(trained.predictor) == pytest.approx(min(errors), abs=2e-3)
    assert abs(rmse_of(trained.predictor) - errors[-1]) > 2e-3


@pytest.mark.parametrize("patience", [1, 3])
def test_training_stops_when_patience_is_out(patience: int) -> None:
    trained = fit(
        epochs_max=30, patience=patience, learning_rate=0.05, dropout=0.0, weight_decay=0.0
    )
    assert len(trained.epochs) == trained.best_epoch + patience < 30


def test_training_ends_with_the_last_epoch() -> None:
    assert [epoch.epoch for epoch in fit(epochs_max=3, patience=9).epochs] == [1, 2, 3]


def test_each_epoch_is_told_as_it_ends() -> None:
    told: list[Epoch] = []
    trained = fit(on_epoch=told.append)
    assert tuple(told) == trained.epochs
    assert all(epoch.seconds > 0 for epoch in told)


def test_the_curve_has_one_row_an_epoch() -> None:
    curve = tiny_training().curve()
    assert list(curve.columns) == ["epoch", "train_loss", "validation_rmse", "seconds"]
    assert curve["epoch"].tolist() == [1, 2]


def test_validation_is_measured_without_dropout() -> None:
    epoch = fit(epochs_max=1, dropout=0.9)
    assert rmse_of(epoch.predictor) == pytest.approx(epoch.epochs[0].validation_rmse, abs=1e-3)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_training_that_diverges_is_one_clear_error() -> None:
    with pytest.raises(ModelError, match=r"diverged.*lower training.learning_rate.*1e\+30"):
        fit(learning_rate=1e30)


@pytest.mark.parametrize("epochs", [None, 2])
def test_weights_too_large_to_be_saved_are_the_same_error(epochs: int | None) -> None:
    with pytest.raises(ModelError, match=r"diverged.*lower training.learning_rate"):
        fit(learning_rate=1e6, weight_decay=0.0, epochs=epochs)


@pytest.mark.parametrize("size", [1, 399, 400, 10_000])
def test_any_batch_size_will_do(size: int) -> None:
    trained = fit(epochs_max=1, batch_size=size, hidden=[2])
    assert np.isfinite(trained.predictor.predict(UNSEEN)).all()


@pytest.mark.parametrize("seed", [0, 2**32 - 1])
def test_any_seed_of_the_config_will_do(seed: int) -> None:
    assert fit(seed, epochs_max=1).best_epoch == 1


def torch_state() -> tuple[Any, ...]:
    return (
        torch.get_num_threads(),
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
        torch.get_rng_state().tolist(),
    )


@pytest.fixture
def unusual_torch() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    torch.use_deterministic_algorithms(True, warn_only=True)
    yield
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(False)


@pytest.mark.usefixtures("unusual_torch")
def test_torch_is_left_as_it_was() -> None:
    before = torch_state()
    fit()
    assert torch_state() == before


@pytest.mark.usefixtures("unusual_torch")
def test_torch_is_left_as_it_was_after_a_failure() -> None:
    def stop(epoch: Epoch) -> None:
        raise KeyboardInterrupt

    before = torch_state()
    with pytest.raises(KeyboardInterrupt):
        fit(on_epoch=stop)
    assert torch_state() == before


def test_the_threads_of_the_config_are_used() -> None:
    seen: list[int] = []
    fit(on_epoch=lambda _: seen.append(torch.get_num_threads()), threads=2)
    assert seen == [2, 2]


def test_the_model_is_rounded_but_little() -> None:
    """What is served differs from what was trained by less than the gate can see."""
    trained = tiny_training()
    error = trained.epochs[trained.best_epoch - 1].validation_rmse
    assert rmse_of(trained.predictor) == pytest.approx(error, abs=1e-3)


def test_default_settings_train() -> None:
    trained = train(tiny_features(), TrainingSettings(epochs_max=1), seed=42)
    assert trained.best_epoch == 1


@pytest.mark.parametrize("epochs", [1, 2])
def test_a_given_number_of_epochs_is_taken_and_the_last_is_kept(epochs: int) -> None:
    trained = fit(epochs=epochs, epochs_max=4, patience=1)
    assert [epoch.epoch for epoch in trained.epochs] == list(range(1, epochs + 1))
    assert trained.best_epoch == epochs


def test_epochs_that_are_given_follow_the_schedule_of_all() -> None:
    """Else a refit on more ads would not repeat what validation has found to be best."""
    trained = fit(epochs_max=6, patience=6)
    again = fit(epochs_max=6, epochs=trained.best_epoch)
    assert again.predictor.predict(UNSEEN).tobytes() == trained.predictor.predict(UNSEEN).tobytes()


def test_without_validation_ads_the_validation_error_is_unknown() -> None:
    alone = build_features(make_ads(120), None, FEATURES, seed=1)
    trained = train(alone, TRAINING, 1, epochs=2)
    assert np.isnan([epoch.validation_rmse for epoch in trained.epochs]).all()
    assert np.isfinite(trained.predictor.predict(UNSEEN)).all()


def test_without_validation_ads_the_number_of_epochs_must_be_given() -> None:
    alone = build_features(make_ads(60), None, FEATURES, seed=1)
    with pytest.raises(ValueError, match="number of epochs must be given"):
        train(alone, TRAINING, 1)


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_a_constant_target_can_be_learned(share: float) -> None:
    features = tiny_features()
    training = replace(features.training, target=np.full(len(features.training.target), share))
    answers = train(replace(features, training=training), TRAINING, 1).predictor.predict(UNSEEN)
    np.testing.assert_allclose(answers, share, rtol=0, atol=0.02)


def test_a_stronger_penalty_brings_the_answers_together() -> None:
    spread = [fit(penalty=penalty).predictor.predict(UNSEEN).std() for penalty in (0.1, 1.0, 100.0)]
    assert spread[0] > spread[1] > spread[2]
