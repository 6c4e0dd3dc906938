"""The search space: dotted keys of the training config, checked before anything runs."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ValidationError

from demand.config import TrainingConfig
from demand.errors import ConfigError
from demand.lineage import model_settings
from demand.tuning.settings import Dimension, is_whole

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

# They decide which ads a trial is measured on, or how lucky it is: no matter of search.
_FIXED = {"seed", "validation", "split"}
# Digits that a value keeps: what is trained is what stands in the file.
_DIGITS = 4


@dataclass(frozen=True)
class Space:
    """Where the search may go from ``base``.

    Parameters
    ----------
    base
        The training config that the search starts from.
    dimensions
        Dotted keys of it, and what they may become.
    integers
        The keys whose ranges are of whole numbers.

    Raises
    ------
    ConfigError
        A key is none of the training config's or does not change a model's answers, or a
        bound or choice is not valid there, or the base lies outside. All problems are
        listed at once. Raised by :meth:`of`.
    """

    base: TrainingConfig
    dimensions: Mapping[str, Dimension]
    integers: frozenset[str]

    @classmethod
    def of(cls, base: TrainingConfig, dimensions: Mapping[str, Dimension]) -> Space:
        """Check the dimensions against the base."""
        known = dict(_leaves(base))
        problems = []
        for key, dimension in dimensions.items():
            found = _key_problem(key, known, base) or _range_problem(key, dimension, known, base)
            if found:
                problems.append(f"  space.{key}: {found}")
        if problems:
            raise ConfigError("the search space is wrong:\n" + "\n".join(problems))
        integers = frozenset(k for k, d in dimensions.items() if _of_integers(k, d, base))
        return cls(base, dimensions, integers)

    def distributions(self) -> dict[str, BaseDistribution]:
        """Return the dimensions as Optuna's distributions."""
        return {key: self._distribution(key, d) for key, d in self.dimensions.items()}

    def base_params(self) -> dict[str, Any]:
        """Return the base's own values as Optuna's parameters."""
        known = dict(_leaves(self.base))
        return {
            key: known[key] if dimension.choices is None else _as_text(known[key])
            for key, dimension in self.dimensions.items()
        }

    def values(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """Return Optuna's parameters as values of the config, rounded but for the base's own."""
        values: dict[str, Any] = {}
        known = dict(_leaves(self.base))
        for key, dimension in self.dimensions.items():
            value = params[key]
            if dimension.bounds is None:
                values[key] = json.loads(value)
            elif key in self.integers or value == known[key]:
                values[key] = value
            else:
                low, high = dimension.bounds
                values[key] = float(min(max(float(f"{value:.{_DIGITS}g}"), low), high))
        return values

    def config(self, values: Mapping[str, Any]) -> TrainingConfig:
        """Return the base with other values.

        Raises
        ------
        ConfigError
            The values are not valid together.
        """
        try:
            return _changed(self.base, values)
        except ValidationError as error:
            raise ConfigError(f"the trial's config is wrong: {_first(error)}") from error

    def _distribution(self, key: str, dimension: Dimension) -> BaseDistribution:
        from optuna import distributions as d

        if dimension.bounds is None:
            # As text, since Optuna stores neither lists nor mappings.
            return d.CategoricalDistribution([_as_text(c) for c in dimension.choices or []])
        if key in self.integers:
            return d.IntDistribution(*dimension.bounds, dimension.log, dimension.step or 1)
        return d.FloatDistribution(*dimension.bounds, dimension.log, dimension.step)


def _leaves(settings: BaseModel, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the dotted key and the value of each field that is no section."""
    for name in type(settings).model_fields:
        value = getattr(settings, name)
        if isinstance(value, BaseModel):
            yield from _leaves(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _key_problem(key: str, known: Mapping[str, Any], base: TrainingConfig) -> str | None:
    if key not in known:
        near = difflib.get_close_matches(key, known, n=1, cutoff=0.5)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        return f"the training config has no such key{hint}"
    sections = [name for name in model_settings(base) if name not in _FIXED]
    if key.partition(".")[0] not in sections:
        return f"it is not the model's own; search below {' and '.join(sections)}"
    return None


def _range_problem(
    key: str, dimension: Dimension, known: Mapping[str, Any], base: TrainingConfig
) -> str | None:
    """Say what is wrong with the bounds or choices, or with the base's place among them."""
    for name, value in _to_be_valid(dimension):
        refused = _refusal(base, key, value)
        if refused:
            return f"{name} is {value!r}, which the training config refuses: {refused}"
    if not _contains(dimension, known[key]):
        return f"the base's own value {known[key]!r} is not among what is searched: include it"
    return None


def _to_be_valid(dimension: Dimension) -> list[tuple[str, Any]]:
    """Return the values that prove all others, each with the name that it has there."""
    if dimension.bounds is None:
        return [("the choice", choice) for choice in dimension.choices or []]
    low, high = dimension.bounds
    second = [] if dimension.step is None else [("low + step", low + dimension.step)]
    return [("low", low), ("high", high), *second]


def _contains(dimension: Dimension, value: Any) -> bool:
    if dimension.bounds is None:
        return value in (dimension.choices or [])
    low, high = dimension.bounds
    if not isinstance(value, int | float) or not low <= value <= high:
        return False
    return dimension.step is None or is_whole((value - low) / dimension.step)


def _of_integers(key: str, dimension: Dimension, base: TrainingConfig) -> bool:
    """Say whether the field takes whole numbers only: it refuses one between two of them."""
    low, high = dimension.low, dimension.high
    if not isinstance(low, int) or not isinstance(high, int):
        return False
    return _refusal(base, key, low + 0.5) is not None


def _refusal(base: TrainingConfig, key: str, value: Any) -> str | None:
    """Return why the training config does not take the value, or None where it does."""
    try:
        _changed(base, {key: value})
    except ValidationError as error:
        return _first(error)
    return None


def _first(error: ValidationError) -> str:
    return str(error.errors()[0]["msg"])


def _changed(base: TrainingConfig, values: Mapping[str, Any]) -> TrainingConfig:
    raw = base.model_dump()
    for key, value in values.items():
        *sections, name = key.split(".")
        section = raw
        for part in sections:
            section = section[part]
        section[name] = value
    return type(base).model_validate(raw)


def _as_text(choice: Any) -> str:
    return json.dumps(choice, ensure_ascii=False)
