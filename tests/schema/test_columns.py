"""The schema."""

from __future__ import annotations

import subprocess
import sys

from demand.schema.columns import COLUMN_NAMES, COLUMNS, INPUT_COLUMNS, REQUEST_REQUIRED, TARGET


def test_the_target_is_the_only_column_that_is_no_input() -> None:
    assert [c.name for c in INPUT_COLUMNS] == [n for n in COLUMN_NAMES if n != TARGET]


def test_what_a_request_requires_is_required_of_training_data_too() -> None:
    required = {c.name for c in COLUMNS if c.required}
    assert required.issuperset(REQUEST_REQUIRED)


def test_every_number_has_both_bounds_in_order() -> None:
    numbers = [c for c in COLUMNS if c.kind in ("number", "integer")]
    assert all(
        c.minimum is not None and c.maximum is not None and c.minimum < c.maximum for c in numbers
    )


def test_the_schema_loads_no_other_part_and_no_library() -> None:
    code = "import sys, demand.schema.columns; print(*sys.modules)"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = {name for name in ran.stdout.split() if name.startswith(("demand", "numpy", "pandas"))}
    assert loaded == {"demand", "demand.schema", "demand.schema.columns"}
