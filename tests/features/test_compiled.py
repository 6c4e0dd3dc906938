from __future__ import annotations

from demand.features.compiled import compiled


def test_where_nothing_can_be_kept_it_is_compiled_all_the_same() -> None:
    """A function of no file has no folder beside it that numba could write to."""
    double = compiled(eval("lambda x: x + x"))  # noqa: S307
    assert double(4) == 8
