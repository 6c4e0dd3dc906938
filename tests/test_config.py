from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml
from pydantic import BaseModel, ValidationError

from demand.config import Settings, TrainingConfig, load_config
from demand.errors import ConfigError
from demand.workspace.workspace import PROJECT_ROOT

SHIPPED = PROJECT_ROOT / "configs" / "training.yaml"


def keys(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    for name, field in model.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            yield from keys(kind, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}"


KEYS = sorted(keys(TrainingConfig))


def load(folder: Path, text: str) -> TrainingConfig:
    path = folder / "my.yaml"
    path.write_text(text, encoding="utf-8")
    return load_config(path, TrainingConfig)


def yaml_of(key: str, value: Any) -> str:
    whole: Any = value
    for part in reversed(key.split(".")):
        whole = {part: whole}
    return str(yaml.safe_dump(whole, allow_unicode=True))


def test_the_shipped_config_holds_the_defaults() -> None:
    assert load_config(SHIPPED, TrainingConfig) == TrainingConfig()


def test_the_shipped_config_mentions_every_key_with_a_comment() -> None:
    text = SHIPPED.read_text(encoding="utf-8")
    mentioned = pd.json_normalize(yaml.safe_load(text)).columns
    assert set(mentioned) == set(KEYS)


@pytest.mark.parametrize("text", ["", "# nothing\n", "{}", "seed: 42\n"])
def test_what_is_left_out_keeps_its_default(tmp_path: Path, text: str) -> None:
    assert load(tmp_path, text) == TrainingConfig()


def test_a_value_is_taken(tmp_path: Path) -> None:
    config = load(tmp_path, "gate:\n  rmse_threshold: 0.1\n")
    assert config.gate.rmse_threshold == 0.1
    assert config.gate.confidence == TrainingConfig().gate.confidence


def test_a_whole_number_is_a_number(tmp_path: Path) -> None:
    assert load(tmp_path, "gate: {rmse_threshold: 1}").gate.rmse_threshold == 1.0


@pytest.mark.parametrize("key", KEYS)
def test_a_typo_in_a_key_is_named_with_the_near_one(tmp_path: Path, key: str) -> None:
    typo = key[:-1]
    with pytest.raises(ConfigError) as raised:
        load(tmp_path, yaml_of(typo, 1))
    name = key.split(".")[-1]
    assert f"{typo}: there is no such key; did you mean {name!r}?" in str(raised.value)
    assert "my.yaml" in str(raised.value)


def test_a_typo_in_a_section_is_named_with_the_near_one(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match="trainning: there is no such key; did you mean 'training"
    ):
        load(tmp_path, "trainning: {epochs_max: 3}")


def test_a_key_like_no_other_is_answered_with_those_there_are(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"gate.qqq: there is no such key; known: rmse_threshold"):
        load(tmp_path, "gate: {qqq: 1}")


def test_all_problems_are_told_at_once(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as raised:
        load(tmp_path, 'seed: "x"\ngate: {rmse_treshold: 1, confidence: 2}\n')
    assert all(key in str(raised.value) for key in ("seed", "gate.rmse_treshold", "confidence"))


# Any text may be the name of a file or a host.
WRONG = [
    (key, value)
    for key in KEYS
    for value in ("0,25", float("nan"), float("inf"), -1, {"a": 1}, [None])
    if key not in ("data.file", "deploy.host") or value != "0,25"
]


@pytest.mark.parametrize(("key", "value"), WRONG)
def test_a_wrong_value_is_told_with_its_key(tmp_path: Path, key: str, value: Any) -> None:
    with pytest.raises(ConfigError, match=key.replace(".", r"\.")):
        load(tmp_path, yaml_of(key, value))


def test_a_decimal_comma_is_quoted(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"gate.rmse_threshold: .* but it is '0,25'"):
        load(tmp_path, "gate: {rmse_threshold: '0,25'}")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("seed", True),
        ("seed", 1.5),
        ("seed", 2**32),
        ("data.demo_seed", 2**64),
        ("training.hidden", []),
        ("training.hidden", [0]),
        ("training.dropout", 1.0),
        ("split.test_share", 0.0),
        ("split.by", "colour"),
        ("validation.quarantine_share_max", 1.01),
        ("features.statistics_folds", 1),
        ("gate.confidence", 1.0),
        ("gate.rmse_threshold", 0),
        ("deploy.port", 65_536),
        ("checks.giskard_scan", "yes"),
    ],
)
def test_a_value_out_of_bounds_is_told_with_its_key(tmp_path: Path, key: str, value: Any) -> None:
    with pytest.raises(ConfigError, match=f"{key}.* but it is"):
        load(tmp_path, yaml_of(key, value))


@pytest.mark.parametrize(
    "text",
    [
        "a: [1",
        "\tseed: 1",
        "seed: 2017-99-99",
        "seed: !!python/object/apply:os.getcwd []",
        "[" * 100_000,
        "a: *b",
    ],
    ids=["bracket", "tab", "date", "object", "depth", "anchor"],
)
def test_what_is_no_yaml_is_told(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigError, match=r"the config .*my.yaml is not valid YAML"):
        load(tmp_path, text)


@pytest.mark.parametrize(("text", "kind"), [("- 1", "list"), ("hello", "str"), ("5", "int")])
def test_what_holds_no_sections_is_told(tmp_path: Path, text: str, kind: str) -> None:
    with pytest.raises(ConfigError, match=f"must hold sections, not a {kind}"):
        load(tmp_path, text)


@pytest.mark.parametrize("text", ["1: 2", "null: 2", "gate: {1: 2}", "gate: {true: 1}", "gate: 5"])
def test_a_key_that_is_no_word_is_an_error(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigError, match=r"my.yaml is wrong"):
        load(tmp_path, text)


def test_another_encoding_is_told(tmp_path: Path) -> None:
    (tmp_path / "my.yaml").write_bytes("# порог\nseed: 1".encode("cp1251"))
    with pytest.raises(ConfigError, match="is not valid YAML"):
        load_config(tmp_path / "my.yaml", TrainingConfig)


@pytest.mark.parametrize("name", ["absent.yaml", "."])
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError, match=f"cannot read the config {tmp_path / name}: "):
        load_config(tmp_path / name, TrainingConfig)


def test_a_config_cannot_be_changed() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        TrainingConfig().seed = 1  # type: ignore[misc]


def test_any_model_can_be_loaded(tmp_path: Path) -> None:
    class Small(Settings):
        size: int = 1

    (tmp_path / "small.yaml").write_text("size: 3")
    assert load_config(tmp_path / "small.yaml", Small).size == 3
