"""Training, validation and test parts that share no seller and no duplicate ad."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd

from demand.config import SplitSettings
from demand.errors import GateRefusal
from demand.schema.arrays import Floats, Rows
from demand.schema.columns import TARGET

# A seller's stratum: no ad with a chance, some chance, a likely deal. The target's few
# spikes decide an RMSE; left to luck, one test part in forty would be twice as hard.
STRATA = (0.0, 0.3)
# All that is looked at.
DECISIVE_COLUMNS = ("user_id", "activation_date", TARGET)


@dataclass(frozen=True)
class Split:
    """The three parts of some ads: positions of their rows, ascending."""

    train: Rows
    validation: Rows
    test: Rows


def split_ads(ads: pd.DataFrame, settings: SplitSettings, seed: int) -> Split:
    """Divide ads into training, validation and test.

    A seller's ads lie in one part, and with them duplicates (same seller, title and
    price). With ``by="seller"`` sellers are drawn at random within strata of their mean
    target; with ``by="time"`` the sellers whose latest ad is newest become the test
    part, the next newest the validation. Of very many ads, parts of ``test_rows_max`` and
    ``validation_rows_max`` say all there is to say, and the others are learnt from.

    The typed ads need no more than the ``DECISIVE_COLUMNS``; the same seed and ads give the same
    parts. Each border between two of them is off by at most half of the largest seller in each
    of the three strata (one, when split by time).

    Raises
    ------
    GateRefusal
        A part would be empty: there are too few sellers.
    """
    rows = max(len(ads), 1)
    tested = min(settings.test_share, settings.test_rows_max / rows)
    validated = min(settings.validation_share * (1 - tested), settings.validation_rows_max / rows)
    # A seller's part is that in which the seller's middle lies.
    borders = (tested, tested + validated)
    part = np.digitize(seller_positions(ads, seed, settings.by), borders)
    test, validation, train = (np.flatnonzero(part == number) for number in range(3))
    for name, positions in (("training", train), ("validation", validation), ("test", test)):
        if not len(positions):
            sellers = ads["user_id"].nunique(dropna=False)
            raise GateRefusal(
                "data",
                f"the {name} part is empty: the {len(ads)} ads are of only {sellers} "
                "sellers, and a seller is never divided",
            )
    return Split(train, validation, test)


def seller_positions(
    ads: pd.DataFrame, seed: int, by: Literal["seller", "time"] = "seller"
) -> Floats:
    """Return how far through its stratum the seller of each ad stands, shape (n,), in (0, 1).

    Within a stratum sellers stand in their order, each as long as it has rows; the
    position is that of a seller's middle. So an interval of positions holds that share of
    the rows of every stratum, and never half a seller.

    The order is drawn by ``seed``. With ``by="time"`` there is one stratum, and the sellers
    with the newest ads stand first.
    """
    codes = pd.factorize(ads["user_id"])[0]
    sellers = pd.DataFrame({"rows": np.bincount(codes)})
    rng = np.random.default_rng(seed)
    sellers["order"] = rng.permutation(len(sellers)).astype(np.float64)
    if by == "time":
        sellers["stratum"] = 0
        latest = ads["activation_date"].groupby(codes).max()
        sellers["order"] += len(sellers) * latest.rank(method="dense", ascending=False)
    else:
        sellers["stratum"] = np.digitize(ads[TARGET].groupby(codes).mean(), STRATA, right=True)
    ordered = sellers.sort_values(["stratum", "order"], kind="stable")
    rows = ordered.groupby("stratum")["rows"]
    middle = (rows.cumsum() - ordered["rows"] / 2) / rows.transform("sum")
    of_seller: Floats = middle.sort_index().to_numpy(dtype=np.float64)
    return of_seller[codes]
