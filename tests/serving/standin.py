"""A tiny model with the Predictor's methods, so that serving is tested without training."""

from __future__ import annotations

import json
import time
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from demand.registry.loader import ServedPredictor

LOADER = "tests.serving.standin"


class Standin:
    """Answers by the length of the title and the price, and computes so long for an ad."""

    def __init__(self, bias: float = 0.1, busy_s: float = 0.0) -> None:
        self.bias = bias
        self.busy_s = busy_s

    def predict(self, frame: pd.DataFrame) -> npt.NDArray[np.float64]:
        until = time.thread_time() + self.busy_s * len(frame)
        while time.thread_time() < until:
            pass
        letters = frame["title"].str.len().to_numpy(np.float64)
        price = frame["price"].fillna(0.0).to_numpy(np.float64)
        dated = frame["activation_date"].notna().to_numpy(np.float64)
        described = frame["description"].notna().to_numpy(np.float64)
        return self.bias + (letters % 7) / 100 + price / (1 + price) / 10 + (dated + described) / 50

    def save(self, folder: Path) -> None:
        folder.mkdir(parents=True)
        (folder / "model.json").write_text(
            json.dumps({"bias": self.bias, "busy_s": self.busy_s}), encoding="utf-8"
        )


def _load_pyfunc(data_path: str) -> ServedPredictor:
    kept = json.loads((Path(data_path) / "model.json").read_text(encoding="utf-8"))
    return ServedPredictor(Standin(kept["bias"], kept["busy_s"]))
