"""Cross-validation that is the same for everybody: folds of sellers, and what each model did."""

from __future__ import annotations

import pickle
import tempfile
import time
import timeit
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal, Protocol, Self

import numpy as np
import pandas as pd

from benchmarks.report import Say
from demand.evaluation.metrics import Floats, Integers
from demand.schema.columns import TARGET


class Model(Protocol):
    """What is trained, as scikit-learn's; a ``save`` of its own writes a folder."""

    def fit(self, ads: pd.DataFrame) -> Self:
        """Learn from typed ads with their target."""

    def predict(self, ads: pd.DataFrame) -> Floats:
        """Return a deal probability for each ad without its target, shape (rows,)."""


Prepare = Callable[[pd.DataFrame], Callable[[int], Model]]
_Trained = tuple[Floats, dict[str, Floats], Floats]


@dataclass(frozen=True)
class Entry:
    """A line of the table, with a key in ``--models`` and a name; one training a seed.

    ``prepare`` leads from the training ads of the first fold to what makes a model from a
    seed: here a search of settings belongs, which so never sees the test ads of that fold.
    Entries that have it in common share what they have trained.

    Where they are to ``average``, the seeds' answers are averaged, and their times and sizes
    added up; else ``each`` seed is a model by itself, and its figures are averaged.
    ``missing`` are columns that are also taken away from the test ads, one at a time. One that
    is ``optional`` is run only if it is asked for.
    """

    key: str
    name: str
    prepare: Prepare
    seeds: tuple[int, ...] = (0,)
    combine: Literal["average", "each"] = "average"
    missing: tuple[str, ...] = ()
    optional: bool = False


@dataclass(frozen=True)
class Outcome:
    """All out-of-fold answers of one entry.

    ``predicted`` has shape (1, rows), or (seeds, rows) where each seed counts by itself;
    ``without`` the answers without a column, shape (rows,), by its name. ``costs`` are
    seconds of training, microseconds an ad in a batch, kilobytes on disk: medians over the
    folds. The search of settings took ``search_s`` seconds, once.
    """

    entry: Entry
    predicted: Floats
    without: dict[str, Floats]
    costs: Floats
    search_s: float
    chosen: str


def seller_folds(sellers: pd.Series, folds: int, seed: int) -> Integers:
    """Return the fold of each ad, shape (rows,): sellers at random, a seller in one fold."""
    codes = pd.factorize(sellers, use_na_sentinel=False)[0]
    drawn = np.random.default_rng(seed).permutation(codes.max(initial=-1) + 1)
    return np.asarray(drawn[codes] % folds, dtype=np.int64)


def cross_validate(
    entries: list[Entry], ads: pd.DataFrame, fold: Integers, say: Say = lambda _: None
) -> Iterator[Outcome]:
    """Yield the outcome of each entry in turn.

    Parameters
    ----------
    ads
        Typed ads with their target.
    fold
        Of each ad, shape (rows,), from :func:`seller_folds`.
    say
        Hears of each entry when it begins.
    """

    @cache
    def prepared(prepare: Prepare) -> tuple[Callable[[int], Model], float]:
        started = time.perf_counter()
        make = prepare(ads[fold != 0].reset_index(drop=True))
        return make, time.perf_counter() - started

    @cache
    def trained(prepare: Prepare, seed: int, missing: tuple[str, ...]) -> _Trained:
        return _trained(prepared(prepare)[0], seed, ads, fold, missing)

    for number, entry in enumerate(entries):
        say(f"{entry.name} ({number + 1}/{len(entries)})")
        make, search_s = prepared(entry.prepare)
        of_seeds = [trained(entry.prepare, seed, entry.missing) for seed in entry.seeds]
        all_predicted, all_without, all_costs = zip(*of_seeds, strict=True)
        predicted, costs = np.array(all_predicted), np.array(all_costs)
        average = entry.combine == "average"
        yield Outcome(
            entry,
            predicted.mean(axis=0, keepdims=True) if average else predicted,
            {name: np.mean([one[name] for one in all_without], axis=0) for name in entry.missing},
            np.median(costs.sum(axis=0) if average else costs.mean(axis=0), axis=0),
            search_s,
            str(getattr(make(0), "settings", "")),
        )


def _trained(
    make: Callable[[int], Model],
    seed: int,
    ads: pd.DataFrame,
    fold: Integers,
    missing: tuple[str, ...],
) -> _Trained:
    """Return a seed's answers, those without a column by its name, and costs, (folds, 3)."""
    predicted, costs = np.empty(len(ads)), []
    without = {name: np.empty(len(ads)) for name in missing}
    for part in range(fold.max() + 1):
        here = fold == part
        train = ads[~here].reset_index(drop=True)
        test = ads[here].drop(columns=TARGET).reset_index(drop=True)
        started = time.perf_counter()
        model = make(seed).fit(train)
        seconds = time.perf_counter() - started
        predicted[here] = model.predict(test)
        # An absent column and one of nulls are the same to a Predictor.
        for name, answers in without.items():
            answers[here] = model.predict(test.drop(columns=name))
        best = min(timeit.repeat(lambda: model.predict(test), number=1, repeat=3))  # noqa: B023
        costs.append((seconds, 1e6 * best / len(test), size_on_disk(model) / 1024))
    return predicted, without, np.array(costs)


def size_on_disk(model: object) -> int:
    """Return the bytes of a saved model: of the folder that it saves, or of a pickle."""
    save = getattr(model, "save", None)
    if save is None:
        return len(pickle.dumps(model))
    with tempfile.TemporaryDirectory() as parent:
        save(Path(parent) / "model")
        return sum(path.stat().st_size for path in Path(parent).rglob("*") if path.is_file())
