"""How often does monitoring cry wolf? ``python -m benchmarks.false_alarms``.

A model is trained on demo ads, then weeks of new demo ads go by: an unchanged world, and worlds
that change at once and stay changed. Each week is judged by the rules of
``configs/monitoring.yaml``, its outcomes when they are due. Beside them stand Evidently's own
defaults on the same columns: an alarm where any column drifts, or where half of them do.

A false alarm is a week in an unchanged world in which `retrain` or worse begins. A change is
noticed when the first verdict other than ok comes; it is let begin in each of many weeks.
What is not noticed counts as a week more than was waited. Late labels are to be noticed as
such: `watch`, and no more.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.report import (
    Finding,
    Grid,
    Report,
    Say,
    asked_and_found,
    machine,
    program_parser,
    run,
)
from cli.terminal import whole_number
from demand.config import TrainingConfig, load_config
from demand.demo import generate
from demand.features.feature_set import build_features
from demand.features.training_ads import TrainingAds
from demand.model.predictor import Predictor
from demand.model.training import train
from demand.monitoring.drift import drift_readings
from demand.monitoring.live_error import expected_rmse, outcome_readings
from demand.monitoring.reference import ROWS_MAX, reference_of
from demand.monitoring.rules import VERDICTS, Reading, Window, decide
from demand.production_log.config import MonitoringConfig, Verdict
from demand.production_log.store import CONFIG
from demand.schema.columns import TARGET

SEED, TRAINING_ROWS, WEEKS_A_YEAR = 11, 20_000, 52
NOTICED_WITHIN = 3
Change = Callable[[pd.DataFrame], pd.DataFrame]
Readings = dict[str, Reading]


def prices_double(ads: pd.DataFrame) -> pd.DataFrame:
    """Double all prices; ads sell as before."""
    return ads.assign(price=2.0 * ads["price"])


def category_wins(ads: pd.DataFrame) -> pd.DataFrame:
    """Let one category, a small one before, have a third of all ads."""
    rare = ads["category_name"].value_counts().index[10]
    weights = np.where(ads["category_name"] == rare, 1.0, 0.0)
    share = weights.mean()
    weights = np.where(weights > 0, (1.0 / 3.0) / share, (2.0 / 3.0) / (1.0 - share))
    return ads.sample(len(ads), replace=True, weights=weights, random_state=SEED)


def region_vanishes(ads: pd.DataFrame) -> pd.DataFrame:
    """Leave out the largest region."""
    return ads[ads["region"] != ads["region"].value_counts().index[0]]


def sellers_change(ads: pd.DataFrame) -> pd.DataFrame:
    """Let every third private seller be a shop."""
    private = (ads["user_type"] == "Private").to_numpy()
    third = np.random.default_rng(SEED).random(len(ads)) < 1.0 / 3.0
    return ads.assign(user_type=np.where(private & third, "Shop", ads["user_type"]))


def labels_come_late(ads: pd.DataFrame) -> pd.DataFrame:
    """Let only deals be reported by the time that outcomes are due."""
    return ads.assign(**{TARGET: ads[TARGET].where(ads[TARGET] > 0.5)})


CHANGES: dict[str, Change] = {
    "prices double": prices_double,
    "a category wins": category_wins,
    "a region vanishes": region_vanishes,
    "sellers change": sellers_change,
    "labels come late": labels_come_late,
}


def learn(say: Say) -> tuple[Predictor, pd.DataFrame]:
    """Return a model of demo ads, and the reference of ads that it has not learnt from."""
    say(f"training on {TRAINING_ROWS:,} demo ads")
    ads, config = generate(TRAINING_ROWS + 2 * ROWS_MAX, SEED), TrainingConfig()
    known, held = TrainingAds(ads.iloc[:TRAINING_ROWS]), ads.iloc[TRAINING_ROWS:]
    validation, judged = held.iloc[:ROWS_MAX], held.iloc[ROWS_MAX:]
    features = build_features(known, validation.reset_index(drop=True), config.features, SEED)
    predictor = train(features, config.training, SEED, ads=known).predictor
    return predictor, reference_of(judged, predictor.predict(judged))


class Weeks:
    """The readings of weeks in a world, and what Evidently's defaults say of each."""

    def __init__(
        self,
        ads: Sequence[pd.DataFrame],
        predictor: Predictor,
        reference: pd.DataFrame,
        config: MonitoringConfig,
    ) -> None:
        self.answered: list[Readings] = []
        self.mature: list[Readings] = []
        self.drifted: list[float] = []  # share of columns, by Evidently's defaults
        for week in ads:
            answers = predictor.predict(week)
            found = reference_of(week, answers).assign(
                seller=week["user_id"].to_numpy(), unknown=[[]] * len(week), low=np.nan, high=np.nan
            )
            readings = drift_readings(found, found, reference)
            self.answered.append(readings | {"rmse_expected": expected_rmse(answers, reference)})
            self.mature.append(outcome_readings(found, reference, config.monitoring, SEED))
            self.drifted.append(drifted_share(found, reference))


