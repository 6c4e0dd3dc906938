"""All of ``configs/tuning.yaml``."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from demand.config import Count, Positive, Seed, Settings

Number = int | float


class Dimension(Settings):
    """What one key of the training config may become: a range of numbers, or choices.

    Parameters
    ----------
    low, high
        Both ends belong to the range.
    log
        Draw evenly on the logarithmic scale.
    step
        Only ``low``, ``low + step``, … up to ``high``.
    choices
        Any values, instead of a range.
    """

    low: Number | None = None
    high: Number | None = None
    log: bool = False
    step: Annotated[Number, Field(gt=0)] | None = None
    choices: Annotated[list[Any], Field(min_length=2)] | None = None

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        """Refuse what is neither a range nor choices, or both, or a range without inside."""
        if self.choices is not None:
            if self.log or (self.low, self.high, self.step) != (None, None, None):
                raise ValueError("give either low and high, or choices")
            if any(choice in self.choices[:place] for place, choice in enumerate(self.choices)):
                raise ValueError("a choice stands twice")
            return self
        if self.low is None or self.high is None:
            raise ValueError("give low and high, or choices")
        if not self.low < self.high:
            raise ValueError("low must be below high")
        if self.log and (self.low <= 0 or self.step is not None):
            raise ValueError("log needs a low above 0, and no step")
        if self.step is not None and not is_whole((self.high - self.low) / self.step):
            raise ValueError("step must divide high - low")
        return self

    @property
    def bounds(self) -> tuple[Number, Number] | None:
        """Both ends of a range; None for choices."""
        return None if self.low is None or self.high is None else (self.low, self.high)


class PrunerSettings(Settings):
    """When a trial is stopped before its last fold.

    Parameters
    ----------
    kind
        ``median``: when it is worse than half of the trials before it on the same folds.
        ``halving``: when it is not among the best ``1 / reduction_factor`` after 1,
        ``reduction_factor``, … times ``folds_min`` folds. ``none``: never.
    folds_min
        No trial is stopped before so many folds.
    startup_trials
        With ``median``: so many whole trials come before any is stopped.
    """

    kind: Literal["median", "halving", "none"] = "median"
    folds_min: Count = 2
    startup_trials: Count = 5
    reduction_factor: Annotated[int, Field(ge=2)] = 2


class TuningConfig(Settings):
    """What is searched, and how; the training config ``base`` is where it starts.

    Parameters
    ----------
    base
        File of the training config, relative to the folder of this one.
    folds
        By seller, of the training and validation rows.
    seed
        Of the folds and of the search.
    trials
        How many, the base included; ``--trials`` overrules it.
    timeout_s
        After so many seconds no further trial is begun; null: no limit.
    space
        Dotted keys of the training config, and what they may become.
    """

    base: str
    space: Annotated[dict[str, Dimension], Field(min_length=1)]
    folds: Annotated[int, Field(ge=2)] = 5
    seed: Seed = 7
    trials: Count = 30
    timeout_s: Positive | None = None
    pruner: PrunerSettings = PrunerSettings()


def is_whole(number: float) -> bool:
    """Say whether a number is an integer but for rounding."""
    return abs(number - round(number)) < 1e-9 * max(1.0, abs(number))
