"""Batch inference: the answers to a file of ads as a file, one row an ad, in its order.

What is flawed counts as missing, see :mod:`demand.data.flaws`; an ad without a title or a
category has no answer, and keeps its row with an empty one.
"""

from __future__ import annotations

import csv
import itertools
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from demand import __version__
from demand.data.archives import open_ads
from demand.data.flaws import ID, NAMES_LENGTH_MAX, Findings, cleaned, complete, places, table_flaws
from demand.data.reading import UntypedPart, ads_md5, stream_untyped
from demand.data.tables import Bounds, open_table
from demand.errors import AdsFileError, ModelError, StateError
from demand.progress import console, report
from demand.schema.columns import TARGET
from demand.schema.error_text import counted, spreadsheet_safe
from demand.serving.checkpoint import ANSWERS, answers_folder, last_checkpoint
from demand.serving.workers import map_in_order
from demand.workspace.workspace import write_aside

if TYPE_CHECKING:
    from demand.features.known_values import KnownValues
    from demand.model.predictor import Predictor

PARQUET = ".parquet"
# Parts, of some thousand ads each, that are answered sooner than workers would have started.
_PARTS_ALONE = 8
_CHECKPOINT_S = 1.0
# One answer at most, with an id of the longest text that is read.
_CSV_BLOCK_BYTES = 64 * 2**20
# Endings of what is no plain CSV; a program that trusts the name would stumble.
_OTHER_ENDINGS = (".gz", ".zip", ".bz2", ".xz", ".zst", ".xlsx")


@dataclass(frozen=True)
class Answered:
    """A file of answers that was written.

    Of its ``rows`` ``answered`` have an answer; the others lack a title or a category. Each
    of the ``warnings`` says what is flawed, how often, and where first.
    """

    rows: int
    answered: int
    data_md5: str
    warnings: tuple[str, ...]


@dataclass(frozen=True)
class _Answerer:
    """Answers a part of a file; pickled, it does so in other processes."""

    predictor: Predictor
    known: KnownValues | None
    for_spreadsheets: bool

    def __call__(self, part: UntypedPart) -> tuple[bytes, Findings, float]:
        """Return rows of CSV, what there is to tell of them, and how much of the file is read."""
        loaded = part.typed()
        ads, flaws = cleaned(loaded)
        answerable = complete(ads)
        answers = np.full(len(ads), np.nan)
        if answerable.any():
            answers[answerable] = self.predictor.predict(ads[answerable])
        if not np.isfinite(answers[answerable]).all():
            raise ModelError("the model answered an ad with no number: nothing is written")
        found = Findings(
            rows=len(ads),
            answered=int(answerable.sum()),
            lacking=places(loaded, np.flatnonzero(~answerable)),
            nameless=places(loaded, np.flatnonzero(loaded.frame[ID].isna())),
        )
        found.add(flaws)
        found.add(table_flaws(loaded))
        if self.known is not None:
            fields = self.known.values.keys()
            found.unknown = self.known.counts({field: ads[field].tolist() for field in fields})
        ids = loaded.frame[ID]
        if self.for_spreadsheets:
            ids = ids.map(spreadsheet_safe, na_action="ignore")
        text = pd.DataFrame({ID: ids, TARGET: answers}).to_csv(
            index=False,
            header=False,
            lineterminator="\n",
            quoting=csv.QUOTE_MINIMAL if self.for_spreadsheets else csv.QUOTE_NONNUMERIC,
        )
        return text.encode(), found, part.read_share


def answer_file(
    predictor: Predictor,
    data: Path,
    output: Path,
    *,
    model: str = "",
    max_file_gb: float = 8.0,
    known: KnownValues | None = None,
) -> Answered:
    """Write ``item_id`` and ``deal_probability`` of each ad of a file, in its order.

    Of the ads (csv, csv.gz, zip or parquet) only ``item_id``, ``title`` and ``category_name``
    must be there; columns that an ad does not have are ignored, and so is a target. The output
    is Parquet where its name ends so, and otherwise CSV. It is replaced when all is written,
    never half, and of a link the link itself. Answers have all digits, and are empty where an ad
    has no title or no category. In CSV, an ``item_id`` that a spreadsheet would take for a
    formula has an apostrophe before it, see :func:`demand.schema.error_text.spreadsheet_safe`.
    Values of fields that the model has not learnt from are told in a warning, where it is known
    which these are.

    Many ads are answered by as many processes as there are cores. A run that was interrupted is
    gone on with by the next one for the same bytes, output, version and ``model``, which says what
    distinguishes the predictor from others.

    Raises
    ------
    AdsFileError
        The file cannot be read as ads, a row of it included: nothing is written.
    StateError
        The output cannot be written, is the file of ads itself, or is being written by another
        run.
    ModelError
        The model gave no number for an ad.
    """
    check_paths(data, output, max_file_gb)
    with answers_folder(output) as folder:
        as_parquet = output.suffix.lower() == PARQUET
        answerer = _Answerer(predictor, known, for_spreadsheets=not as_parquet)
        md5 = ads_md5(data, max_file_gb)
        try:
            parts = stream_untyped(data, labelled=False, max_file_gb=max_file_gb)
            found = _answer(answerer, parts, folder, (md5, model, __version__))
            with write_aside(output) as aside:
                (_write_parquet if as_parquet else shutil.copyfile)(folder / ANSWERS, aside)
        except (AdsFileError, ModelError):  # so it would end each time
            shutil.rmtree(folder, ignore_errors=True)
            raise
        shutil.rmtree(folder)
    return Answered(found.rows, found.answered, md5, tuple(found.warnings()))


