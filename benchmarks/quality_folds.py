"""Cross-validation that is the same for everybody: folds of sellers, and what each model did."""

from __future__ import annotations

import pickle
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt
import pandas as pd

from benchmarks.fidelity_models import Floats
from demand.ads import TARGET

Integers = npt.NDArray[np.int64]


class Model(Protocol):
    """What was trained: answers ads that have no target."""

    def predict(self, ads: pd.DataFrame) -> Floats:
        """Return a deal probability an ad, shape (rows,)."""


@runtime_checkable
class Saved(Protocol):
    """A model with a folder of its own, as the Predictor; all others are pickled."""

    def save(self, folder: Path) -> None:
        """Write the folder."""


Step = Callable[[str, str], None]
# Training ads with their target, test ads without it, and a seed.
Fit = Callable[[pd.DataFrame, pd.DataFrame, int], tuple[Floats, Model]]


@dataclass(frozen=True)
class Prepared:
    """A way to train, and the settings that a search chose for it."""

    fit: Fit
    chosen: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Family:
    """A way to train; entries of one family share what they have trained.

    Parameters
    ----------
    name
        Of the family, unique.
    prepare
        From the training ads of the first fold to the way to train: here a search of
        settings belongs, which so never sees the test ads of that fold.
    missing
        Columns that are also taken away from the test ads, one at a time.
    """

    name: str
    prepare: Callable[[pd.DataFrame], Prepared]
    missing: tuple[str, ...] = ()


@dataclass(frozen=True)
class Entry:
    """A line of the table.

    Parameters
    ----------
    key, name
        In ``--models``, and in the table.
    seeds
        One training each.
    combine
        ``average``: the seeds' answers are averaged, and their times and sizes added up.
        ``each``: every seed is a model by itself, and its figures are averaged.
    """

    key: str
    name: str
    family: Family
    seeds: tuple[int, ...] = (0,)
    combine: Literal["average", "each"] = "average"


@dataclass(frozen=True)
class Member:
    """One training on one fold: answers for the test ads, and what they cost.

    ``without`` has the answers for test ads that lack a column, by its name.
    """

    predicted: Floats
    without: dict[str, Floats]
    seconds: float
    microseconds: float
    kilobytes: float


@dataclass(frozen=True)
class Outcome:
    """All out-of-fold answers of one entry.

    Parameters
    ----------
    predicted
        Shape (1, rows), or (seeds, rows) where each seed counts by itself.
    without
        Answers without one column, shape (rows,), by its name.
    seconds, microseconds, kilobytes
        Training, prediction an ad in a batch, size on disk: medians over the folds.
    search_seconds, chosen
        Of the family's search of settings, once, and what it chose.
    """

    entry: Entry
    predicted: Floats
    without: dict[str, Floats]
    seconds: float
    microseconds: float
    kilobytes: float
    search_seconds: float
    chosen: dict[str, Any]


def seller_folds(sellers: pd.Series, folds: int, seed: int) -> Integers:
    """Return the fold of each ad, shape (rows,): sellers at random, a seller in one fold."""
    codes = pd.factorize(sellers, use_na_sentinel=False)[0]
    drawn = np.random.default_rng(seed).permutation(codes.max(initial=-1) + 1)
    return np.asarray(drawn[codes] % folds, dtype=np.int64)


def cross_validate(
    entries: list[Entry],
    ads: pd.DataFrame,
    fold: Integers,
    step: Step = lambda _name, _done: None,
) -> Iterator[Outcome]:
    """Yield the outcome of each entry in turn.

    Parameters
    ----------
    ads
        Typed ads with their target.
    fold
        Of each ad, shape (rows,), from :func:`seller_folds`.
    step
        Called after a search and after each training, with the entry's name and what
        was done.
    """
    prepared: dict[str, tuple[Prepared, float]] = {}
    members: dict[tuple[str, int, int], Member] = {}
    for entry in entries:
        family = entry.family
        if family.name not in prepared:
            started = time.perf_counter()
            way = family.prepare(ads[fold != 0].reset_index(drop=True))
            prepared[family.name] = way, time.perf_counter() - started
            step(entry.name, "settings")
        way, search_seconds = prepared[family.name]
        by_fold = []
        for number in range(fold.max() + 1):
            train = ads[fold != number].reset_index(drop=True)
            test = ads[fold == number].drop(columns=TARGET).reset_index(drop=True)
            for seed in entry.seeds:
                place = family.name, number, seed
                if place not in members:
                    members[place] = measured(way.fit, train, test, seed, family.missing)
                    step(entry.name, f"fold {number + 1}, seed {seed}")
            by_fold.append([members[family.name, number, seed] for seed in entry.seeds])
        yield _outcome(entry, by_fold, fold, search_seconds, way.chosen)


def steps_of(entries: list[Entry], folds: int) -> int:
    """Return how often :func:`cross_validate` calls ``step``."""
    trained = {(entry.family.name, seed) for entry in entries for seed in entry.seeds}
    return folds * len(trained) + len({entry.family.name for entry in entries})


def measured(
    fit: Fit, train: pd.DataFrame, test: pd.DataFrame, seed: int, missing: tuple[str, ...]
) -> Member:
    """Train once, and measure time, size and the answers without each column."""
    started = time.perf_counter()
    predicted, model = fit(train, test, seed)
    seconds = time.perf_counter() - started
    asked = []
    for _ in range(3):
        started = time.perf_counter()
        model.predict(test)
        asked.append(time.perf_counter() - started)
    # An absent column and one of nulls are the same to a Predictor.
    without = {name: model.predict(test.drop(columns=name)) for name in missing}
    return Member(
        predicted,
        without,
        max(seconds - min(asked), 0.0),
        1e6 * min(asked) / len(test),
        size_on_disk(model) / 1024,
    )


def size_on_disk(model: Model) -> int:
    """Return the bytes of a saved model: of the Predictor's folder, or of a pickle."""
    if not isinstance(model, Saved):
        return len(pickle.dumps(model))
    with tempfile.TemporaryDirectory() as parent:
        folder = Path(parent) / "predictor"
        model.save(folder)
        return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _outcome(
    entry: Entry,
    by_fold: list[list[Member]],
    fold: Integers,
    search_seconds: float,
    chosen: dict[str, Any],
) -> Outcome:
    """Put the folds together again."""
    every = np.empty((len(entry.seeds), len(fold)))
    without = {name: np.zeros(len(fold)) for name in entry.family.missing}
    for number, members in enumerate(by_fold):
        here = fold == number
        every[:, here] = [member.predicted for member in members]
        for name, answers in without.items():
            answers[here] = np.mean([member.without[name] for member in members], axis=0)
    average = entry.combine == "average"
    total = np.sum if average else np.mean
    seconds, microseconds, kilobytes = (
        float(np.median([total([getattr(member, cost) for member in ms]) for ms in by_fold]))
        for cost in ("seconds", "microseconds", "kilobytes")
    )
    return Outcome(
        entry,
        every.mean(axis=0, keepdims=True) if average else every,
        without,
        seconds,
        microseconds,
        kilobytes,
        search_seconds,
        chosen,
    )
