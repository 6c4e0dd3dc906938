"""Models for the tests of the checks: one that behaves, and ways to spoil it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd

Floats = np.ndarray


def _column(frame: pd.DataFrame, name: str, missing: object) -> pd.Series:
    if name not in frame:
        return pd.Series(missing, index=frame.index)
    return frame[name].where(frame[name].notna(), missing)


class GoodModel:
    """Category, the title's first word blind to case and ё, and a price that deters."""

    def predict(self, frame: pd.DataFrame) -> Floats:
        categories = _column(frame, "category_name", "")
        words = _column(frame, "title", "").str.lower().str.replace("ё", "е").str.split().str[0]
        prices = _column(frame, "price", 0.0).to_numpy(dtype=np.float64)
        base = 0.1 + 0.02 * categories.str.len().to_numpy(dtype=np.float64) % 0.3
        return np.clip(
            base + 0.1 * (words.str.len() % 3).to_numpy(dtype=np.float64) - 1e-6 * prices, 0.0, 1.0
        )


class SpoiltModel(GoodModel):
    """The good model, with ``spoil(frame, predictions)`` applied to its answers."""

    def __init__(self, spoil: Callable[[pd.DataFrame, Floats], Floats]) -> None:
        self.spoil = spoil

    def predict(self, frame: pd.DataFrame) -> Floats:
        return self.spoil(frame, super().predict(frame))
