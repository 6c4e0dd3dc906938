"""Facts that model cards are made of, and a reader of their pages."""

from __future__ import annotations

import dataclasses
import datetime
import math
from functools import cache
from html.parser import HTMLParser

import numpy as np
import pandas as pd

from demand.config import GateSettings, TrainingConfig
from demand.data.lineage import model_settings
from demand.evaluation.baselines import mean_baseline
from demand.evaluation.evaluate import Evaluation, evaluate
from demand.evaluation.slices import Coverage
from demand.reports.card import ModelFacts
from demand.schema.columns import TARGET
from tests.ads_factory import make_ads

COMMIT = "0123456789abcdef0123456789abcdef01234567"
PNG = b"\x89PNG made up"
TEST_ROWS = 600


@cache
def measured() -> Evaluation:
    """Return an evaluation of made-up answers."""
    ads = make_ads(TEST_ROWS, seed=21)
    noise = np.random.default_rng(0).normal(0.0, 0.1, len(ads))
    predicted = (ads[TARGET].to_numpy() * 0.7 + noise).clip(0.0, 1.0)
    mean = mean_baseline(ads[TARGET], len(ads))
    return evaluate(
        ads,
        predicted,
        baselines=dict.fromkeys(("mean", "category_means", "reports_mlp"), mean),
        champion_predicted=predicted,
        settings=GateSettings(bootstrap_samples=100),
        seed=5,
        noise_floor_rmse=0.01,
    )


def all_facts() -> ModelFacts:
    """Return facts of which none is absent."""
    evaluation = measured()
    return ModelFacts(
        metrics=evaluation.metrics,
        compared=evaluation.compared,
        slices=evaluation.slices,
        calibration=evaluation.calibration,
        rows={"rows_train": 2100, "rows_validation": 300, "rows_test": TEST_ROWS},
        lineage={
            "data_file": "my ads.csv",
            "data_md5": "ab" * 16,
            "data_rows": "3007",
            "dvc_md5": "",
            "git_commit": COMMIT,
        },
        config=model_settings(TrainingConfig()),
        fits={"refit": True, "epochs": 2, "rows": 3000, "difference": 0.0123},
        demo=False,
        data_warnings=["fewer regions than expected"],
        check_warnings=["slice_price_decile: too much", "direction_price: the wrong way"],
        plots={"calibration": PNG, "error_by_category": PNG, "training_curve": PNG},
        size_bytes=138_912,
        trained=datetime.date(2026, 11, 24),
        coverage=Coverage(0.811, {"Услуги": 0.702, "Транспорт": math.nan}, nominal=0.8),
    )


def bare_facts() -> ModelFacts:
    """Return facts without anything that may be absent."""
    nothing = pd.DataFrame()
    return ModelFacts(
        metrics={"rmse": measured().metrics["rmse"]},
        compared=nothing,
        slices=measured().slices.head(0),
        calibration=nothing,
        rows={},
        lineage={},
        config={},
        fits={"refit": False},
        demo=False,
    )


class Page(HTMLParser):
    """What a page loads and says: its tags, addresses, and the cells of its tables."""

    VOID = frozenset({"meta", "img", "br", "hr", "link", "input"})

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.open: list[str] = []
        self.sources: list[str] = []
        self.headings: list[str] = []
        self.tables: list[list[list[str]]] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.sources += [value or "" for name, value in attrs if name in ("src", "href")]
        if tag not in self.VOID:
            self.open.append(tag)
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self.tables[-1][-1].append("")
        elif tag == "h2":
            self.headings.append("")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] in ("td", "th"):
            self.tables[-1][-1][-1] += data
        elif self.open and self.open[-1] == "h2":
            self.headings[-1] += data


def one_line(text: str) -> str:
    """Return a text without its line breaks."""
    return " ".join(text.split())


def with_slice_named(facts: ModelFacts, name: str) -> ModelFacts:
    """Return facts whose worst slice has another name."""
    slices = facts.slices.copy()
    slices.loc[slices["rmse"].idxmax(), "value"] = name
    return dataclasses.replace(facts, slices=slices)
