"""Training: mini-batches, early stopping on the validation part, one curve per epoch."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from demand.config import TrainingSettings
from demand.errors import ModelError
from demand.features.builder import Features
from demand.features.feature_set import FeatureSet
from demand.forward import serving_weights
from demand.network import HEADS, DemandNetwork
from demand.predictor import Predictor


@dataclass(frozen=True)
class Epoch:
    """What one pass over the training ads left behind.

    Parameters
    ----------
    epoch
        Number of the pass, from 1.
    train_loss
        Mean binary cross-entropy over the pass, auxiliary heads included.
    validation_rmse
        Root mean squared error of the deal probability on the validation ads.
    seconds, seconds_left
        Time of this pass, and of those that may still come.
    """

    epoch: int
    train_loss: float
    validation_rmse: float
    seconds: float
    seconds_left: float


@dataclass(frozen=True)
class Training:
    """A trained model and its curve; ``best_epoch`` is the one that was kept."""

    predictor: Predictor
    epochs: tuple[Epoch, ...]
    best_epoch: int

    def curve(self) -> pd.DataFrame:
        """One row an epoch: epoch, train_loss, validation_rmse, seconds."""
        return pd.DataFrame([asdict(e) for e in self.epochs]).drop(columns="seconds_left")


def train(
    features: FeatureSet,
    settings: TrainingSettings,
    seed: int,
    on_epoch: Callable[[Epoch], None] | None = None,
) -> Training:
    """Fit the network; the same features, settings and seed give the same bits.

    Parameters
    ----------
    features
        Training and validation ads as arrays, without a common seller.
    on_epoch
        Called after each epoch, for progress.

    Raises
    ------
    ModelError
        The weights ran away: no epoch ended with answers that are numbers.
    """
    with _deterministic(seed, settings.threads):
        network = DemandNetwork(
            features.builder.settings.buckets,
            features.builder.width,
            hidden=settings.hidden,
            dropout=settings.dropout,
            prior=float(features.training_target.mean()),
        )
        epochs: list[Epoch] = []
        best, best_rmse, best_state = 0, math.inf, {}
        for epoch in _fit(network, features, settings, seed):
            epochs.append(epoch)
            if on_epoch is not None:
                on_epoch(epoch)
            if epoch.validation_rmse <= best_rmse:
                best, best_rmse = epoch.epoch, epoch.validation_rmse
                best_state = {k: v.detach().numpy().copy() for k, v in network.state_dict().items()}
            elif epoch.epoch - best >= settings.patience:
                break
    if not best:
        raise ModelError(
            "training diverged: no epoch has a validation RMSE that is a number; lower "
            f"training.learning_rate, which is {settings.learning_rate:g}"
        )
    predictor = Predictor(features.builder, serving_weights(best_state, HEADS))
    return Training(predictor, tuple(epochs), best)


def _fit(
    network: DemandNetwork, features: FeatureSet, settings: TrainingSettings, seed: int
) -> Iterator[Epoch]:
    """Train epoch after epoch; the caller decides when it is enough."""
    target = features.training_target
    n = len(target)
    steps = math.ceil(n / settings.batch_size)
    optimiser = _optimiser(network, settings)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimiser, _warmup_cosine(settings.epochs_max * steps, settings.warmup_share)
    )
    answers = torch.from_numpy(np.stack([target, target > 0, target > 0.5], axis=1)).float()
    head_weights = torch.tensor([1.0, settings.auxiliary_weight, settings.auxiliary_weight])
    rng = np.random.default_rng(seed)
    for number in range(1, settings.epochs_max + 1):
        started = time.perf_counter()
        network.train()
        order, total = rng.permutation(n), 0.0
        for first in range(0, n, settings.batch_size):
            rows = order[first : first + settings.batch_size]
            logits = network(*_batch(features.training, rows))
            losses = torch.nn.functional.binary_cross_entropy_with_logits(
                logits, answers[torch.from_numpy(rows)], reduction="none"
            )
            loss = (losses * head_weights).sum(dim=1).mean()
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            schedule.step()
            total += float(loss.detach()) * len(rows)
        error = _probabilities(network, features.validation) - features.validation_target
        seconds = time.perf_counter() - started
        left = seconds * (settings.epochs_max - number)
        yield Epoch(number, total / n, float(np.sqrt(np.mean(error**2))), seconds, left)


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


def _batch(features: Features, rows: NDArray[np.int64]) -> tuple[torch.Tensor, ...]:
    """Take rows as the network's inputs: buckets, weights, starts, dense."""
    sparse = features.sparse
    begin, counts = sparse.starts[rows], sparse.starts[rows + 1] - sparse.starts[rows]
    starts = np.cumsum(counts) - counts
    tokens = np.arange(counts.sum()) + np.repeat(begin - starts, counts)
    return (
        torch.from_numpy(sparse.buckets[tokens]),
        torch.from_numpy(sparse.weights[tokens]),
        torch.from_numpy(starts),
        torch.from_numpy(features.dense[rows]),
    )


def _probabilities(network: DemandNetwork, features: Features) -> NDArray[np.float64]:
    """Answer in blocks, so that a million ads do not need a million rows of memory."""
    network.eval()
    rows = np.arange(len(features.dense))
    with torch.no_grad():
        blocks = [
            torch.sigmoid(network(*_batch(features, rows[first : first + 8192]))[:, 0]).numpy()
            for first in range(0, len(rows), 8192)
        ]
    answers: NDArray[np.float64] = np.concatenate(blocks).astype(np.float64)
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
