"""The search: cross-validation by seller, and an Optuna study that goes on however it was ended."""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import json
import logging
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pandas as pd
from numpy.typing import NDArray
from optuna.study import Study
from optuna.trial import FrozenTrial, Trial, TrialState
from sqlalchemy.exc import SQLAlchemyError

from demand.config import TrainingConfig
from demand.data.lineage import code_digest, model_fingerprint
from demand.data.splitting import seller_positions
from demand.errors import ConfigError, GateRefusal, ModelError, StateError
from demand.evaluation.metrics import rmse
from demand.model.tuning.config import PrunerSettings, SearchSpace, TuningConfig
from demand.schema.columns import TARGET
from demand.workspace.workspace import disk_failure

# From ads, shape (n,), to a deal probability for each, shape (n,).
Predict = Callable[[pd.DataFrame], NDArray[np.float64]]
# Takes training ads, validation ads to stop early by, and the config.
Fit = Callable[[pd.DataFrame, pd.DataFrame, TrainingConfig], Predict]
# Attributes that Optuna keeps for us: of a trial, and of the study that a search returns.
FOLD_RMSE, FAILURE, INTERRUPTED = "fold_rmse", "failure", "interrupted"
# How a trial ends that is not repeated. One that cannot be trained is pruned, with its failure
# as an attribute; one that has failed was interrupted.
DECIDED = (TrialState.COMPLETE, TrialState.PRUNED)


def fit_model(
    training_ads: pd.DataFrame, validation_ads: pd.DataFrame, config: TrainingConfig
) -> Predict:
    """Fit features and network as the training pipeline does.

    Raises
    ------
    ModelError
        The training diverged.
    """
    from demand.features.feature_set import build_features
    from demand.features.training_ads import TrainingAds
    from demand.model.training import train

    known = TrainingAds(training_ads)
    features = build_features(known, validation_ads, config.features, config.seed)
    return train(features, config.training, config.seed, ads=known).predictor.predict


def fold_errors(
    ads: pd.DataFrame, config: TrainingConfig, folds: int, seed: int, fit: Fit = fit_model
) -> Iterator[float]:
    """Yield the RMSE on each fold of the model that was fitted on the others, one at a time.

    Training stops early by a validation part of the other folds, so that the held fold
    decides nothing. A seller lies in one fold, and on one side within the others.

    The same number and seed make the same folds of the same typed ads, for every config.

    Raises
    ------
    GateRefusal
        There are too few sellers for so many folds.
    ModelError
        The training diverged, or the model's answers are no numbers.
    """
    fold = (seller_positions(ads, seed) * folds).astype(np.int64)
    for number in range(folds):
        held, others = _divided(ads, fold == number, folds)
        early = seller_positions(others, seed) < config.split.validation_share
        validation, training = _divided(others, early, folds)
        error = rmse(held[TARGET], fit(training, validation, config)(held))
        if not np.isfinite(error):
            raise ModelError("the model's answers are no numbers")
        yield error


def compare(
    ads: pd.DataFrame,
    space: SearchSpace,
    settings: TuningConfig,
    best: Mapping[str, Any],
    fit: Fit = fit_model,
) -> tuple[float, float]:
    """Measure the base and the best trial's values again, on other folds and initial weights.

    The best of many trials owes some of its score to luck with the folds that it was
    chosen on; on fresh ones it has none.

    Returns the gain, the mean over folds of RMSE(base) - RMSE(best), and what it must exceed, so
    that it is no chance: the one-sided t-bound of ``gate.confidence`` for the mean difference,
    with the variance corrected for training rows that folds have in common (Nadeau & Bengio,
    *Inference for the generalization error*, 2003).

    Raises
    ------
    ModelError
        One of the two cannot be trained there.
    """
    from scipy.stats import t

    errors = []
    for values in ({}, best):
        config = space.config(values)
        config = config.model_copy(update={"seed": _next(config.seed)})
        try:
            errors.append(list(fold_errors(ads, config, settings.folds, _next(settings.seed), fit)))
        except ModelError as error:
            raise ModelError(f"cannot compare base and best on fresh folds: {error}") from error
    gains = np.subtract(errors[0], errors[1])
    k = settings.folds
    deviation = float(np.std(gains, ddof=1)) * np.sqrt(1 / k + 1 / (k - 1))
    quantile = float(t.ppf(space.base.gate.confidence, k - 1))
    return float(np.mean(gains)), float(quantile * deviation)


def _next(seed: int) -> int:
    return (seed + 1) % 2**32


