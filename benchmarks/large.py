"""What does training on very many ads cost? ``python -m benchmarks.large``.

Generates demo ads, splits them, builds features and trains with
configs/training-large.yaml, and prints seconds, peak memory, error and size.
"""

from __future__ import annotations

import resource
import sys
import time
from pathlib import Path

from rich.console import Console

from benchmarks.report import Grid, program_parser
from demand.config import TrainingConfig, load_config
from demand.data.splitting import split_ads
from demand.demo import generate
from demand.evaluation.metrics import rmse
from demand.features.builder import build_features
from demand.model.training import train
from demand.schema.columns import TARGET
from demand.workspace.workspace import PROJECT_ROOT

_SEED = 2017


def main(arguments: list[str] | None = None) -> int:
    """Measure and print; return the exit status."""
    parser = program_parser("large", __doc__, "--rows 100000", writes=False)
    parser.add_argument("--rows", type=int, default=1_000_000, help="demo ads; default: a million")
    default = PROJECT_ROOT / "configs" / "training-large.yaml"
    parser.add_argument("--config", type=Path, default=default, metavar="FILE")
    options = parser.parse_args(arguments)
    config = load_config(options.config, TrainingConfig)
    parts = split_ads(generate(options.rows, _SEED), config.split, config.seed)
    started = time.perf_counter()
    features = build_features(parts.train, parts.validation, config.features, config.seed)
    built = time.perf_counter()
    print("features are built, the fit begins", file=sys.stderr)
    predictor = train(features, config.training, config.seed).predictor
    trained = time.perf_counter()
    error = rmse(parts.test[TARGET], predictor.predict(parts.test))
    # Kilobytes on Linux, bytes on macOS.
    unit = 2**30 if sys.platform == "darwin" else 2**20
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit
    rows = [
        ("features", f"{built - started:,.0f} s"),
        ("fit", f"{trained - built:,.0f} s"),
        ("peak memory", f"{peak:.1f} GB"),
        ("test RMSE", f"{error:.4f}"),
        ("size", f"{predictor.size_bytes / 1024:,.0f} KB"),
    ]
    title = f"Training on {options.rows:,} demo ads"
    Console().print(Grid(title, {"": "", "found": ""}, rows).table())
    return 0


if __name__ == "__main__":
    sys.exit(main())
