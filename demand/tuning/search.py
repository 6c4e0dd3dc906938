"""The search itself: one trial after another, the base config first."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd

from demand.errors import ConfigError, ModelError
from demand.tuning.folds import Fit, fit_model, fold_errors
from demand.tuning.settings import TuningConfig
from demand.tuning.space import Space
from demand.tuning.study import FAILURE, FOLDS, SECONDS, StudyPlace, decided, opened_study

if TYPE_CHECKING:
    import optuna

_STATES: dict[str, Literal["finished", "pruned", "failed"]] = {
    "COMPLETE": "finished",
    "PRUNED": "pruned",
    "FAIL": "failed",
}


@dataclass(frozen=True)
class Trial:
    """One config that was tried.

    Parameters
    ----------
    number
        From 0, which is the base config; trials that were killed have none.
    values
        What differs, or may differ, from the base, by dotted key.
    state
        ``finished`` on all folds, ``pruned`` after some, or ``failed`` to train.
    folds
        RMSE on each fold that was reached.
    seconds
        What it took.
    failure
        Why it failed, or nothing.
    """

    number: int
    values: dict[str, Any]
    state: Literal["finished", "pruned", "failed"]
    folds: tuple[float, ...]
    seconds: float
    failure: str = ""

    @property
    def rmse(self) -> float:
        """Mean RMSE over the folds that were reached; NaN where there is none."""
        return float(np.mean(self.folds)) if self.folds else math.nan


@dataclass(frozen=True)
class Found:
    """What a search has found so far.

    Parameters
    ----------
    trials
        All that were decided, the base first.
    interrupted
        How many were killed half-way, and tried again.
    """

    trials: tuple[Trial, ...]
    interrupted: int = 0

    @property
    def base(self) -> Trial:
        """The base config's trial."""
        return self.trials[0]

    @property
    def best(self) -> Trial:
        """The lowest mean RMSE over all folds; the earliest of equals."""
        return self.ranked()[0]

    def ranked(self) -> list[Trial]:
        """Return the trials that were finished, best first."""
        finished = [trial for trial in self.trials if trial.state == "finished"]
        return sorted(finished, key=lambda trial: trial.rmse)

    def behind_base(self, trial: Trial) -> float:
        """Return by how much its mean RMSE is above the base's on the folds that it reached.

        NaN where it reached none.
        """
        return trial.rmse - float(np.mean(self.base.folds[: len(trial.folds) or None]))

    def count(self, state: Literal["finished", "pruned", "failed"]) -> int:
        """Return how many trials ended so."""
        return sum(trial.state == state for trial in self.trials)


def search(
    ads: pd.DataFrame,
    space: Space,
    settings: TuningConfig,
    trials: int,
    place: StudyPlace,
    *,
    anew: bool = False,
    fit: Fit = fit_model,
    on_trial: Callable[[Found], None] | None = None,
) -> Found:
    """Try configs until ``trials`` of them are decided, also counting those of earlier calls.

    A search that was ended in any way goes on where it was, and finds what it would have
    found in one go: a trial's values follow from the seed and the trials decided before it.

    Parameters
    ----------
    ads
        Training and validation rows, typed, with their target, shape (n, 18); never rows of
        the test part.
    trials
        How many, the base config included.
    place
        The study. Hold a lock: no other process may search in it meanwhile.
    anew
        Forget what was tried before.
    on_trial
        Called with all that was found so far: after each trial and, where a search goes
        on, once before the first.

    Raises
    ------
    GateRefusal
        There are too few sellers.
    ModelError
        The base config cannot be trained.
    StateError
        The study cannot be read or written.
    """
    started = time.monotonic()
    with opened_study(place, settings.pruner, anew=anew) as study:
        if decided(study) and on_trial is not None:
            on_trial(_found(study, space))
        while len(decided(study)) < trials:
            late = settings.timeout_s is not None and (
                time.monotonic() - started > settings.timeout_s
            )
            if late and decided(study):
                break
            _try_next(study, ads, space, settings, fit)
            if on_trial is not None:
                on_trial(_found(study, space))
        return _found(study, space)


def _try_next(
    study: optuna.Study, ads: pd.DataFrame, space: Space, settings: TuningConfig, fit: Fit
) -> None:
    """Ask for values, measure them fold by fold, and tell the study how it ended."""
    from optuna.trial import TrialState

    before = decided(study)
    if not before and not study.get_trials(deepcopy=False, states=(TrialState.WAITING,)):
        study.enqueue_trial(space.base_params())
    study.sampler = _sampler(settings.seed, len(before))
    trial = study.ask(space.distributions())
    base_folds: list[float] | None = before[0].user_attrs[FOLDS] if before else None
    started = time.perf_counter()
    folds: list[float] = []
    outcome: dict[str, Any] = {"state": TrialState.FAIL}
    try:
        config = space.config(space.values(trial.params))
        for error in fold_errors(ads, config, settings.folds, settings.seed, fit):
            if not math.isfinite(error):
                raise ModelError("the model's answers are no numbers")
            folds.append(error)
            # Some folds are harder than others: only the distance to the base on the same
            # folds can be compared from one number of folds to another.
            known = folds if base_folds is None else base_folds[: len(folds)]
            trial.report(float(np.mean(folds) - np.mean(known)), step=len(folds))
            if before and len(folds) < settings.folds and trial.should_prune():
                outcome = {"state": TrialState.PRUNED}
                break
        else:
            outcome = {"values": float(np.mean(folds))}
    except (ModelError, ConfigError) as error:
        if not before:
            raise
        trial.set_user_attr(FAILURE, str(error))
    trial.set_user_attr(FOLDS, folds)
    trial.set_user_attr(SECONDS, round(time.perf_counter() - started, 3))
    study.tell(trial, **outcome)


def _sampler(seed: int, number: int) -> optuna.samplers.BaseSampler:
    """Return a sampler for one trial.

    A sampler that is made anew with one seed would suggest its first values again to a
    search that goes on.
    """
    from optuna.samplers import TPESampler

    entropy = np.random.SeedSequence([seed, number])
    return TPESampler(seed=int(entropy.generate_state(1)[0]))


def _found(study: optuna.Study, space: Space) -> Found:
    known = decided(study)
    trials = tuple(
        Trial(
            number,
            space.values(trial.params),
            _STATES[trial.state.name],
            tuple(trial.user_attrs.get(FOLDS, ())),
            float(trial.user_attrs.get(SECONDS, 0.0)),
            trial.user_attrs.get(FAILURE, ""),
        )
        for number, trial in enumerate(known)
    )
    ended = [trial for trial in study.get_trials(deepcopy=False) if trial.state.is_finished()]
    return Found(trials, len(ended) - len(known))
