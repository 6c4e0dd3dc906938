from __future__ import annotations

from pathlib import Path
from typing import Any

import optuna
import pytest
import yaml

from demand.config import TrainingConfig, load_config
from demand.errors import ConfigError
from demand.model.tuning.config import Dimension, SearchSpace, TuningConfig
from demand.workspace.workspace import PROJECT_ROOT
from tests.model.tuning.made import BASE


def of(**dimensions: dict[str, Any]) -> SearchSpace:
    """Make a space below ``training``."""
    return SearchSpace(BASE, {f"training.{k}": Dimension(**d) for k, d in dimensions.items()})


def test_the_shipped_search_is_valid_for_the_shipped_training_config() -> None:
    configs = PROJECT_ROOT / "configs"
    settings = load_config(configs / "tuning.yaml", TuningConfig)
    base = load_config(configs / settings.base, TrainingConfig)
    space = SearchSpace(base, settings.space)
    assert space.config(space.values(space.base_params())) == base


def test_whole_numbers_are_suggested_where_the_config_takes_no_others() -> None:
    space = of(
        dropout={"low": 0, "high": 0.5},
        epochs_max={"low": 1, "high": 9},
        weight_decay={"low": 0, "high": 2},
    )
    values = space.suggest(optuna.create_study().ask())
    assert {key: type(value) for key, value in values.items()} == {
        "training.dropout": float,
        "training.epochs_max": int,
        "training.weight_decay": float,
    }


def test_values_become_a_config() -> None:
    space = of(
        learning_rate={"low": 0.002, "high": 0.03, "log": True},
        epochs_max={"low": 1, "high": 9, "step": 2},
        hidden={"choices": [[32, 16], [8]]},
    )
    params = {
        "training.learning_rate": 0.00512345678,
        "training.epochs_max": 5,
        "training.hidden": "[8]",
    }
    config = space.config(space.values(params))
    assert (config.training.learning_rate, config.training.epochs_max) == (0.00512345678, 5)
    assert config.training.hidden == [8]
    assert config.gate == BASE.gate


@pytest.mark.parametrize(
    ("key", "dimension", "message"),
    [
        (
            "training.droput",
            {"low": 0, "high": 0.5},
            r"no such key below features and training; did you mean 'training.dropout'",
        ),
        ("training", {"choices": [1, 2]}, r"training: the training config has no such key"),
        ("gate.rmse_threshold", {"low": 0.2, "high": 0.3}, r"no such key below features and trai"),
        ("split.test_share", {"low": 0.1, "high": 0.3}, r"no such key below features and training"),
        ("training.dropout", {"low": 0, "high": 1.0}, r"high is 1\.0, .* less than 1"),
        ("training.dropout", {"low": -0.1, "high": 0.5}, r"low is -0\.1, .* greater than"),
        ("training.epochs_max", {"low": 1, "high": 4.5}, r"high is 4\.5, .* valid integer"),
        ("training.epochs_max", {"low": 1, "high": 4, "step": 1.5}, r"low \+ step is 2\.5"),
        ("training.hidden", {"low": 1, "high": 4}, r"low is 1, .* valid list"),
        ("training.hidden", {"choices": [[32, 16], [0]]}, r"the choice is \[0\]"),
        ("training.batch_size", {"choices": [64, 256]}, r"own value 128 is not among"),
        ("training.dropout", {"low": 0.3, "high": 0.5}, r"own value 0\.2 is not among"),
        ("training.dropout", {"low": 0, "high": 0.6, "step": 0.3}, r"own value 0\.2 is not among"),
    ],
)
def test_what_the_training_config_cannot_take_is_named(
    key: str, dimension: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        SearchSpace(BASE, {key: Dimension(**dimension)})


def test_all_problems_are_told_at_once() -> None:
    with pytest.raises(ConfigError, match=r"(?s)dropout.*batch_size"):
        of(dropout={"low": 0, "high": 2}, batch_size={"choices": [0, 128]})


@pytest.mark.parametrize(
    ("dimension", "message"),
    [
        ({"low": 0.1}, "give low and high, or choices"),
        ({"low": 0.5, "high": 0.1}, "low must be below high"),
        ({"low": 0, "high": 0.5, "log": True}, "log needs a low above 0"),
        ({"low": 0, "high": 0.5, "step": 0.2}, "step must divide"),
        ({"low": 0, "choices": [1, 2]}, "either low and high, or choices"),
        ({"choices": [1]}, "at least 2"),
        ({"choices": [1, 1]}, "a choice stands twice"),
        ({"low": 0, "hihg": 0.5}, r"training.dropout.hihg: .*did you mean 'high'"),
        ({"low": "0", "high": 0.5}, "training.dropout.low"),
    ],
)
def test_a_dimension_that_is_none_is_named(
    dimension: dict[str, Any], message: str, tmp_path: Path
) -> None:
    path = tmp_path / "tuning.yaml"
    path.write_text(yaml.safe_dump({"base": "b.yaml", "space": {"training.dropout": dimension}}))
    with pytest.raises(ConfigError, match=message) as told:
        load_config(path, TuningConfig)
    assert "space.training.dropout" in str(told.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"fold": 3}, "did you mean 'folds'"),
        ({"folds": 1}, "folds"),
        ({"trials": 0}, "trials"),
        ({"timeout_s": 0.5}, "timeout_s"),
        ({"space": {}}, "space"),
        ({"pruner": {"kind": "medium"}}, r"pruner\.kind"),
        ({"pruner": {"startup": 3}}, "did you mean 'startup_trials'"),
    ],
)
def test_a_wrong_key_of_the_search_is_named(
    change: dict[str, Any], message: str, tmp_path: Path
) -> None:
    good = {"base": "b.yaml", "space": {"training.dropout": {"low": 0, "high": 0.5}}}
    path = tmp_path / "tuning.yaml"
    path.write_text(yaml.safe_dump(good | change))
    with pytest.raises(ConfigError, match=message):
        load_config(path, TuningConfig)


def test_settings_survive_the_way_through_a_pipeline() -> None:
    settings = load_config(PROJECT_ROOT / "configs" / "tuning.yaml", TuningConfig)
    assert TuningConfig.model_validate_json(settings.model_dump_json()) == settings
