"""Training: the wide path to its optimum, then the deep one in mini-batches; calibration."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from demand.config import FeatureSettings, TrainingSettings
from demand.errors import ModelError
from demand.features.feature_set import FeatureSet, Part, build_features
from demand.features.training_ads import TrainingAds
from demand.model.calibration import Percentiles, fit_intervals
from demand.model.devices import deterministic
from demand.model.network import DemandNetwork, Wide, cross_fitted_logits, fit_wide
from demand.model.one_pass import learn_once
from demand.model.predictor import Predictor, parents_of
from demand.model.processes import learn_in_processes
from demand.progress import Epoch, report
from demand.schema.arrays import Floats
from demand.schema.columns import TARGET

# Fits of the wide path that give the training ads logits as new ads would get them.
CROSS_FITS = 5
# An interval of fewer errors would be mostly luck.
ROWS_MIN = 100
_Inputs = tuple[torch.Tensor, torch.Tensor]
_Judge = Callable[[DemandNetwork], float]
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
    ads: TrainingAds | None = None,
    epochs: int | None = None,
) -> Training:
    """Fit the model; the same features, settings and seed give the same bits.

    With crosses each of the training ``ads`` is learnt from once: see
    :mod:`demand.model.one_pass`. Without, ``epochs`` says how many to take, of a schedule that
    is laid out for ``settings.epochs_max``; where it is None the epoch with the least
    validation RMSE is kept. ``on_epoch`` is called after each, for progress.

    Raises
    ------
    ModelError
        The weights ran away: no epoch ended with answers that are numbers.
    ValueError
        Neither validation ads nor a number of epochs are given; or, with crosses, no ads.
    """
    if features.builder.settings.crosses:
        return _train_once(features, ads, settings, seed, on_epoch)
    if epochs is None and features.validation is None:
        raise ValueError("without validation ads the number of epochs must be given")
    with deterministic(seed, settings) as device:
        wide, offsets = _fit_wide(features, settings)
        width = features.builder.width
        network = DemandNetwork(width, hidden=settings.hidden, dropout=settings.dropout)
        network = network.to(device)
        taken: list[Epoch] = []
        best, best_rmse, best_state = 0, math.inf, {}
        for epoch in _fit(network, features, wide, offsets, settings, seed):
            taken.append(epoch)
            if on_epoch is not None:
                on_epoch(epoch)
            better = epochs == epoch.epoch if epochs else epoch.validation_rmse <= best_rmse
            if better:
                best, best_rmse = epoch.epoch, epoch.validation_rmse
                best_state = _state(network)
            if epochs == epoch.epoch or (not epochs and epoch.epoch - best >= settings.patience):
                break
    if not best:
        raise _diverged("training.learning_rate", settings.learning_rate)
    predictor = _predictor(features, wide, best_state, "training", settings.learning_rate)
    return Training(predictor, tuple(taken), best)


def _train_once(
    features: FeatureSet,
    ads: TrainingAds | None,
    settings: TrainingSettings,
    seed: int,
    on_epoch: Callable[[Epoch], None] | None,
) -> Training:
    if ads is None:
        raise ValueError("with crosses the ads themselves must be given")
    started, how = time.perf_counter(), settings.one_pass
    with deterministic(seed, settings) as device:
        if settings.processes > 1:
            network, wide, loss = learn_in_processes(features, ads, settings, seed)
        else:
            network, wide, loss = learn_once(features, ads, how, seed, device)
        error = _judge(features, wide, device)(network.to(device))
        state = _state(network)
    predictor = _predictor(features, wide, state, "training.one_pass", how.learning_rate)
    epoch = Epoch(1, loss, error, time.perf_counter() - started)
    if on_epoch is not None:
        on_epoch(epoch)
    return Training(predictor, (epoch,), 1)


def _state(network: DemandNetwork) -> dict[str, NDArray[np.float32]]:
    return {name: array.cpu().numpy().copy() for name, array in network.state_dict().items()}


def _predictor(
    features: FeatureSet,
    wide: Wide,
    state: dict[str, NDArray[np.float32]],
    section: str,
    learning_rate: float,
) -> Predictor:
    # What is no number is not within any bounds either.
    weights: list[NDArray[Any]] = [wide.table, *state.values()]
    if not all((np.abs(array) <= _LARGEST).all() for array in weights):
        raise _diverged(f"{section}.learning_rate", learning_rate)
    of_wide = {"wide.table": wide.table, "wide.bias": np.array([wide.bias])}
    return Predictor.of(features.builder, state | of_wide)


def _diverged(key: str, learning_rate: float) -> ModelError:
    return ModelError(
        "training diverged: no epoch ended with answers that are numbers; lower "
        f"{key}, which is {learning_rate:g}"
    )


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
    ads: TrainingAds | pd.DataFrame,
    epochs: int,
    features: FeatureSettings,
    settings: TrainingSettings,
    seed: int,
    on_epoch: Callable[[Epoch], None] | None = None,
) -> Predictor:
    """Fit on all ads, for the number of epochs that early stopping chose.

    ``features`` are the settings of the fit that was judged, with or without crosses.
    """
    known = ads if isinstance(ads, TrainingAds) else TrainingAds(ads)
    built = build_features(known, None, features, seed)
    return train(built, settings, seed, on_epoch, ads=known, epochs=epochs).predictor


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
    training, device = features.training, next(network.parameters()).device
    inputs, judge = _inputs(training, offsets, device), _judge(features, wide, device)
    target = torch.from_numpy(training.target).float().to(device)
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
        order, total = torch.from_numpy(rng.permutation(n)).to(device), 0.0
        for done, rows in enumerate(torch.split(order, settings.batch_size)):
            report(number - 1 + done / steps, settings.epochs_max)
            logits = network(*(each[rows] for each in inputs))
            loss = torch.nn.functional.binary_cross_entropy_with_logits(logits, target[rows])
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            schedule.step()
            total += float(loss.detach()) * len(rows)
        yield Epoch(number, total / n, judge(network), time.perf_counter() - started)


def _judge(features: FeatureSet, wide: Wide, device: torch.device) -> _Judge:
    """Return what tells a network's RMSE on the validation ads: NaN where there are none."""
    part = features.validation
    if part is None:
        return lambda _: math.nan
    inputs, target = _inputs(part, wide.logits(part.features.sparse), device), part.target

    def rmse(network: DemandNetwork) -> float:
        return float(np.sqrt(np.mean((_probabilities(network, inputs) - target) ** 2)))

    return rmse


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


def _inputs(part: Part, wide: Floats, device: torch.device) -> _Inputs:
    """Return what the network reads: dense features, and the wide path's logits."""
    dense = torch.from_numpy(part.features.dense).to(device)
    return dense, torch.from_numpy(wide).float().to(device)


def _probabilities(network: DemandNetwork, inputs: _Inputs) -> Floats:
    """Answer in blocks, so that a million ads do not need a million rows of memory."""
    network.eval()
    with torch.no_grad():
        blocks = [
            torch.sigmoid(network(*block)).cpu().numpy()
            for block in zip(*(torch.split(each, 8192) for each in inputs), strict=True)
        ]
    answers: Floats = np.concatenate(blocks).astype(np.float64)
    return answers