def _answer(
    answerer: _Answerer, parts: Iterator[UntypedPart], folder: Path, run: tuple[str, ...]
) -> Findings:
    """Write the answers to all parts as CSV, from where the same run was interrupted."""
    folder.mkdir(parents=True, exist_ok=True)
    done = last_checkpoint(folder, run)
    if before := done.found.rows:
        told = f"  goes on after {counted(before)} that are answered already"
        console().print(told, soft_wrap=True)
    with (folder / ANSWERS).open("ab") as file:
        file.truncate(done.size)
        if not done.size:
            done.size = file.write(f"{ID},{TARGET}\n".encode())
        begun = saved = time.monotonic()
        rest = itertools.islice(parts, done.parts, None)
        for rows, found, share in map_in_order(answerer, rest, _PARTS_ALONE):
            done.size += file.write(rows)
            done.found.add(found)
            done.parts += 1
            now = time.monotonic()
            if now - saved < _CHECKPOINT_S:
                continue
            saved = now
            # What the checkpoint counts is to be there after a power cut, too.
            file.flush()
            os.fsync(file.fileno())
            done.save(folder)
            report(share, 1.0, _pace(done.found.rows, before, now - begun, share))
    return done.found


def _pace(rows: int, before: int, seconds: float, share: float) -> str:
    """Say how many ads are answered, ``before`` of them earlier, and how long the rest takes."""
    rate = max(rows - before, 1) / seconds
    left = rows * (1 / share - 1) / rate
    return f"{rows:,} ads, {rate:,.0f} a second, about {left:.0f} s left"


def _write_parquet(answers: Path, output: Path) -> None:
    """Write answers in CSV as Parquet, a block at a time."""
    import pyarrow as pa
    from pyarrow import csv as arrow_csv
    from pyarrow import parquet

    schema = pa.schema([(ID, pa.string()), (TARGET, pa.float64())])
    reading = arrow_csv.ReadOptions(use_threads=False, block_size=_CSV_BLOCK_BYTES)
    parsing = arrow_csv.ParseOptions(newlines_in_values=True)
    typing = arrow_csv.ConvertOptions(
        column_types=schema, null_values=[""], strings_can_be_null=True
    )
    with (
        arrow_csv.open_csv(answers, reading, parsing, typing) as blocks,
        parquet.ParquetWriter(output, schema) as file,
    ):
        for block in blocks:
            file.write_batch(block)


def check_paths(data: Path, output: Path, max_file_gb: float = 8.0) -> None:
    """Refuse what can be known to fail before any ad is read.

    AdsFileError: the file cannot be opened as ads, or has no column ``item_id``. StateError: the
    output is a folder, a device, the file of ads itself, named like something else than CSV or
    Parquet, or in a folder that cannot be written.
    """
    if output.is_dir():
        raise StateError(f"cannot write {output}: it is a folder; name a file in it with --output")
    # Replacing a device such as /dev/null would break it for everybody.
    if output.exists() and not output.is_file():
        raise StateError(f"cannot write {output}: it is no regular file")
    if output.suffix.lower() in _OTHER_ENDINGS:
        raise StateError(
            f"the answers are written as CSV or Parquet, but {output} ends in {output.suffix}: "
            "give --output a name that ends in .csv or .parquet"
        )
    max_bytes = int(max_file_gb * 1e9)
    with open_ads(data, max_bytes) as opened:
        header = open_table(opened, Bounds(max_bytes)).header
    if ID not in header:
        raise AdsFileError(
            f"{data} has no column {ID}, without which nobody knows whose answer is whose; "
            f"the header has: {', '.join(header[:20])[:NAMES_LENGTH_MAX]}"
        )
    if output.exists() and os.path.samefile(data, output):
        raise StateError(f"--output {output} is the file of ads itself: name another file")
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=output.parent):
            pass
    except OSError as error:
        raise StateError(f"cannot write {output}: {error.strerror or error}") from error
