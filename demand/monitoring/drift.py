"""How far the ads of a window lie from those that a model was judged on: by Evidently.

Distances and not p-values: what differs surely may still differ by nothing. Their limits are
ours (:class:`demand.monitoring.rules.Rule`), since Evidently's own change with the number of ads.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from demand.monitoring.reference import VALUES
from demand.monitoring.rules import Reading

# Distances of numbers are in standard deviations of the reference (Wasserstein), those of
# values Jensen and Shannon's, from 0 to 1.
_NUMBERS = ("log_price", "title_length", "description_length", "deal_probability")
_MISSING_VALUE = "(missing)"


def drift_readings(
    ads: pd.DataFrame, own: pd.DataFrame, reference: pd.DataFrame
) -> dict[str, Reading]:
    """Return a reading ``drift_NAME`` a column, of ads with the columns of the reference.

    That of ``deal_probability`` is of those ads alone that the model itself answered, ``own``.
    Beside the columns: ``missing``, the largest difference of a column's share of missing values;
    and ``unknown_share``, that of ads with a value that the model has not learnt from.
    """
    if ads.empty:
        names = [f"drift_{name}" for name in (*VALUES, *_NUMBERS, "missing")]
        return dict.fromkeys([*names, "unknown_share"], Reading(missing="no ad was answered"))
    readings = _distances(ads, reference, (*VALUES, *_NUMBERS[:-1]))
    if own.empty:
        silent = Reading(missing="it answered no ad")
        readings |= {"drift_deal_probability": silent, "unknown_share": silent}
    else:
        readings |= _distances(own, reference, _NUMBERS[-1:])
        share = float(np.mean([len(names) > 0 for names in own["unknown"]]))
        readings["unknown_share"] = Reading(value=share, rows=len(own))
    shares = [_missing_shares(each) for each in (ads, reference)]
    furthest = float(shares[0].sub(shares[1], fill_value=0.0).abs().max())
    return readings | {"drift_missing": Reading(value=furthest, rows=len(ads))}


def _distances(
    ads: pd.DataFrame, reference: pd.DataFrame, names: Sequence[str]
) -> dict[str, Reading]:
    from evidently import DataDefinition, Dataset, Report
    from evidently.metrics import ValueDrift

    sets = [_columns(each) for each in (ads, reference)]
    known = [name for name in names if all(each[name].notna().any() for each in sets)]
    values = [name for name in known if name in VALUES]
    numbers = [name for name in known if name in _NUMBERS]
    definition = DataDefinition(numerical_columns=numbers, categorical_columns=values)
    methods = dict.fromkeys(values, "jensenshannon") | dict.fromkeys(numbers, "wasserstein")
    report = Report([ValueDrift(column=name, method=how) for name, how in methods.items()])
    compared = (Dataset.from_pandas(each[known], data_definition=definition) for each in sets)
    found = report.run(*compared).dict()["metrics"]
    unknown = Reading(missing="no ad has any, or none of the reference")
    return {f"drift_{name}": unknown for name in names} | {
        f"drift_{each['config']['column']}": Reading(value=float(each["value"]), rows=len(ads))
        for each in found
    }


def _columns(ads: pd.DataFrame) -> pd.DataFrame:
    values = {name: ads[name].astype(object).fillna(_MISSING_VALUE).to_numpy() for name in VALUES}
    logs = np.log1p(np.maximum(ads["price"].to_numpy(dtype=np.float64), 0.0))
    return pd.DataFrame(
        values
        | {"log_price": logs}
        | {name: ads[name].to_numpy(dtype=np.float64) for name in _NUMBERS[1:]}
    )


def _missing_shares(ads: pd.DataFrame) -> pd.Series:
    """Return the share of ads without a value, by column that is ever missing."""
    counts = pd.Series([name for names in ads["missing"] for name in names]).value_counts()
    return counts / len(ads)