def _divided(
    ads: pd.DataFrame, first: NDArray[np.bool_], folds: int
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the marked ads and the others, each with a fresh index and neither empty."""
    if first.all() or not first.any():
        sellers = ads["user_id"].nunique(dropna=False)
        raise GateRefusal(
            "data",
            f"{len(ads)} ads are of only {sellers} sellers, too few for {folds} folds, each "
            "with a validation part; set a lower `folds` in the tuning config",
        )
    return ads[first].reset_index(drop=True), ads[~first].reset_index(drop=True)


def study_name(data_md5: str, base: TrainingConfig, settings: TuningConfig) -> str:
    """Return a name that changes with whatever changes a trial's score or the order of trials.

    The number of trials and the time limit do not: with more of them a search goes on.
    """
    searched = settings.model_dump(mode="json", exclude={"base", "trials", "timeout_s"})
    parts = [
        model_fingerprint(data_md5, base),
        json.dumps(searched, sort_keys=True),
        code_digest(("demand/model/tuning",)),
        importlib.metadata.version("optuna"),
    ]
    return hashlib.md5("\n".join(parts).encode(), usedforsecurity=False).hexdigest()


def objective(
    trial: Trial, ads: pd.DataFrame, space: SearchSpace, settings: TuningConfig, fit: Fit
) -> float:
    """Return the mean RMSE over folds of the config that a trial suggests; prune the hopeless."""
    errors: list[float] = []
    base = next(iter(trial.study.get_trials(deepcopy=False, states=DECIDED)), None)
    try:
        config = space.config(space.suggest(trial))
        for error in fold_errors(ads, config, settings.folds, settings.seed, fit):
            errors.append(error)
            # Some folds are harder than others: only the distance to the base on the same
            # folds can be compared from one number of folds to another.
            known = base.user_attrs[FOLD_RMSE][: len(errors)] if base else errors
            trial.report(float(np.mean(errors) - np.mean(known)), len(errors))
            if base and len(errors) < settings.folds and trial.should_prune():
                raise optuna.TrialPruned
    except (ModelError, ConfigError) as error:
        if base is None:
            raise
        trial.set_user_attr(FAILURE, str(error))
        raise optuna.TrialPruned from error
    trial.set_user_attr(FOLD_RMSE, errors)
    return float(np.mean(errors))


def search(
    ads: pd.DataFrame,
    space: SearchSpace,
    settings: TuningConfig,
    trials: int,
    database: Path,
    name: str,
    *,
    anew: bool = False,
    fit: Fit = fit_model,
    on_trial: Callable[[Study], None] | None = None,
) -> Study:
    """Try configs until ``trials`` of them are decided, also counting those of earlier calls.

    A search that was ended in any way goes on where it was, and finds what it would have
    found in one go: a trial's values follow from the seed and the trials decided before it.

    Takes typed training and validation ads with their target, shape (n, 18), never those of the
    test part; how many trials, the base config included; and the SQLite file of the study, with
    its name among those of other data, code and spaces. Hold a lock: no other process may search
    in it meanwhile. With ``anew`` what was tried before is forgotten. ``on_trial`` is called with
    all that was found so far: after each trial and, where a search goes on, before the first.

    The study returned is in memory, of the decided trials alone, the base's being number 0.

    Raises
    ------
    GateRefusal
        There are too few sellers.
    ModelError
        The base config cannot be trained.
    StateError
        The study cannot be read or written.
    """

    def proceed(study: Study, _: FrozenTrial | None = None) -> int:
        found = _decided_study(study)
        done = len(found.trials)
        # Made anew for each trial: with one seed for all, a search that goes on would be
        # suggested its first values again.
        seed = int(np.random.SeedSequence([settings.seed, done]).generate_state(1)[0])
        study.sampler = optuna.samplers.TPESampler(seed=seed)
        if done and on_trial is not None:
            on_trial(found)
        return done

    with _opened(database, name, settings.pruner, anew=anew) as study:
        done = proceed(study)
        if not done and not study.get_trials(deepcopy=False, states=(TrialState.WAITING,)):
            study.enqueue_trial(space.base_params())
        left = max(0, trials - done)
        measure = partial(objective, ads=ads, space=space, settings=settings, fit=fit)
        study.optimize(measure, left, timeout=settings.timeout_s, callbacks=[proceed])
        return _decided_study(study)


def _decided_study(study: Study) -> Study:
    """Return a copy in memory without the interrupted trials, which it only counts."""
    copy = optuna.create_study()
    copy.add_trials(study.get_trials(deepcopy=False, states=DECIDED))
    interrupted = study.get_trials(deepcopy=False, states=(TrialState.FAIL,))
    copy.set_user_attr(INTERRUPTED, len(interrupted))
    return copy


@contextlib.contextmanager
def _opened(database: Path, name: str, pruner: PrunerSettings, *, anew: bool) -> Iterator[Study]:
    """Yield the study, made if absent; trials that a killed search left running are failed.

    Raises
    ------
    StateError
        The database cannot be read or written, within the block too; names the file.
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    logging.getLogger("alembic").setLevel(logging.WARNING)
    try:
        database.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StateError(f"cannot write {database}: {error.strerror}") from error
    with contextlib.ExitStack() as stack:
        try:
            storage = optuna.storages.RDBStorage(f"sqlite:///{database}")
            stack.callback(storage.engine.dispose)
            if anew:
                with contextlib.suppress(KeyError):
                    optuna.delete_study(study_name=name, storage=storage)
            study = optuna.create_study(
                study_name=name, storage=storage, pruner=_pruner(pruner), load_if_exists=True
            )
            for trial in study.get_trials(states=(TrialState.RUNNING,)):
                study.tell(trial.number, state=TrialState.FAIL)
            yield study
        except (SQLAlchemyError, optuna.exceptions.StorageInternalError) as error:
            raise StateError(_explained(error, database)) from error


def _pruner(settings: PrunerSettings) -> optuna.pruners.BasePruner:
    if settings.kind == "none":
        return optuna.pruners.NopPruner()
    if settings.kind == "halving":
        return optuna.pruners.SuccessiveHalvingPruner(
            min_resource=settings.folds_min, reduction_factor=settings.reduction_factor
        )
    return optuna.pruners.MedianPruner(
        n_startup_trials=settings.startup_trials, n_warmup_steps=settings.folds_min
    )


def _explained(error: Exception, database: Path) -> str:
    failure = disk_failure(error)
    if failure is not None:
        return f"{failure}; the search goes on where it ended"
    # Without the statement, which SQLAlchemy shows too.
    cause: BaseException = error
    while cause.__cause__ is not None:
        cause = cause.__cause__
    return (
        f"cannot use the database of searches {database} ({cause}): move it away, "
        "and the search begins anew"
    )
