"""The typed configuration of the pipelines: unknown keys and wrong kinds are errors."""

from __future__ import annotations

import difflib
import re
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, get_args, get_origin

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from demand.errors import ConfigError

Share = Annotated[float, Field(ge=0.0, le=1.0, allow_inf_nan=False)]
Positive = Annotated[float, Field(gt=0.0, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]  # as scikit-learn's; torch's may be longer


# How far a training run goes.
Until = Literal["evaluate", "promote", "deploy"]


class Settings(BaseModel):
    """Base of all sections: strict kinds, no unknown keys, immutable."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class DataSettings(Settings):
    """Where the ads come from; without ``file`` the pinned demo ads are generated."""

    file: str | None = None
    demo_rows: Count = 20_000
    demo_seed: Seed = 2017
    max_file_gb: Positive = 8.0
    cache_gb: Annotated[float, Field(ge=0.0)] = 20.0


class ValidationSettings(Settings):
    """Which findings of the data validation move rows away, warn, or stop."""

    quarantine_share_max: Share = 0.05
    min_rows: Count = 200
    missing_share_tolerance: Share = 0.15
    category_mix_tolerance: Share = 0.25
    on_drift: Literal["warn", "stop"] = "warn"


class SplitSettings(Settings):
    """How ads are divided; a seller or a duplicate never lies on two sides."""

    by: Literal["seller", "time"] = "seller"
    test_share: Annotated[float, Field(gt=0.0, lt=0.9)] = 0.2
    test_rows_max: Count = 50_000
    validation_share: Annotated[float, Field(gt=0.0, lt=0.9)] = 0.1
    validation_rows_max: Count = 20_000


Buckets = Annotated[int, Field(ge=1, le=2**24)]


class FeatureSettings(Settings):
    """How ads become arrays; where ``crosses`` is None, the number of training ads decides."""

    crosses: bool | None = None
    crosses_rows_min: Count = 25_000
    buckets: Buckets = 2**20
    cross_buckets: Buckets = 2**24
    word_letters: Count = 6
    description_letters_max: Count = 400
    price_bins: Count = 16
    piecewise_bins: Count = 8
    statistics_shrinkage: Positive = 20.0
    statistics_folds: Annotated[int, Field(ge=2)] = 10

    @property
    def table_size(self) -> int:
        """Number of hash buckets of the wide path."""
        return self.cross_buckets if self.crosses else self.buckets


class OnePassSettings(Settings):
    """How features with crosses are learnt from: ad after ad, each once."""

    wide_learning_rate: Positive = 0.05
    wide_weights: Count = 1_200_000
    hidden: list[Count] = Field(default_factory=lambda: [64, 32], min_length=1)
    learning_rate: Positive = 0.002
    batch_size: Count = 512


class TrainingSettings(Settings):
    """The network and its optimiser."""

    penalty: Positive = 0.45
    wide_weights: Count = 20_000
    hidden: list[Count] = Field(default_factory=lambda: [32, 16], min_length=1)
    dropout: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.2
    learning_rate: Positive = 0.003
    weight_decay: Annotated[float, Field(ge=0.0)] = 0.3
    batch_size: Count = 128
    epochs_max: Count = 3
    warmup_share: Annotated[float, Field(gt=0.0, le=1.0)] = 0.3
    patience: Count = 2
    threads: Count = 1
    device: Literal["auto", "cpu", "cuda"] = "cpu"
    processes: Count = 1
    one_pass: OnePassSettings = OnePassSettings()
    refit: bool = True
    refit_share_min: Share = 0.1


class CheckSettings(Settings):
    """Bounds of the behaviour checks, and which of them are critical."""

    giskard_scan: bool = True
    scan_rows: Count = 600
    slice_min_rows: Count = 100
    slice_rmse_ratio_max: Positive = 1.8
    invariance_tolerance: Positive = 0.02
    direction_tolerance: Annotated[float, Field(ge=0.0)] = 0.02
    critical: list[str] = Field(
        default_factory=lambda: [
            "predictions_in_range",
            "predictions_not_constant",
            "invariance_column_order",
            "invariance_unknown_ids",
        ]
    )


class GateSettings(Settings):
    """What a model must reach to serve."""

    rmse_threshold: Positive = 0.25
    champion_margin: Annotated[float, Field(ge=0.0)] = 0.0005
    bootstrap_samples: Annotated[int, Field(ge=100)] = 1000
    confidence: Annotated[float, Field(gt=0.5, lt=1.0)] = 0.95


class DeploySettings(Settings):
    """The model server."""

    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=1, le=65535)] = 8790
    allowed_hosts: list[str] = []
    startup_timeout_s: Positive = 120.0
    sample_ads: Count = 16
    tolerance: Positive = 1e-6


class TrainingConfig(Settings):
    """All of ``configs/training.yaml``."""

    seed: Seed = 42
    data: DataSettings = DataSettings()
    validation: ValidationSettings = ValidationSettings()
    split: SplitSettings = SplitSettings()
    features: FeatureSettings = FeatureSettings()
    training: TrainingSettings = TrainingSettings()
    checks: CheckSettings = CheckSettings()
    gate: GateSettings = GateSettings()
    deploy: DeploySettings = DeploySettings()


Config = TypeVar("Config", bound=Settings)


class _ConfigLoader(yaml.SafeLoader):
    """YAML's safe loader, but a key given twice is an error, and 1e-6 is a number."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """Refuse a key that stands twice: the first would be dropped without a word."""
        seen: set[str] = set()
        for key, _ in node.value:
            if key.value in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key.value!r} stands twice", key.start_mark
                )
            seen.add(key.value)
        return super().construct_mapping(node, deep)


# YAML 1.1 takes 1e-6, without a dot, for a text.
_ConfigLoader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?[0-9]+[eE][-+]?[0-9]+$"), list("-+0123456789")
)


def load_config(path: Path, model: type[Config]) -> Config:
    """Read a YAML file into ``model``.

    Raises
    ------
    ConfigError
        The file is absent, is no YAML, has an unknown key (the near one is
        suggested) or a value of the wrong kind. All problems are listed at once.
    """
    try:
        raw = yaml.load(path.read_text(encoding="utf-8"), Loader=_ConfigLoader)  # noqa: S506
    except OSError as error:
        raise ConfigError(f"cannot read the config {path}: {error.strerror}") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ConfigError(f"the config {path} is not valid YAML: {error}") from error
    if raw is None:
        raw = {}
    if not isinstance(raw, dict):
        raise ConfigError(f"the config {path} must hold sections, not a {type(raw).__name__}")
    try:
        return model.model_validate(raw)
    except ValidationError as error:
        problems = "\n".join(f"  {_describe(dict(e), model)}" for e in error.errors())
        raise ConfigError(f"the config {path} is wrong:\n{problems}") from error


def _describe(problem: dict[str, Any], model: type[Settings]) -> str:
    """Say one pydantic problem in the user's words, naming the key."""
    location = [part for part in problem["loc"] if isinstance(part, str)]
    key = ".".join(str(part) for part in problem["loc"])
    if problem["type"] != "extra_forbidden":
        return f"{key}: {problem['msg']}, but it is {problem['input']!r}"
    section: Any = model
    for part in location[:-1]:
        of_any_name = get_origin(section) is dict
        section = get_args(section)[1] if of_any_name else section.model_fields[part].annotation
    near = difflib.get_close_matches(location[-1], section.model_fields, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(section.model_fields)}"
    return f"{key}: there is no such key; {hint}"
