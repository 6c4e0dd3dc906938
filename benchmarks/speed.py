"""How fast is a Predictor? ``python -m benchmarks.speed``.

Trains as the pipeline does, on one core, and prints seconds of training, microseconds of
one ad through ``predict_one``, and ads a second in a batch, beside what was asked.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
from rich.console import Console
from threadpoolctl import threadpool_limits

from benchmarks.quality_ours import ours
from benchmarks.quality_report import Grid
from demand.ads import TARGET
from demand.config import TrainingConfig
from demand.demo import generate
from demand.errors import DemandError
from demand.ingestion.reading import read_ads
from demand.predictor import Predictor
from demand.serving.mlflow_model import records

# What was asked: seconds of training, median microseconds of one ad, ads a second.
ASKED = 30.0, 400.0, 20_000.0
DEMO_ROWS = 8_000
_ROUNDS = 5


def one_ad(predictor: Predictor, ads: pd.DataFrame) -> np.ndarray:
    """Return the microseconds of each ad by itself, as a mapping; shape (rows,)."""
    asked = records(ads)
    for ad in asked[:200]:
        predictor.predict_one(ad)
    taken = np.empty(len(asked))
    for row, ad in enumerate(asked):
        started = time.perf_counter()
        predictor.predict_one(ad)
        taken[row] = time.perf_counter() - started
    return taken * 1e6


def batch(predictor: Predictor, ads: pd.DataFrame) -> float:
    """Return the ads a second in one call: the best of some, since others disturb it."""
    taken = []
    for _ in range(_ROUNDS):
        started = time.perf_counter()
        predictor.predict(ads)
        taken.append(time.perf_counter() - started)
    return len(ads) / min(taken)


def main(arguments: list[str] | None = None) -> int:
    """Measure and print; return the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.speed",
        description=__doc__,
        epilog="example:\n  python -m benchmarks.speed --data ../shared/avito/ads.csv",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--data", type=Path, metavar="FILE", help="default: demo ads")
    options = parser.parse_args(arguments)
    try:
        ads = read_ads(options.data).frame if options.data else generate(DEMO_ROWS, 1)
    except DemandError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_status
    plain = ads.drop(columns=TARGET)
    with threadpool_limits(1):
        started = time.perf_counter()
        _, predictor = ours(ads, plain.head(1), TrainingConfig(), 42)
        seconds = time.perf_counter() - started
        each, rate = one_ad(predictor, plain.head(3000)), batch(predictor, plain)
    median = float(np.median(each))
    passed = seconds <= ASKED[0], median <= ASKED[1], rate >= ASKED[2]
    rows = [
        ("training, refit included", f"{seconds:.1f} s", f"at most {ASKED[0]:.0f} s"),
        ("one ad, median", f"{median:.0f} µs", f"at most {ASKED[1]:.0f} µs"),
        ("one ad, 99th percentile", f"{np.quantile(each, 0.99):.0f} µs", ""),
        ("ads a second in a batch", f"{rate:,.0f}", f"at least {ASKED[2]:,.0f}"),
        ("size of the arrays", f"{predictor.size_bytes / 1024:.0f} KB", "at most 200 KB"),
    ]
    title = f"Speed on {len(ads):,} {'ads' if options.data else 'demo ads'}, one core"
    Console().print(Grid(title, ("", "found", "asked"), rows).table())
    return 0 if all(passed) else 1


if __name__ == "__main__":
    sys.exit(main())
