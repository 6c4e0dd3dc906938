"""Training: the wide path to its optimum, then the deep one in mini-batches; calibration."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass

import numpy as np
import pandas as pd
import torch

from demand.config import FeatureSettings, TrainingSettings
from demand.errors import ModelError
from demand.features.builder import FeatureSet, Part, build_features
from demand.model.calibration import Percentiles, fit_intervals
from demand.model.network import DemandNetwork, Wide, cross_fitted_logits, fit_wide
from demand.model.predictor import Predictor, parents_of
from demand.progress import Epoch, report
from demand.schema.arrays import Floats
from demand.schema.columns import TARGET

# Fits of the wide path that give the training ads logits as new ads would get them.
CROSS_FITS = 5
# An interval of fewer errors would be mostly luck.
ROWS_MIN = 100
_LARGEST = float(np.finfo(np.float16).max)  # of the weights that can be saved


@dataclass(frozen=True)
class Training:
    """A trained model and its curve."""

    predictor: Predictor
    epochs: tuple[Epoch, ...]
    best_epoch: int  # the one that was kept

    def curve(self) -> pd.DataFrame:
        """One row an epoch: epoch, train_loss, validation_rmse, seconds."""
        return pd.DataFrame([asdict(epoch) for epoch in self.epochs])


def train(
    features: FeatureSet,
    settings: TrainingSettings,
    seed: int,
    on_epoch: Callable[[Epoch], None] | None = None,
    *,
    epochs: int | None = None,
) -> Training:
    """Fit the model; the same features, settings and seed give the same bits.

    ``epochs`` says how many to take, of a schedule that is laid out for ``settings.epochs_max``;
    without it the epoch with the least validation RMSE is kept. ``on_epoch`` is called after
    each, for progress.

    Raises
    ------
    ModelError
        The weights ran away: no epoch ended with answers that are numbers.
    ValueError
        Neither validation ads nor a number of epochs are given.
    """
    if epochs is None and features.validation is None:
        raise ValueError("without validation ads the number of epochs must be given")
    with _deterministic(seed, settings.threads):
        wide, offsets = _fit_wide(features, settings)
        width = features.builder.width
        network = DemandNetwork(width, hidden=settings.hidden, dropout=settings.dropout)
        taken: list[Epoch] = []
        best, best_rmse, best_state = 0, math.inf, {}
        for epoch in _fit(network, features, wide, offsets, settings, seed):
            taken.append(epoch)
            if on_epoch is not None:
                on_epoch(epoch)
            better = epochs == epoch.epoch if epochs else epoch.validation_rmse <= best_rmse
            if better:
                best, best_rmse = epoch.epoch, epoch.validation_rmse
                best_state = {k: v.numpy().copy() for k, v in network.state_dict().items()}
            if epochs == epoch.epoch or (not epochs and epoch.epoch - best >= settings.patience):
                break
    # What is no number is not within any bounds either.
    if not best or not all((np.abs(array) <= _LARGEST).all() for array in best_state.values()):
        raise ModelError(
            "training diverged: no epoch ended with answers that are numbers; lower "
            f"training.learning_rate, which is {settings.learning_rate:g}"
        )
    of_wide = {"wide.table": wide.table, "wide.bias": np.array([wide.bias])}
    predictor = Predictor.of(features.builder, best_state | of_wide)
    return Training(predictor, tuple(taken), best)


def calibrate_intervals(
    predictor: Predictor, judged: Predictor, held_out: pd.DataFrame
) -> Predictor:
    """Return ``predictor`` with intervals calibrated on ads that ``judged`` has not learnt from.

    The errors on ``held_out`` are those of ``judged``: ``predictor`` itself, or the one that it
    is a refit of, which had fewer ads and so hardly smaller errors. The more typed ads with
    their target are held out, the closer the coverage is to 80 %; with fewer than ``ROWS_MIN``
    the model is returned as it is.
    """
    if len(held_out) < ROWS_MIN:
        return predictor
    intervals = fit_intervals(judged.predict(held_out), held_out[TARGET], parents_of(held_out))
    return predictor.with_table(intervals)


def calibrate_percentiles(predictor: Predictor, ads: pd.DataFrame) -> Predictor:
    """Return ``predictor`` with the percentiles of its answers for ads, by category."""
    categories = ads["category_name"].tolist()
    return predictor.with_table(Percentiles.fit(predictor.predict(ads), categories))


def refit(
    ads: pd.DataFrame,
    epochs: int,
    features: FeatureSettings,
    settings: TrainingSettings,
    seed: int,
    on_epoch: Callable[[Epoch], None] | None = None,
) -> Predictor:
    """Fit on all ads, for the number of epochs that early stopping chose."""
    built = build_features(ads, None, features, seed)
    trained = train(built, settings, seed, on_epoch, epochs=epochs)
    return calibrate_percentiles(trained.predictor, ads)


def _fit_wide(features: FeatureSet, settings: TrainingSettings) -> tuple[Wide, Floats]:
    """Return the wide path, and the logits that the training ads get from others' sellers."""
    training, buckets = features.training, features.builder.settings.buckets
    sparse, penalty = training.features.sparse, settings.penalty
    wide = fit_wide(sparse, training.target, buckets=buckets, penalty=penalty)
    fold = features.fold % CROSS_FITS
    offsets = cross_fitted_logits(sparse, training.target, fold, buckets=buckets, penalty=penalty)
    return wide.pruned(sparse, settings.wide_weights), offsets


