"""What a model was like when it was judged: the ads it was tested on, without their texts.

Computed once, in training, and kept with the model; production is compared with it.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from demand.schema.arrays import Floats
from demand.schema.columns import INPUT_COLUMNS, TARGET

# More ads say hardly more, and they travel with the model.
ROWS_MAX = 5_000
VALUES = ("category_name", "region", "user_type")  # columns that are kept as they are written
_INPUTS = [column.name for column in INPUT_COLUMNS]


def reference_of(ads: pd.DataFrame, answers: Floats, seed: int = 0) -> pd.DataFrame:
    """Return what is kept of held-out ads, n of them or a sample, and of the answers, (n,).

    Columns are those of the prediction log that say what an ad is like: ``category_name``,
    ``region``, ``user_type``, ``price`` in roubles, ``title_length`` and ``description_length``
    in characters, ``missing`` (names of columns), ``deal_probability``; and ``outcome``.
    """
    kept = np.arange(len(ads))
    if len(ads) > ROWS_MAX:
        kept = np.sort(np.random.default_rng(seed).choice(len(ads), ROWS_MAX, replace=False))
    ads, answers = ads.iloc[kept], answers[kept]
    lacking = ads[[name for name in _INPUTS if name in ads]].isna().to_numpy()
    names = np.array([name for name in _INPUTS if name in ads], dtype=object)
    return pd.DataFrame(
        {name: ads[name].to_numpy() for name in VALUES}
        | {
            "price": ads["price"].to_numpy(dtype=np.float64),
            "title_length": _lengths(ads["title"]),
            "description_length": _lengths(ads["description"]),
            "missing": [names[row].tolist() for row in lacking],
            "deal_probability": answers,
            "outcome": ads[TARGET].to_numpy(dtype=np.float64),
        }
    )


def _lengths(texts: pd.Series) -> list[int]:
    return [len(text) if isinstance(text, str) else 0 for text in texts]
