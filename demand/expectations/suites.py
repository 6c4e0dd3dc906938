"""What ads must look like, as Great Expectations built from the one schema.

Every expectation carries in its ``meta`` what a person is told when it fails:
``column`` and ``reason`` for the expectations on rows, ``rule`` for those on tables.
This module imports Great Expectations (seconds); import it where it is needed.
"""

from __future__ import annotations

import datetime
from collections.abc import Collection

import great_expectations.expectations as gxe
from great_expectations.expectations.expectation import Expectation

from demand.ads import COLUMN, COLUMNS, Column
from demand.config import ValidationSettings
from demand.expectations.mix import reference_mixes
from demand.ingestion.cells import DTYPES
from demand.reference import reference

# Columns that the validation adds to the ads, so that every verdict is an expectation's.
UNREADABLE = "cells that could not be read"
PARENT_OF_CATEGORY = "parent of the category"

# Avito opened in 2007: no ad of its is older.
FIRST_DAY = datetime.datetime(2007, 1, 1)
# Clocks and time zones differ by up to a day.
CLOCK_TOLERANCE = datetime.timedelta(days=1)
# Below this share of distinct ids, ids do not tell ads apart: the table is wrong, not its rows.
DISTINCT_IDS_MIN = 0.5
# A column that the reference has for at least this share of the ads is never wholly absent.
EXPECTED_PRESENT_MIN = 0.5


def schema_expectations(present: Collection[str]) -> list[Expectation]:
    """Every column exists, and the ``present`` ones have the type of their kind."""
    exist = [gxe.ExpectColumnToExist(column=c.name, meta={"rule": "exists"}) for c in COLUMNS]
    types = [
        gxe.ExpectColumnTypeToBe(column=c.name, type_=DTYPES[c.kind].name, meta={"rule": "type"})
        for c in COLUMNS
        if c.name in present
    ]
    return exist + types


def row_expectations(today: datetime.date) -> list[Expectation]:
    """Build what each ad must fulfil; an ad that fails one is a bad row.

    The frame needs the columns :data:`UNREADABLE` (None, or anything where a cell of
    the row was unreadable) and :data:`PARENT_OF_CATEGORY` beside those of an ad. The
    order is that of importance: of several findings in one cell the first is told.
    """
    expectations = [
        gxe.ExpectColumnValuesToBeNull(column=UNREADABLE, meta=_told(UNREADABLE, "unreadable"))
    ]
    expectations += [
        gxe.ExpectColumnValuesToNotBeNull(column=c.name, meta=_told(c.name, "missing"))
        for c in COLUMNS
        if c.required
    ]
    expectations.append(
        gxe.ExpectColumnValuesToBeUnique(
            column="item_id", meta=_told("item_id", "the same item_id as an earlier ad")
        )
    )
    expectations += _hierarchy()
    for column in COLUMNS:
        expectations += _text(column) if column.kind == "text" else _bounds(column, today)
    return expectations


def _told(column: str, reason: str) -> dict[str, str]:
    return {"column": column, "reason": reason}


def _hierarchy() -> list[Expectation]:
    """Build the value sets, and that a category lies in its own parent."""
    figures = reference()
    sets: dict[str, list[str]] = {
        "region": list(figures.regions),
        "parent_category_name": list(dict.fromkeys(figures.parent_of.values())),
        "category_name": list(figures.parent_of),
        "user_type": list(figures.user_types),
    }
    expectations = [
        gxe.ExpectColumnValuesToBeInSet(
            column=name,
            value_set=values,
            meta=_told(name, f"not one of the {len(values)} known values"),
        )
        for name, values in sets.items()
    ]
    # Pairs as a value set would be looked up row by row, 60 s for 1.5 million ads.
    expectations.append(
        gxe.ExpectColumnPairValuesToBeEqual(
            column_A="parent_category_name",
            column_B=PARENT_OF_CATEGORY,
            ignore_row_if="either_value_is_missing",
            meta=_told("category_name", "the category lies in another parent category"),
        )
    )
    return expectations


