"""Write demo ads as a CSV file in the style of Kaggle's, chunk by chunk."""

from __future__ import annotations

import csv
import hashlib
import io
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

from demand.ads import COLUMN_NAMES, TARGET
from demand.demo.batch import ads, chunks
from demand.state import write_aside


def write_demo(
    path: Path, rows: int, seed: int, progress: Callable[[int], None] | None = None
) -> str:
    r"""Write demo ads; the same rows and seed give the same bytes on every machine.

    Parameters
    ----------
    path
        CSV file to write, UTF-8 with ``\n`` between lines; replaced only when the new
        one is whole.
    rows, seed
        As for :func:`demand.demo.generate`, but memory does not grow with ``rows``.
    progress
        Called after each chunk with the number of ads written so far.

    Returns
    -------
    str
        The file's md5, 32 hex characters: its version as DVC names it.

    Raises
    ------
    StateError
        The file cannot be written.
    ValueError
        There is no row to generate, or the seed is negative.
    """
    digest = hashlib.md5(usedforsecurity=False)
    done = 0
    with write_aside(path) as temporary, temporary.open("wb") as file:
        for batch in chunks(rows, seed):
            text = _as_csv(ads(batch), header=done == 0)
            digest.update(text)
            file.write(text)
            done += len(batch.means)
            if progress is not None:
                progress(done)
    return digest.hexdigest()


def _as_csv(columns: dict[str, list[Any]], *, header: bool) -> bytes:
    """Return rows as CSV, quoted where needed, numbers as in Kaggle's file."""
    columns = columns | {
        "price": _floats(columns["price"]),
        "item_seq_number": [f"{number:.0f}" for number in columns["item_seq_number"]],
        "image_top_1": _floats(columns["image_top_1"]),
        TARGET: [repr(round(target, 5)) for target in columns[TARGET]],
    }
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    if header:
        writer.writerow(COLUMN_NAMES)
    writer.writerows(zip(*(columns[name] for name in COLUMN_NAMES), strict=True))
    return buffer.getvalue().encode()


def _floats(values: list[float]) -> list[str]:
    return ["" if math.isnan(value) else f"{value:.1f}" for value in values]
