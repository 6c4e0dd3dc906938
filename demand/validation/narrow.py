"""The frame that Great Expectations look at: it has no text but categories and ids.

Great Expectations copy and convert all they look at, which for a million descriptions takes
minutes and gigabytes; of a text they need to know whether it is there, and how long it is.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pandas as pd

from demand.schema.arrays import Floats, Rows
from demand.schema.columns import COLUMNS
from demand.schema.population import reference

# Columns beside those of an ad, so that every finding is an expectation's.
UNREADABLE = "cells that could not be read"
PARENT_OF_CATEGORY = "parent of the category"
# The length of something that is no text.
NOT_A_TEXT = -1.0

_TEXTS = tuple(column.name for column in COLUMNS if column.kind == "text")
_CATEGORIES = tuple(column.name for column in COLUMNS if column.category)
_ONLY_MEASURED = tuple(name for name in _TEXTS if name not in (*_CATEGORIES, "item_id"))


def length_column(name: str) -> str:
    """Return the name of the column that holds the length of text ``name`` in characters."""
    return f"{name}: characters"


def narrow_ads(blocks: Iterable[pd.DataFrame], unreadable: Rows) -> pd.DataFrame:
    """Return what the expectations need to know of ads, which come in typed blocks.

    The frame has the ads' columns with a RangeIndex: categories as a categorical, other texts
    but ``item_id`` as one that says only whether they are given. Beside them, for each text its
    :func:`length_column` (float64; NaN where missing, :data:`NOT_A_TEXT`);
    :data:`UNREADABLE`, given in the rows ``unreadable``, which have a cell that could not be
    read; and :data:`PARENT_OF_CATEGORY`, missing where either is unknown.
    """
    kinds = dict.fromkeys((*_CATEGORIES, *_ONLY_MEASURED), "category")
    ads = pd.concat(map(_narrow, blocks), ignore_index=True).astype(kinds)
    marks = np.full(len(ads), None, dtype=object)
    marks[unreadable] = "yes"
    ads[UNREADABLE] = pd.Categorical(marks)
    # Missing where either is unknown, which is a finding of its own and not told twice.
    parent_of = reference().parent_of
    known = ads["parent_category_name"].isin(list(parent_of.values()))
    parents = ads["category_name"].astype(object).map(parent_of).where(known, None)
    return ads.assign(**{PARENT_OF_CATEGORY: parents.astype(object)})


def _narrow(block: pd.DataFrame) -> pd.DataFrame:
    measured = {length_column(name): _lengths(block[name]) for name in _TEXTS}
    given = {name: block[name].notna().map({True: "given", False: None}) for name in _ONLY_MEASURED}
    # A frame of its own: one to which columns were assigned would hold the texts they replace.
    return pd.DataFrame(dict(block.items()) | given | measured)


def _lengths(texts: pd.Series) -> Floats:
    lengths = [len(text) if isinstance(text, str) else NOT_A_TEXT for text in texts]
    return np.where(texts.isna(), np.nan, lengths)
