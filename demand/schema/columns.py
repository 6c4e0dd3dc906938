"""The schema of an ad: the one place that knows its columns.

The columns are those of Kaggle's *Avito Demand Prediction Challenge* (2018).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

TARGET = "deal_probability"
PARAMS = ("param_1", "param_2", "param_3")

Kind = Literal["text", "number", "integer", "date"]


@dataclass(frozen=True)
class Column:
    """One column of a file of ads, and one field of a request."""

    name: str
    # text (str or None), number and integer (float64, NaN where missing), date (datetime64, NaT).
    kind: Kind
    required: bool = False  # a value is demanded in training data
    minimum: float | None = None  # inclusive bounds of a number
    maximum: float | None = None
    max_length: int | None = None  # the longest text accepted, in characters
    category: bool = False  # one of a list, in which the kind of white space makes no difference
    # A text of its writer's own choice: "None" or "NA" is a word in it, see demand.schema.cells.
    verbatim: bool = False


# Bounds: a price of 79.5 billion roubles is in the data (shared facts of train.csv),
# image_top_1 is an index up to 3066, titles have at most 50 characters on the site
# but are entered by others too. A description of over 20,000 characters is no ad.
COLUMNS: tuple[Column, ...] = (
    Column("item_id", "text", required=True, max_length=64, verbatim=True),
    Column("user_id", "text", required=True, max_length=64),
    Column("region", "text", required=True, max_length=100, category=True),
    Column("city", "text", required=True, max_length=100, category=True),
    Column("parent_category_name", "text", required=True, max_length=100, category=True),
    Column("category_name", "text", required=True, max_length=100, category=True),
    Column("param_1", "text", max_length=200, category=True),
    Column("param_2", "text", max_length=200, category=True),
    Column("param_3", "text", max_length=200, category=True),
    Column("title", "text", required=True, max_length=200, verbatim=True),
    Column("description", "text", max_length=20_000),
    Column("price", "number", minimum=0.0, maximum=1e12),
    Column("item_seq_number", "integer", required=True, minimum=1.0, maximum=1e9),
    Column("activation_date", "date", required=True),
    Column("user_type", "text", required=True, max_length=50, category=True),
    Column("image", "text", max_length=128),
    Column("image_top_1", "integer", minimum=0.0, maximum=100_000.0),
    Column(TARGET, "number", required=True, minimum=0.0, maximum=1.0),
)

COLUMN: dict[str, Column] = {column.name: column for column in COLUMNS}
COLUMN_NAMES: tuple[str, ...] = tuple(COLUMN)

# What a request may carry: everything but the answer.
INPUT_COLUMNS: tuple[Column, ...] = tuple(c for c in COLUMNS if c.name != TARGET)
# What a seller always knows; all else is optional in a request and may be null.
REQUEST_REQUIRED: tuple[str, ...] = ("title", "category_name")
# The ads of a category with fewer are ranked among all ads.
CATEGORY_ROWS_MIN = 30