def _fit(
    network: DemandNetwork,
    features: FeatureSet,
    wide: Wide,
    offsets: Floats,
    settings: TrainingSettings,
    seed: int,
) -> Iterator[Epoch]:
    """Train epoch after epoch; the caller decides when it is enough."""
    training, validation = features.training, features.validation
    inputs = _inputs(training, offsets)
    held = None if validation is None else wide.logits(validation.features.sparse)
    target = torch.from_numpy(training.target).float()
    n = len(target)
    steps = math.ceil(n / settings.batch_size)
    optimiser = _optimiser(network, settings)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimiser, _warmup_cosine(settings.epochs_max * steps, settings.warmup_share)
    )
    rng = np.random.default_rng(seed)
    for number in range(1, settings.epochs_max + 1):
        started = time.perf_counter()
        network.train()
        order, total = torch.from_numpy(rng.permutation(n)), 0.0
        for done, rows in enumerate(torch.split(order, settings.batch_size)):
            report(number - 1 + done / steps, settings.epochs_max)
            logits = network(*(each[rows] for each in inputs))
            loss = torch.nn.functional.binary_cross_entropy_with_logits(logits, target[rows])
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            schedule.step()
            total += float(loss.detach()) * len(rows)
        rmse = math.nan
        if validation is not None and held is not None:
            error = _probabilities(network, _inputs(validation, held)) - validation.target
            rmse = float(np.sqrt(np.mean(error**2)))
        yield Epoch(number, total / n, rmse, time.perf_counter() - started)


def _optimiser(network: DemandNetwork, settings: TrainingSettings) -> torch.optim.AdamW:
    """AdamW with decay on weights, not on biases: the base rate must not shrink to a half."""
    weights = [p for p in network.parameters() if p.ndim > 1]
    biases = [p for p in network.parameters() if p.ndim == 1]
    groups = [
        {"params": weights, "weight_decay": settings.weight_decay},
        {"params": biases, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=settings.learning_rate)


def _warmup_cosine(steps: int, warmup_share: float) -> Callable[[int], float]:
    """Scale the learning rate: a linear rise, times a half cosine down to zero."""

    def scale(step: int) -> float:
        rise = min(1.0, (step + 1) / (warmup_share * steps))
        return rise * 0.5 * (1.0 + math.cos(math.pi * min(step / steps, 1.0)))

    return scale


def _inputs(part: Part, wide: Floats) -> tuple[torch.Tensor, torch.Tensor]:
    """Return what the network reads: dense features, and the wide path's logits."""
    return torch.from_numpy(part.features.dense), torch.from_numpy(wide).float()


def _probabilities(network: DemandNetwork, inputs: tuple[torch.Tensor, ...]) -> Floats:
    """Answer in blocks, so that a million ads do not need a million rows of memory."""
    network.eval()
    with torch.no_grad():
        blocks = [
            torch.sigmoid(network(*block)).numpy()
            for block in zip(*(torch.split(each, 8192) for each in inputs), strict=True)
        ]
    answers: Floats = np.concatenate(blocks).astype(np.float64)
    return answers


@contextmanager
def _deterministic(seed: int, threads: int) -> Iterator[None]:
    """Fix torch's randomness, algorithms and threads for the block; put them back after."""
    threads_before = torch.get_num_threads()
    strict_before = torch.are_deterministic_algorithms_enabled()
    warning_before = torch.is_deterministic_algorithms_warn_only_enabled()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        torch.set_num_threads(threads)
        torch.use_deterministic_algorithms(True)
        try:
            yield
        finally:
            torch.set_num_threads(threads_before)
            torch.use_deterministic_algorithms(strict_before, warn_only=warning_before)
