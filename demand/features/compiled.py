"""Python compiled to machine code: loops over characters that numpy has no verbs for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

from numba import njit
from numba.extending import register_jitable

F = TypeVar("F", bound=Callable[..., Any])


def compiled(function: F) -> F:
    """Compile a function at its first call, and keep the result on disk.

    It lies beside the source, or else in the user's cache (or in ``NUMBA_CACHE_DIR``);
    where neither can be written, every process compiles anew, which takes some seconds.
    The interpreter stays held: an answer takes a dozen of these calls, and after each of
    them it would have to wait for every other busy thread.

    A kept result is made anew when the source *file* of the function changes, so all that
    a function takes from its surroundings must stand in the same file or never change.
    """
    try:
        return cast(F, njit(function, cache=True))
    except RuntimeError:  # numba found no folder to write to
        return cast(F, njit(function))


def compilable(function: F) -> F:
    """Let a function of numpy also be called from compiled code, where it is compiled."""
    return cast(F, register_jitable(function))
