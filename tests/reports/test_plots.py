from __future__ import annotations

import subprocess
import sys
import warnings
from collections.abc import Callable
from io import BytesIO

import matplotlib.image
import numpy as np
import pandas as pd
import pytest

from demand.evaluation.metrics import calibration_table
from demand.reports import plots

RUSSIAN = pd.DataFrame(
    {
        "value": ["Ремонт и строительство", "Ёлки, <шары> & $гирлянды$", "Щенки"],
        "rows": [10, 20, 30],
        "rmse": [0.3, 0.2, 0.1],
    }
)
CURVE = pd.DataFrame(
    {"epoch": [1, 2, 3], "train_loss": [0.5, 0.4, 0.3], "validation_rmse": [0.3, 0.25, 0.26]}
)
TRUTH = np.linspace(0.0, 1.0, 200)
NOTHING = np.full(200, np.nan)

DRAWN: dict[str, Callable[[], bytes]] = {
    "training curve": lambda: plots.training_curve(CURVE),
    "training curve of one epoch": lambda: plots.training_curve(CURVE.head(1)),
    "training curve of no epoch": lambda: plots.training_curve(CURVE.head(0)),
    "training curve that is nan": lambda: plots.training_curve(
        CURVE.assign(train_loss=np.nan, validation_rmse=np.nan)
    ),
    "calibration": lambda: plots.calibration(calibration_table(TRUTH, TRUTH**2)),
    "calibration of zeros": lambda: plots.calibration(calibration_table(TRUTH * 0, TRUTH * 0)),
    "calibration of nothing": lambda: plots.calibration(calibration_table(TRUTH, NOTHING)),
    "errors": lambda: plots.error_by_category(RUSSIAN, 0.2),
    "no errors": lambda: plots.error_by_category(RUSSIAN.head(0), np.nan),
    "errors that are nan": lambda: plots.error_by_category(RUSSIAN.assign(rmse=np.nan), np.nan),
    "histogram": lambda: plots.predicted_and_actual(TRUTH, TRUTH**2),
    "histogram of nothing": lambda: plots.predicted_and_actual(TRUTH, NOTHING),
}


@pytest.mark.parametrize("draw", DRAWN.values(), ids=DRAWN)
def test_a_plot_is_a_png_with_ink_on_it_and_no_warning(draw: Callable[[], bytes]) -> None:
    with warnings.catch_warnings():
        # A letter the font does not have, or numbers that cannot be drawn, would warn.
        warnings.simplefilter("error")
        png = draw()
    pixels = matplotlib.image.imread(BytesIO(png), format="png")
    assert min(pixels.shape[:2]) > 150
    assert pixels[..., :3].min() < 0.5


def test_the_same_plot_has_the_same_bytes() -> None:
    draw = DRAWN["errors"]
    assert draw() == draw()


def test_only_the_worst_slices_are_drawn() -> None:
    all_of_them = plots.error_by_category(RUSSIAN, 0.2)
    worst = plots.error_by_category(RUSSIAN, 0.2, most=2)
    assert worst == plots.error_by_category(RUSSIAN.head(2), 0.2)
    assert worst != all_of_them


def test_drawing_does_not_load_pyplot() -> None:
    program = (
        "import sys; from demand.reports import plots;"
        "plots.predicted_and_actual([0.3], [0.3]); assert 'matplotlib.pyplot' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=120)
