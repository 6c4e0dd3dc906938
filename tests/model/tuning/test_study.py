from __future__ import annotations

from pathlib import Path
from threading import Event
from typing import Literal

import pandas as pd
import pytest
from optuna.study import Study

from demand.config import TrainingConfig
from demand.errors import GateRefusal, ModelError, StateError
from demand.model.tuning.config import Dimension
from demand.model.tuning.study import INTERRUPTED, Predict, search, study_name
from demand.reports.tuning import trials_table
from tests.model.tuning.made import ADS, BASE, Fits, settings, space

Place = tuple[Path, str]


def tried(found: Study) -> list[str]:
    """Return all that must not depend on interruptions, a row a trial."""
    table = trials_table(found, space()).drop(columns="seconds")
    return table.to_csv(index=False).splitlines()[1:]


def states(found: Study) -> list[str]:
    return trials_table(found, space())["state"].tolist()


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the database of these tests; each has a study of its own in it."""
    return tmp_path_factory.mktemp("studies") / "tuning.db"


@pytest.fixture
def place(database: Path, request: pytest.FixtureRequest) -> Place:
    return database, request.node.name


@pytest.fixture(scope="module")
def searched(database: Path) -> Study:
    """Return what a search has found that nothing interrupted."""
    return search(ADS, space(), settings(), 12, database, "whole", fit=Fits())


def test_the_base_comes_first_and_the_best_is_found(searched: Study) -> None:
    table = trials_table(searched, space())
    assert table["trial"].tolist() == list(range(12))
    assert table["training.dropout"][0] == BASE.training.dropout
    assert table["behind_base"][0] == 0
    assert searched.best_trial.value == table["rmse"].min() < table["rmse"][0]
    assert table["folds"][searched.best_trial.number] == 3


def test_each_trial_is_told(place: Place) -> None:
    told: list[int] = []
    search(
        *(ADS, space(), settings(), 3, *place),
        fit=Fits(),
        on_trial=lambda found: told.append(len(found.trials)),
    )
    assert told == [1, 2, 3]


def test_an_interrupted_search_finds_what_it_would_have_found(
    searched: Study, place: Place
) -> None:
    for number, at in enumerate((0, 2, 20, 1)):
        fits = Fits(interrupted_at=at)
        with pytest.raises(KeyboardInterrupt):
            search(ADS, space(), settings(), 12, *place, fit=fits)
        if number < 3:
            continue
        found = search(ADS, space(), settings(), 12, *place, fit=fits)
        assert tried(found) == tried(searched)
        assert (searched.user_attrs[INTERRUPTED], found.user_attrs[INTERRUPTED]) == (0, 4)


def test_a_search_that_is_interrupted_when_it_tells_of_a_trial_repeats_nothing(
    place: Place,
) -> None:
    def stop(found: Study) -> None:
        if len(found.trials) == 2:
            raise KeyboardInterrupt

    fits = Fits()
    with pytest.raises(KeyboardInterrupt):
        search(ADS, space(), settings(), 4, *place, fit=fits, on_trial=stop)
    before = len(fits.configs)
    again = search(ADS, space(), settings(), 4, *place, fit=fits)
    assert (len(again.trials), again.user_attrs[INTERRUPTED]) == (4, 0)
    assert len(fits.configs) - before == trials_table(again, space())["folds"][2:].sum()


def test_a_search_goes_on_for_more_trials(place: Place) -> None:
    few = search(ADS, space(), settings(), 3, *place, fit=Fits())
    more = search(ADS, space(), settings(), 5, *place, fit=Fits())
    assert tried(more)[:3] == tried(few)
    assert len(more.trials) == 5


def test_a_search_that_is_through_fits_nothing(place: Place) -> None:
    first = search(ADS, space(), settings(), 3, *place, fit=Fits())
    fits, told = Fits(), list[Study]()
    again = search(ADS, space(), settings(), 2, *place, fit=fits, on_trial=told.append)
    assert (tried(again), fits.configs) == (tried(first), [])
    assert len(told) == 1


def test_a_search_can_begin_anew(place: Place) -> None:
    search(ADS, space(), settings(), 3, *place, fit=Fits())
    fits = Fits()
    anew = search(ADS, space(), settings(), 2, *place, fit=fits, anew=True)
    assert len(anew.trials) == 2
    assert fits.configs


def test_no_trial_is_begun_after_the_time_limit(place: Place) -> None:
    def fit(training: pd.DataFrame, validation: pd.DataFrame, config: TrainingConfig) -> Predict:
        Event().wait(0.4)  # on three folds longer than the limit
        return Fits()(training, validation, config)

    found = search(ADS, space(), settings(timeout_s=1.0), 5, *place, fit=fit)
    assert len(found.trials) == 1


@pytest.mark.parametrize("kind", ["median", "halving"])
def test_bad_trials_are_stopped_after_the_first_folds(
    kind: Literal["median", "halving"], place: Place
) -> None:
    asked = settings(folds=4, pruner={"kind": kind, "startup_trials": 2})
    fits = Fits()
    found = search(ADS, space(), asked, 12, *place, fit=fits)
    table = trials_table(found, space())
    pruned = table[table["state"] == "pruned"]
    assert len(pruned)
    assert pruned["folds"].between(2, 3).all()
    assert pruned["rmse"].isna().all()
    assert len(fits.configs) == table["folds"].sum() < 12 * 4
    assert table["state"][0] == "finished"
    assert pruned["behind_base"].min() > table["behind_base"][found.best_trial.number]


def test_no_trial_is_stopped_where_none_shall_be(place: Place) -> None:
    asked = settings(pruner={"kind": "none"})
    assert states(search(ADS, space(), asked, 8, *place, fit=Fits())) == ["finished"] * 8


def fit_small_dropouts(
    training: pd.DataFrame, validation: pd.DataFrame, config: TrainingConfig
) -> Predict:
    if config.training.dropout > BASE.training.dropout:
        raise ModelError("training diverged")
    return Fits()(training, validation, config)


def test_a_trial_that_cannot_be_trained_is_failed_and_not_repeated(place: Place) -> None:
    found = search(ADS, space(), settings(), 8, *place, fit=fit_small_dropouts)
    again = search(ADS, space(), settings(), 8, *place, fit=Fits())
    assert tried(found) == tried(again)
    assert found.user_attrs[INTERRUPTED] == 0
    table = trials_table(found, space())
    failed = table[table["state"] == "failed"]
    assert 0 < len(failed) < len(table) == 8
    assert failed[["rmse", "behind_base"]].isna().all(axis=None)
    assert set(failed["failure"]) == {"training diverged"}
    assert set(table["failure"][table["state"] != "failed"]) == {""}


def test_a_base_that_cannot_be_trained_ends_the_search(place: Place) -> None:
    def fit(*_: object) -> Predict:
        raise ModelError("training diverged")

    with pytest.raises(ModelError):
        search(ADS, space(), settings(), 2, *place, fit=fit)
    assert len(search(ADS, space(), settings(), 2, *place, fit=Fits()).trials) == 2


def test_too_few_sellers_end_the_search(place: Place) -> None:
    with pytest.raises(GateRefusal, match="too few for 3 folds"):
        search(ADS.assign(user_id="one"), space(), settings(), 2, *place, fit=Fits())


def test_all_kinds_of_values_come_back_from_the_database(place: Place) -> None:
    dimensions = {
        "training.hidden": Dimension(choices=[[32, 16], [8]]),
        "training.batch_size": Dimension(choices=[64, 128]),
        "training.epochs_max": Dimension(low=1, high=5, step=2),
        "training.learning_rate": Dimension(low=0.001, high=0.1, log=True),
    }
    asked, searched = settings(space=dimensions), space(dimensions)
    fits = Fits()
    search(ADS, searched, asked, 4, *place, fit=fits)
    found = search(ADS, searched, asked, 6, *place, fit=fits)
    configs = [searched.config(searched.values(trial.params)) for trial in found.trials]
    assert configs[0] == BASE
    assert all(config in fits.configs for config in configs)


def test_a_damaged_database_is_named(tmp_path: Path) -> None:
    database = tmp_path / "tuning.db"
    database.write_bytes(b"no database" * 100)
    with pytest.raises(StateError, match=r"tuning\.db \(file is not a database\): move it away"):
        search(ADS, space(), settings(), 1, database, "damaged", fit=Fits())


def test_a_database_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StateError, match=r"cannot write .*file/tuning\.db: "):
        search(ADS, space(), settings(), 1, tmp_path / "file" / "tuning.db", "x", fit=Fits())


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
