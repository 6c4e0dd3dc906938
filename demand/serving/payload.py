"""The four JSON forms of MLflow's scoring protocol, into the frame that a Predictor reads.

They are read here rather than by MLflow: its schema enforcement drops unknown columns
without a word, mixes up rows of ``instances`` that leave out different optional columns,
and takes longer for one ad than the prediction.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from demand.errors import AdError
from demand.ingestion.records import frame_from_columns, frame_from_records
from demand.quoting import json_kind, quote_json

if TYPE_CHECKING:
    import pandas as pd

FORMS = ("dataframe_records", "dataframe_split", "instances", "inputs")

# Strange keys that a message names: a body may have a million.
_NAMED_MAX = 5


def frame_from_payload(payload: object) -> pd.DataFrame:
    """Read a decoded request in any of :data:`FORMS`.

    Returns
    -------
    pandas.DataFrame
        As :func:`demand.ingestion.records.frame_from_columns`; n >= 1.

    Raises
    ------
    AdError
        Names the field and, where there is one, the ad.
    """
    if not isinstance(payload, dict):
        raise AdError(f"the body must be an object with one of {', '.join(FORMS)}")
    forms = [key for key in payload if key != "params" or payload[key]]
    if len(forms) != 1 or forms[0] not in FORMS:
        raise AdError(
            f"the body must have exactly one of {', '.join(FORMS)}, but it has "
            f"{', '.join(map(quote_json, forms[:_NAMED_MAX])) or 'none'}"
        )
    form, ads = forms[0], payload[forms[0]]
    if form == "dataframe_split":
        return _frame_from_split(ads)
    if form == "dataframe_records" or isinstance(ads, list):
        return frame_from_records(ads)
    if not isinstance(ads, dict):
        raise AdError(f"{form} must be a list of ads, or an object of columns")
    if not any(isinstance(value, list) for value in ads.values()):
        return frame_from_records([ads])
    if not all(isinstance(value, list) for value in ads.values()):
        raise AdError(f"{form} mixes lists and single values: give each column a list")
    return frame_from_columns(ads)


def _frame_from_split(table: object) -> pd.DataFrame:
    if not isinstance(table, dict):
        raise AdError(f"dataframe_split must be an object, not {json_kind(table)}")
    columns, data = table.get("columns"), table.get("data")
    if not isinstance(columns, list) or not isinstance(data, list):
        raise AdError("dataframe_split must have the lists columns and data")
    if other := sorted(set(table) - {"columns", "data", "index"}):
        raise AdError(f"dataframe_split has no {', '.join(map(quote_json, other[:_NAMED_MAX]))}")
    if not all(isinstance(name, str) for name in columns):
        raise AdError("dataframe_split: the columns must be named by texts")
    if len(set(columns)) < len(columns):
        raise AdError("dataframe_split names a column twice")
    for row, values in enumerate(data):
        if not isinstance(values, list) or len(values) != len(columns):
            raise AdError(f"must be a list of {len(columns)} values", row=row)
    return frame_from_columns(
        {name: [values[i] for values in data] for i, name in enumerate(columns)}
    )
