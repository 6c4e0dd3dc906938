from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import pytest

from demand.config import TrainingConfig
from demand.errors import ModelError, StateError
from demand.tuning.search import Found, search
from demand.tuning.settings import Dimension
from demand.tuning.study import StudyPlace, study_name
from tests.tuning.made import ADS, BASE, Answers, Fits, place, settings, space


def tried(found: Found) -> list[tuple[Any, ...]]:
    """Return all that must not depend on interruptions."""
    return [(t.number, t.values, t.state, t.folds) for t in found.trials]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return where the database of these tests is; each has a study of its own in it."""
    return tmp_path_factory.mktemp("studies")


@pytest.fixture
def study(folder: Path, request: pytest.FixtureRequest) -> StudyPlace:
    return place(folder, request.node.name)


@pytest.fixture(scope="module")
def searched(folder: Path) -> Found:
    """Return what a search has found that nothing interrupted."""
    return search(ADS, space(), settings(), 12, place(folder, "whole"), fit=Fits())


def test_the_base_comes_first_and_the_best_is_found(searched: Found) -> None:
    found = searched
    assert len(found.trials) == 12
    assert found.base.values == {"training.dropout": BASE.training.dropout}
    assert found.best.rmse < found.base.rmse
    assert found.best.rmse == min(t.rmse for t in found.trials if t.state == "finished")
    assert len(found.best.folds) == 3


def test_each_trial_is_told(study: StudyPlace) -> None:
    told: list[int] = []
    search(
        *(ADS, space(), settings(), 3, study),
        fit=Fits(),
        on_trial=lambda found: told.append(len(found.trials)),
    )
    assert told == [1, 2, 3]


def test_an_interrupted_search_finds_what_it_would_have_found(
    searched: Found, study: StudyPlace
) -> None:
    for number, at in enumerate((0, 2, 20, 1)):
        fits = Fits(interrupted_at=at)
        with pytest.raises(KeyboardInterrupt):
            search(ADS, space(), settings(), 12, study, fit=fits)
        if number < 3:
            continue
        found = search(ADS, space(), settings(), 12, study, fit=fits)
        assert tried(found) == tried(searched)
        assert (searched.interrupted, found.interrupted) == (0, 4)


def test_a_search_that_is_interrupted_when_it_tells_of_a_trial_repeats_nothing(
    study: StudyPlace,
) -> None:
    def stop(found: Found) -> None:
        if len(found.trials) == 2:
            raise KeyboardInterrupt

    fits = Fits()
    with pytest.raises(KeyboardInterrupt):
        search(ADS, space(), settings(), 4, study, fit=fits, on_trial=stop)
    before = len(fits.configs)
    again = search(ADS, space(), settings(), 4, study, fit=fits)
    assert (len(again.trials), again.interrupted) == (4, 0)
    assert len(fits.configs) - before == sum(len(t.folds) for t in again.trials[2:])


def test_a_search_goes_on_for_more_trials(study: StudyPlace) -> None:
    few = search(ADS, space(), settings(), 3, study, fit=Fits())
    more = search(ADS, space(), settings(), 5, study, fit=Fits())
    assert tried(more)[:3] == tried(few)
    assert len(more.trials) == 5


def test_a_search_that_is_through_fits_nothing(study: StudyPlace) -> None:
    first = search(ADS, space(), settings(), 3, study, fit=Fits())
    fits, told = Fits(), []
    again = search(ADS, space(), settings(), 2, study, fit=fits, on_trial=told.append)
    assert (tried(again), fits.configs) == (tried(first), [])
    assert len(told) == 1


def test_a_search_can_begin_anew(study: StudyPlace) -> None:
    search(ADS, space(), settings(), 3, study, fit=Fits())
    fits = Fits()
    anew = search(ADS, space(), settings(), 2, study, fit=fits, anew=True)
    assert len(anew.trials) == 2
    assert fits.configs


def test_no_trial_is_begun_after_the_time_limit(study: StudyPlace) -> None:
    found = search(ADS, space(), settings(timeout_s=1e-9), 5, study, fit=Fits())
    assert len(found.trials) == 1


@pytest.mark.parametrize("kind", ["median", "halving"])
def test_bad_trials_are_stopped_after_the_first_folds(
    kind: Literal["median", "halving"], study: StudyPlace
) -> None:
    asked = settings(folds=4, pruner={"kind": kind, "startup_trials": 2})
    fits = Fits()
    found = search(ADS, space(), asked, 12, study, fit=fits)
    pruned = [trial for trial in found.trials if trial.state == "pruned"]
    assert pruned
    assert all(len(trial.folds) < 4 for trial in pruned)
    assert len(fits.configs) == sum(len(trial.folds) for trial in found.trials) < 12 * 4
    assert found.base.state == "finished"
    behind = [found.behind_base(trial) for trial in pruned]
    assert min(behind) > found.behind_base(found.best)


def test_no_trial_is_stopped_where_none_shall_be(study: StudyPlace) -> None:
    asked = settings(pruner={"kind": "none"})
    found = search(ADS, space(), asked, 8, study, fit=Fits())
    assert found.count("finished") == 8


def fit_small_dropouts(
    training: pd.DataFrame, validation: pd.DataFrame, config: TrainingConfig
) -> Answers:
    if config.training.dropout > BASE.training.dropout:
        raise ModelError("training diverged")
    return Fits()(training, validation, config)


def test_a_trial_that_cannot_be_trained_is_failed_and_not_repeated(study: StudyPlace) -> None:
    found = search(ADS, space(), settings(), 8, study, fit=fit_small_dropouts)
    assert len(found.trials) == 8
    assert found.count("failed") > 0
    assert found.interrupted == 0
    failed = [trial for trial in found.trials if trial.state == "failed"]
    assert all(np.isnan(trial.rmse) for trial in failed)
    assert {trial.failure for trial in failed} == {"training diverged"}


def test_a_base_that_cannot_be_trained_ends_the_search(study: StudyPlace) -> None:
    def fit(*_: object) -> Answers:
        raise ModelError("training diverged")

    with pytest.raises(ModelError):
        search(ADS, space(), settings(), 2, study, fit=fit)
    assert len(search(ADS, space(), settings(), 2, study, fit=Fits()).trials) == 2


def test_all_kinds_of_values_come_back_from_the_database(study: StudyPlace) -> None:
    dimensions = {
        "training.hidden": Dimension(choices=[[32, 16], [8]]),
        "training.batch_size": Dimension(choices=[64, 128]),
        "training.epochs_max": Dimension(low=1, high=5, step=2),
        "training.learning_rate": Dimension(low=0.001, high=0.1, log=True),
    }
    asked = settings(space=dimensions)
    fits = Fits()
    search(ADS, space(dimensions), asked, 4, study, fit=fits)
    found = search(ADS, space(dimensions), asked, 6, study, fit=fits)
    configs = [space(dimensions).config(trial.values) for trial in found.trials]
    assert configs[0] == BASE
    assert all(config in fits.configs for config in configs)


def test_a_damaged_database_is_named(tmp_path: Path) -> None:
    study = place(tmp_path)
    study.database.write_bytes(b"no database" * 100)
    with pytest.raises(StateError, match=r"tuning\.db.*move it away"):
        search(ADS, space(), settings(), 1, study, fit=Fits())


def test_the_study_is_another_for_whatever_changes_its_trials() -> None:
    other_base = BASE.model_copy(update={"seed": 1})
    names = [
        study_name("abc", BASE, settings()),
        study_name("abd", BASE, settings()),
        study_name("abc", other_base, settings()),
        study_name("abc", BASE, settings(seed=1)),
        study_name("abc", BASE, settings(folds=4)),
        study_name("abc", BASE, settings(space={"training.dropout": Dimension(low=0, high=0.9)})),
    ]
    assert len(set(names)) == len(names)


def test_the_study_is_the_same_for_more_trials_and_time() -> None:
    more = settings(trials=99, timeout_s=60.0, base="elsewhere.yaml")
    assert study_name("abc", BASE, more) == study_name("abc", BASE, settings())
