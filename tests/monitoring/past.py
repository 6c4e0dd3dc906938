"""A production log whose answers were given some time ago."""

from __future__ import annotations

import datetime
import json

import numpy as np
import pandas as pd

from demand.production_log.entries import Answered, entries_of
from demand.production_log.outcomes import Outcome
from demand.production_log.store import current_log
from demand.registry.packaging import records
from demand.schema.arrays import Floats
from demand.schema.columns import TARGET
from demand.schema.records import typed_records
from demand.workspace.workspace import Workspace

NOW = datetime.datetime(2026, 6, 1, 12, tzinfo=datetime.UTC)  # a Monday


def answer_ago(
    workspace: Workspace,
    days: float,
    ads: pd.DataFrame,
    answers: Floats,
    version: str = "1",
    now: datetime.datetime = NOW,
    shadow: tuple[str, Floats] | None = None,
) -> None:
    """Let labelled ads have been answered so many days ago, and report their outcomes.

    ``shadow`` is the version that answered them, too, and its answers.
    """
    at = now - datetime.timedelta(days=days)
    sent = records(ads.drop(columns=TARGET))
    for ad, item_id in zip(sent, ads["item_id"], strict=True):
        ad["item_id"] = item_id
    request = f"{at:%Y%m%d}-{version}"
    interval = np.zeros(len(ads)), np.ones(len(ads))
    told = (request, version, typed_records(sent), answers, (), interval)
    answered = Answered(at.timestamp(), *told)
    both = [answered]
    if shadow is not None:
        name, others = shadow
        both.append(answered._replace(model_version=name, probabilities=others, shadow=True))
    line = json.dumps(entries_of(both, b"s" * 32), ensure_ascii=False)
    workspace.production_log.mkdir(parents=True, exist_ok=True)
    segment = workspace.production_log / f"{at:%Y-%m-%d}.{request}.jsonl"
    segment.write_text(f"{line}\n", encoding="utf-8")
    log = current_log(workspace)
    assert log is not None
    log.add_outcomes(
        Outcome(item_id=item_id, deal_probability=float(target))
        for item_id, target in zip(ads["item_id"], ads[TARGET], strict=True)
    )


def new_ads(ads: pd.DataFrame, name: str) -> pd.DataFrame:
    """Return the same ads under other ids."""
    return ads.assign(item_id=[f"{name}-{row}" for row in range(len(ads))])


def flat(share: float, rows: int) -> Floats:
    """Return the same answer for all ads."""
    return np.full(rows, share)
