"""Python compiled to machine code: loops over characters that numpy has no verbs for."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any, TypeVar, cast

from numba import njit
from numba.extending import register_jitable

F = TypeVar("F", bound=Callable[..., Any])


def compiled(function: F) -> F:
    """Compile a function at its first call, and keep the result on disk.

    It lies beside the source, or else in the user's cache (or in ``NUMBA_CACHE_DIR``);
    where neither can be written, every process compiles anew, which takes some seconds.
    The interpreter stays held: an answer takes a few of these calls, and after each of
    them it would have to wait for every other busy thread.

    A kept result is made anew when the file of the function changes, or any file of this
    folder: so a compiled function may call those of its own file and of this folder, and
    take constants from there, but from nowhere else.
    """
    try:
        dispatcher = njit(function, cache=True)
    except RuntimeError:  # numba found no folder to write to
        return cast(F, njit(function))
    # numba itself compares the function's own file alone, and would keep what that calls
    # in others. Read before it is written, a name that a new numba lacks is an error.
    kept = dispatcher._cache._cache_file
    kept._source_stamp = (kept._source_stamp, sources_digest(Path(__file__).parent))
    return cast(F, dispatcher)


def compilable(function: F) -> F:
    """Let compiled code call a function, which stays one of Python for all else.

    It is compiled as a part of each function that calls it, and not by itself: half of the
    time would go into the ways in from Python and out again, and most need none.
    """
    return cast(F, register_jitable(function))


def plain(named: tuple[Any, ...]) -> tuple[Any, ...]:
    """Return named tuples as plain ones, at any depth: numba takes these in a third of the time."""
    return tuple(plain(value) if isinstance(value, tuple) else value for value in named)


@cache
def sources_digest(folder: Path) -> bytes:
    """Return a digest of all Python files of a folder: of their names and what they hold."""
    digest = sha256()
    for path in sorted(folder.glob("*.py")):
        source = path.read_bytes()
        digest.update(f"{path.name} {len(source)}\n".encode() + source)
    return digest.digest()
