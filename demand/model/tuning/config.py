"""All of ``configs/tuning.yaml``, and the search space that it spans around a training config."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import Field, ValidationError, model_validator

from demand.config import Count, Seed, Settings, TrainingConfig
from demand.errors import ConfigError

if TYPE_CHECKING:
    from optuna import Trial

Number = int | float
# What else the training config has decides which ads a trial is measured on, or how lucky it is.
SECTIONS = ("features", "training")


class Dimension(Settings):
    """What one key of the training config may become: a range of numbers, or choices."""

    low: Number | None = None  # both ends belong to the range
    high: Number | None = None
    log: bool = False  # draw evenly on the logarithmic scale
    step: Annotated[Number, Field(gt=0)] | None = None  # only low, low + step, … up to high
    choices: Annotated[list[Any], Field(min_length=2)] | None = None  # any values, instead

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        """Refuse what is neither a range nor choices, or both, or a range without inside."""
        if self.choices is not None:
            if self.log or (self.low, self.high, self.step) != (None, None, None):
                raise ValueError("give either low and high, or choices")
            if any(choice in self.choices[:place] for place, choice in enumerate(self.choices)):
                raise ValueError("a choice stands twice")
        elif self.low is None or self.high is None:
            raise ValueError("give low and high, or choices")
        elif not self.low < self.high:
            raise ValueError("low must be below high")
        elif self.log and (self.low <= 0 or self.step is not None):
            raise ValueError("log needs a low above 0, and no step")
        elif not self.contains(self.high):
            raise ValueError("step must divide high - low")
        return self

    def contains(self, value: Any) -> bool:
        """Say whether the value can be drawn."""
        if self.low is None or self.high is None:
            return value in (self.choices or [])
        if not isinstance(value, Number) or not self.low <= value <= self.high:
            return False
        steps = (value - self.low) / self.step if self.step is not None else 0
        return abs(steps - round(steps)) < 1e-9 * max(1.0, steps)

    def extremes(self) -> Iterator[tuple[str, Any]]:
        """Yield the values that are valid only if all others are, each with its name."""
        for choice in self.choices or []:
            yield "the choice", choice
        if self.low is not None:
            yield from (("low", self.low), ("high", self.high))
            if self.step is not None:
                yield "low + step", self.low + self.step


class PrunerSettings(Settings):
    """When a trial is stopped before its last fold.

    ``median``: when it is worse than half of the trials before it on the same folds.
    ``halving``: when it is not among the best ``1 / reduction_factor`` after 1,
    ``reduction_factor``, … times ``folds_min`` folds. ``none``: never.
    """

    kind: Literal["median", "halving", "none"] = "median"
    folds_min: Count = 2  # no trial is stopped before so many folds
    startup_trials: Count = 5  # with median: so many whole trials come before any is stopped
    reduction_factor: Annotated[int, Field(ge=2)] = 2


class TuningConfig(Settings):
    """What is searched, and how; the training config ``base`` is where it starts."""

    base: str  # file of the training config, relative to the folder of this one
    # Dotted keys of the training config, and what they may become.
    space: Annotated[dict[str, Dimension], Field(min_length=1)]
    folds: Annotated[int, Field(ge=2)] = 5  # by seller, of the training and validation rows
    seed: Seed = 7  # of the folds and of the search
    trials: Count = 30  # the base included; --trials overrules it
    # After so many seconds no further trial is begun; null: no limit.
    timeout_s: Annotated[float, Field(ge=1.0)] | None = None
    pruner: PrunerSettings = PrunerSettings()


@dataclass(frozen=True)
class SearchSpace:
    """The training configs that can be reached from ``base``, by dotted keys of it.

    Raises
    ------
    ConfigError
        A key is none of the training config's or does not change a model's answers, or a
        bound or choice is not valid there, or the base lies outside. All problems are
        listed at once.
    """

    base: TrainingConfig
    dimensions: Mapping[str, Dimension]

    def __post_init__(self) -> None:
        found = {key: self._problem(key, d) for key, d in self.dimensions.items()}
        problems = [f"  space.{key}: {problem}" for key, problem in found.items() if problem]
        if problems:
            raise ConfigError("the search space is wrong:\n" + "\n".join(problems))

    def base_params(self) -> dict[str, Any]:
        """Return the base's own values as Optuna's parameters."""
        known = self._known()
        return {
            key: known[key] if dimension.choices is None else _as_text(known[key])
            for key, dimension in self.dimensions.items()
        }

    def suggest(self, trial: Trial) -> dict[str, Any]:
        """Return the values of a trial, by dotted key."""
        for key, d in self.dimensions.items():
            if d.choices is not None:
                # As text, since Optuna stores neither lists nor mappings.
                trial.suggest_categorical(key, [_as_text(choice) for choice in d.choices])
            elif type(self._known()[key]) is int:
                trial.suggest_int(key, d.low, d.high, step=d.step or 1, log=d.log)
            else:
                trial.suggest_float(key, d.low, d.high, step=d.step, log=d.log)
        return self.values(trial.params)

    def values(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """Return Optuna's parameters as values of the training config, by dotted key."""
        return {
            key: params[key] if dimension.choices is None else json.loads(params[key])
            for key, dimension in self.dimensions.items()
        }

    def config(self, values: Mapping[str, Any]) -> TrainingConfig:
        """Return the base with other values, by dotted key.

        Raises
        ------
        ConfigError
            The values are not valid, or not together.
        """
        raw = self.base.model_dump()
        for key, value in values.items():
            section, name = key.split(".")
            raw[section][name] = value
        try:
            return TrainingConfig.model_validate(raw)
        except ValidationError as error:
            raise ConfigError(str(error.errors()[0]["msg"])) from error

    def _known(self) -> dict[str, Any]:
        """Return all values that can be searched, by dotted key."""
        return {
            f"{section}.{name}": value
            for section in SECTIONS
            for name, value in getattr(self.base, section)
        }

    def _problem(self, key: str, dimension: Dimension) -> str | None:
        """Say what is wrong with a key, its bounds or choices, or the base's place among them."""
        known = self._known()
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1, cutoff=0.5)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            return f"the training config has no such key below {' and '.join(SECTIONS)}{hint}"
        for name, value in dimension.extremes():
            try:
                self.config({key: value})
            except ConfigError as error:
                return f"{name} is {value!r}, which the training config refuses: {error}"
        if not dimension.contains(known[key]):
            return f"the base's own value {known[key]!r} is not among what is searched: include it"
        return None


def _as_text(choice: Any) -> str:
    return json.dumps(choice, ensure_ascii=False)