def _text(column: Column) -> list[Expectation]:
    text = gxe.ExpectColumnValuesToBeOfType(
        column=column.name, type_="str", meta=_told(column.name, "not a text")
    )
    if column.max_length is None:
        return [text]
    length = gxe.ExpectColumnValueLengthsToBeBetween(
        column=column.name,
        max_value=column.max_length,
        meta=_told(column.name, f"longer than {column.max_length:,} characters"),
    )
    return [text, length]


def _bounds(column: Column, today: datetime.date) -> list[Expectation]:
    """Build the inclusive range of a number, or of a date: from 2007 until tomorrow."""
    lowest: object
    highest: object
    if column.kind == "date":
        last_day = datetime.datetime.combine(today, datetime.time()) + CLOCK_TOLERANCE
        lowest, highest = FIRST_DAY, last_day
        reason = f"not between {FIRST_DAY:%Y-%m-%d} and {last_day:%Y-%m-%d}"
    else:
        lowest, highest = column.minimum, column.maximum
        reason = f"not between {column.minimum:,.15g} and {column.maximum:,.15g}"
    return [
        gxe.ExpectColumnValuesToBeBetween(
            column=column.name,
            min_value=lowest,
            max_value=highest,
            meta=_told(column.name, reason),
        )
    ]


def table_expectations() -> list[Expectation]:
    """Build what a table of ads must fulfil as a whole, before bad rows are taken out."""
    missing = reference().missing_share
    expectations: list[Expectation] = [
        gxe.ExpectColumnProportionOfNonNullValuesToBeBetween(
            column=column.name, min_value=0.0, strict_min=True, meta={"rule": "not empty"}
        )
        for column in COLUMNS
        if column.required or missing.get(column.name, 0.0) < 1.0 - EXPECTED_PRESENT_MIN
    ]
    expectations.append(
        gxe.ExpectColumnProportionOfUniqueValuesToBeBetween(
            column="item_id", min_value=DISTINCT_IDS_MIN, meta={"rule": "distinct"}
        )
    )
    return expectations


def remaining_rows_expectations(rows: int, settings: ValidationSettings) -> list[Expectation]:
    """Build how many of ``rows`` ads must be left after the bad ones are taken out."""
    # The share is a decimal of the config: 0.05 x 8,000 is 400, whatever binary says.
    bad_max = int(rows * settings.quarantine_share_max + 1e-9)
    return [
        gxe.ExpectTableRowCountToBeBetween(min_value=rows - bad_max, meta={"rule": "bad rows"}),
        gxe.ExpectTableRowCountToBeBetween(
            min_value=settings.min_rows, meta={"rule": "enough rows"}
        ),
    ]


def drift_expectations(settings: ValidationSettings) -> list[Expectation]:
    """Build what good ads have in common with the reference: missing shares, categories."""
    tolerance = settings.missing_share_tolerance
    expectations: list[Expectation] = [
        gxe.ExpectColumnProportionOfNonNullValuesToBeBetween(
            column=name,
            min_value=max(0.0, 1.0 - share - tolerance),
            max_value=min(1.0, 1.0 - share + tolerance),
            meta={"rule": "missing share"},
            severity="warning",
        )
        for name, share in reference().missing_share.items()
        if name in COLUMN
    ]
    expectations.append(
        gxe.ExpectColumnUniqueValueCountToBeBetween(
            column="category_name",
            min_value=2,
            meta={"rule": "one category"},
            severity="warning",
        )
    )
    return expectations


def mix_expectations(settings: ValidationSettings) -> list[Expectation]:
    """Build the bounds of the distances between the mixes of values and the reference.

    They are for a frame of one row with the columns of :func:`mix_column`, each the
    total variation distance of one mix, in [0, 1].
    """
    return [
        gxe.ExpectColumnMaxToBeBetween(
            column=mix_column(name),
            max_value=settings.category_mix_tolerance,
            meta={"rule": "mix", "column": name},
            severity="warning",
        )
        for name in reference_mixes()
    ]


def mix_column(name: str) -> str:
    """Return the name of the column that holds the mix distance of column ``name``."""
    return f"{name}: distance of its mix from the reference"
