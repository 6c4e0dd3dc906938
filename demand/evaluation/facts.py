"""What a model card is made of."""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd


@dataclass(frozen=True)
class Fits:
    """Which fit was judged, and which one serves.

    The *held-out fit* learnt from the training ads, stopped early on the validation ads and
    was judged on test ads it had not seen. With ``refit`` another one serves, the *served
    fit*, which learnt from all of them and so has no test figures of its own.

    Parameters
    ----------
    refit
        Whether the model that serves was fitted again on all ads.
    epochs
        How many early stopping chose; the served fit's too.
    rows
        Ads that the served fit learnt from.
    difference
        Mean absolute difference between the answers of the two fits on the test ads.
    """

    refit: bool
    epochs: int | None = None
    rows: int | None = None
    difference: float | None = None


@dataclass(frozen=True)
class Coverage:
    """Which share of the test ads has its truth within the model's prediction interval.

    Parameters
    ----------
    overall
        Of all test ads, in [0, 1].
    by_parent_category
        The same for each parent category.
    nominal
        What the intervals promise, in (0, 1).
    """

    overall: float
    by_parent_category: Mapping[str, float] = field(default_factory=dict)
    nominal: float | None = None


@dataclass(frozen=True)
class ModelFacts:
    """All that a card is made of. What is absent is left out; NaN is "not measured".

    Parameters
    ----------
    metrics, compared, slices, calibration
        As in :class:`demand.evaluation.evaluate.Evaluation`, of the held-out fit.
    rows
        ``rows_train``, ``rows_validation``, ``rows_test``.
    lineage
        ``data_file``, ``data_md5``, ``data_rows``, ``dvc_md5``, ``git_commit``; empty where
        unknown.
    config
        Settings by section, JSON-able. A section ``gate`` says what the intervals are.
    fits
        Which fit the figures belong to.
    demo
        The data are the project's generated ads.
    data_warnings, check_warnings
        Of the data validation and of the model's checks, one line each.
    plots
        PNG bytes by name, for the HTML page; the names of ``PLOT_TITLES``, or others.
    size_bytes
        Of the saved model.
    version
        In the registry.
    trained
        The day of the training.
    dates
        First and last activation date of the ads, as ISO texts.
    coverage
        Of prediction intervals, where the model gives some.
    """

    metrics: Mapping[str, float]
    compared: pd.DataFrame
    slices: pd.DataFrame
    calibration: pd.DataFrame
    rows: Mapping[str, int]
    lineage: Mapping[str, str]
    config: Mapping[str, Any]
    fits: Fits
    demo: bool
    data_warnings: Sequence[str] = ()
    check_warnings: Sequence[str] = ()
    plots: Mapping[str, bytes] = field(default_factory=dict)
    size_bytes: int | None = None
    version: str | None = None
    trained: datetime.date | None = None
    dates: tuple[str, str] | None = None
    coverage: Coverage | None = None