def drifted_share(ads: pd.DataFrame, reference: pd.DataFrame) -> float:
    """Return the share of columns that drift by Evidently's defaults."""
    from evidently import DataDefinition, Dataset
    from evidently import Report as Evidently
    from evidently.metrics import DriftedColumnsCount

    values, numbers = ["category_name", "region", "user_type"], ["price", "title_length"]
    numbers += ["description_length", "deal_probability"]
    definition = DataDefinition(numerical_columns=numbers, categorical_columns=values)
    sets = (
        Dataset.from_pandas(each[[*values, *numbers]], data_definition=definition)
        for each in (ads, reference)
    )
    found: Any = Evidently([DriftedColumnsCount()]).run(*sets).dict()["metrics"][0]["value"]
    return float(found["share"])


def verdicts(config: MonitoringConfig, weeks: Sequence[tuple[Readings, Readings]]) -> list[Verdict]:
    """Return the verdict after each week; outcomes of a week are due some weeks after it."""
    settings = config.monitoring
    late = -int(-settings.maturity_days // settings.window_days)
    most = max(rule.of for rule in config.rules)

    def window(number: int, readings: Readings) -> Window:
        return Window(start=f"week {number}", end=f"week {number + 1}", readings=readings)

    answered = [window(number, week[0]) for number, week in enumerate(weeks)]
    mature = [window(number, week[1]) for number, week in enumerate(weeks)]
    said: list[Verdict] = []
    for now in range(1, len(weeks) + 1):
        last, due = answered[max(0, now - most) : now], mature[: max(0, now - late)][-most:]
        said.append(decide("demo", config.rules, {"answered": last, "mature": due}, "").verdict)
    return said


def begun(alarms: Sequence[bool]) -> int:
    """Return in how many places alarms begin."""
    return sum(now and not before for before, now in zip([False, *alarms], alarms, strict=False))


def noticed_after(alarms: Sequence[bool]) -> float:
    """Return after how many weeks the first alarm comes."""
    return next((n + 1.0 for n, alarm in enumerate(alarms) if alarm), len(alarms) + 1.0)


def measure(unchanged: int, changed: int, ads: int, say: Say) -> Report:
    """Replay so many weeks of each world, of so many ads."""
    config = load_config(CONFIG, MonitoringConfig)
    predictor, reference = learn(say)
    every = generate(ads * (unchanged + changed), SEED + 1)
    weeks = [every.iloc[first : first + ads] for first in range(0, len(every), ads)]
    say(f"{unchanged} unchanged weeks")
    same = Weeks(weeks[:unchanged], predictor, reference, config)
    before = list(zip(same.answered, same.mature, strict=True))
    retrain = VERDICTS.index("retrain")
    judged = [VERDICTS.index(verdict) for verdict in verdicts(config, before)]
    a_year = WEEKS_A_YEAR / unchanged
    false = {
        "ours: retrain or alarm": begun([v >= retrain for v in judged]) * a_year,
        "ours: watch or worse": begun([v > 0 for v in judged]) * a_year,
        "Evidently: any column": begun([share > 0 for share in same.drifted]) * a_year,
        "Evidently: half of the columns": begun([share >= 0.5 for share in same.drifted]) * a_year,
    }
    rows: list[tuple[str | float, ...]] = []
    slowest, lead = 0.0, max(rule.of for rule in config.rules)
    for name, change in CHANGES.items():
        say(f"{changed} weeks in which {name}")
        other = Weeks([change(week) for week in weeks[unchanged:]], predictor, reference, config)
        after = list(zip(other.answered, other.mature, strict=True))
        # So long it may take until outcomes are due, and three of them were looked at.
        span = changed // 2
        found = [
            verdicts(config, [*before[:lead], *after[start : start + span]])[lead:]
            for start in range(changed - span)
        ]
        ours = [noticed_after([v != "ok" for v in said]) for said in found]
        worst = max((v for said in found for v in said), key=VERDICTS.index)
        any_, half = (
            noticed_after([share >= least for share in other.drifted]) for least in (1e-9, 0.5)
        )
        rows.append((name, float(np.median(ours)), max(ours), worst, any_, half))
        if name != "labels come late":
            slowest = max(slowest, max(ours))
    columns = {
        "change": "",
        "weeks until noticed, median": "n",
        "at most": "n",
        "worst verdict": "",
    }
    columns |= {"Evidently, any column": "n", "Evidently, half": "n"}
    findings = [
        Finding("false retrain or alarm", false["ours: retrain or alarm"], 0.5, unit="a year"),
        Finding("until a change of the ads is noticed", slowest, NOTICED_WITHIN, unit="weeks"),
    ]
    table = Grid("False alarms a year", {"alarm": "", "a year": ".2f"}, list(false.items()))
    about = machine() | {"ads a week": ads, "unchanged weeks": unchanged}
    grids = [table, Grid("Changes", columns, rows), asked_and_found(findings)]
    return Report("false_alarms", about, __doc__, grids, status=not all(f.passed for f in findings))


def main(arguments: list[str] | None = None) -> int:
    """Replay, print and write; return 1 where it is not as asked."""
    parser = program_parser("false_alarms", __doc__, "--unchanged 40 --changed 20")
    count = whole_number(1, 10_000)
    add, text = parser.add_argument, "weeks of each (default: %(default)s)"
    add("--unchanged", type=count, default=200, metavar="N", help="weeks (default: %(default)s)")
    add("--changed", type=count, default=50, metavar="N", help=text)
    add("--ads", type=count, default=1_000, metavar="N", help="a week (default: %(default)s)")
    return run(parser, arguments, measure)


if __name__ == "__main__":
    sys.exit(main())
