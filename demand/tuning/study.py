"""Optuna's study in a SQLite file: what was tried is kept, however a search ends."""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import json
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from demand.config import TrainingConfig
from demand.disk import disk_failure
from demand.errors import StateError
from demand.lineage import model_fingerprint
from demand.tuning.settings import PrunerSettings, TuningConfig

if TYPE_CHECKING:
    from optuna import Study
    from optuna.pruners import BasePruner
    from optuna.trial import FrozenTrial

# Attributes of a trial that Optuna keeps for us.
FOLDS, SECONDS, FAILURE = "folds", "seconds", "failure"


@dataclass(frozen=True)
class StudyPlace:
    """Where a study is kept, and its name among those of other data, code and spaces."""

    database: Path
    name: str


def study_name(data_md5: str, base: TrainingConfig, settings: TuningConfig) -> str:
    """Return a name that changes with whatever changes a trial's score or the order of trials.

    The number of trials and the time limit do not: with more of them a search goes on.
    """
    searched = settings.model_dump(mode="json", exclude={"base", "trials", "timeout_s"})
    parts = [
        model_fingerprint(data_md5, base),
        json.dumps(searched, sort_keys=True),
        importlib.metadata.version("optuna"),
    ]
    return hashlib.md5("\n".join(parts).encode(), usedforsecurity=False).hexdigest()


@contextlib.contextmanager
def opened_study(place: StudyPlace, pruner: PrunerSettings, *, anew: bool) -> Iterator[Study]:
    """Yield the study, made if absent; trials that a killed search left running are failed.

    Nobody else may use it meanwhile: hold a lock.

    Parameters
    ----------
    anew
        Forget what was tried before.

    Raises
    ------
    StateError
        The database cannot be read or written, within the block too; names the file.
    """
    import optuna
    from sqlalchemy.exc import SQLAlchemyError

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    logging.getLogger("alembic").setLevel(logging.WARNING)
    storage = None
    try:
        place.database.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StateError(f"cannot write {place.database}: {error.strerror}") from error
    try:
        storage = optuna.storages.RDBStorage(f"sqlite:///{place.database}")
        if anew and place.name in optuna.get_all_study_names(storage):
            optuna.delete_study(study_name=place.name, storage=storage)
        study = optuna.create_study(
            study_name=place.name, storage=storage, pruner=_pruner(pruner), load_if_exists=True
        )
        for trial in study.get_trials(states=(optuna.trial.TrialState.RUNNING,)):
            study.tell(trial.number, state=optuna.trial.TrialState.FAIL)
        yield study
    except (SQLAlchemyError, optuna.exceptions.StorageInternalError) as error:
        raise StateError(_explained(error, place.database)) from error
    finally:
        if storage is not None:
            storage.engine.dispose()


def decided(study: Study) -> list[FrozenTrial]:
    """Return the trials that came to an end of their own, in their order.

    Those are scored, pruned, or could not be trained; a trial that was killed is none.
    """
    from optuna.trial import TrialState

    ended = (TrialState.COMPLETE, TrialState.PRUNED)
    return [
        trial
        for trial in study.get_trials(deepcopy=False)
        if trial.state in ended or (trial.state == TrialState.FAIL and FAILURE in trial.user_attrs)
    ]


def _pruner(settings: PrunerSettings) -> BasePruner:
    from optuna import pruners

    if settings.kind == "none":
        return pruners.NopPruner()
    if settings.kind == "halving":
        return pruners.SuccessiveHalvingPruner(
            min_resource=settings.folds_min, reduction_factor=settings.reduction_factor
        )
    return pruners.MedianPruner(
        n_startup_trials=settings.startup_trials, n_warmup_steps=settings.folds_min
    )


def _explained(error: Exception, database: Path) -> str:
    failure = disk_failure(error)
    if failure is not None:
        return f"{failure}; free some space and run the same command again: the search goes on"
    # Without the statement, which SQLAlchemy shows too.
    cause: Any = error.__cause__ if error.__cause__ is not None else error
    said = getattr(cause, "orig", None) or cause
    return (
        f"cannot use the database of searches {database} ({said}): move it away, "
        "and the search begins anew"
    )
