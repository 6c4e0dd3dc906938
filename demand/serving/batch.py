"""Batch inference: the answers to a file of ads as a file, one row an ad, in its order.

One rule says what becomes of a flaw: a cell that :mod:`demand.schema.columns` does not allow
counts as missing. Where that cell may be missing, the ad is answered without it;
an ad without a title or a category has no answer, and keeps its row with an empty one.
"""

from __future__ import annotations

import csv
import hashlib
import itertools
import os
import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import BaseModel

from demand import __version__
from demand.data.archives import open_ads
from demand.data.reading import AdsPart, UntypedPart, ads_md5, stream_untyped
from demand.data.tables import Bounds, open_table
from demand.errors import AdsFileError, ModelError, StateError
from demand.progress import console, report
from demand.schema.cells import missing_values
from demand.schema.columns import COLUMN, REQUEST_REQUIRED, TARGET, Column
from demand.schema.error_text import counted, quote, spreadsheet_safe
from demand.serving.workers import map_in_order
from demand.workspace.workspace import current_workspace, exclusive, write_aside

if TYPE_CHECKING:
    from demand.features.known_values import KnownValues
    from demand.model.predictor import Predictor

ID = "item_id"
PARQUET = ".parquet"
# Parts, of some thousand ads each, that are answered sooner than workers would have started.
_PARTS_ALONE = 8
_ANSWERS, _CHECKPOINT = "answers.csv", "checkpoint.json"
_CHECKPOINT_S = 1.0
# Of what a warning counts, so many are named.
_NAMED_MAX = 5
_NAMES_LENGTH_MAX = 300
# Different values of a field unknown to the model that are counted; there are no more of any
# field that has categories.
_UNKNOWN_MAX = 50_000
# One answer at most, with an id of the longest text that is read.
_CSV_BLOCK_BYTES = 64 * 2**20
# Endings of what is no plain CSV; a program that trusts the name would stumble.
_OTHER_ENDINGS = (".gz", ".zip", ".bz2", ".xz", ".zst", ".xlsx")


class Tally(BaseModel):
    """How many there are of something, and what the first few are called."""

    count: int = 0
    named: list[str] = []

    def add(self, other: Tally) -> None:
        """Count those that come after these."""
        self.count += other.count
        self.named = (self.named + other.named)[:_NAMED_MAX]

    def __str__(self) -> str:
        """Name the first few, and say how many more there are."""
        more = self.count - len(self.named)
        return "; ".join(self.named) + (f"; and {more:,} more" if more else "")


class Findings(BaseModel):
    """What is to be told of some consecutive ads; its size does not grow with them."""

    rows: int = 0
    answered: int = 0
    flawed: int = 0  # ads with any of the cells
    cells: Tally = Tally()
    ignored: str = ""  # names of columns
    headers: Tally = Tally()
    lacking: Tally = Tally()
    nameless: Tally = Tally()
    unknown: dict[str, dict[str, int]] = {}  # number of ads by field and value

    def add(self, other: Findings) -> None:
        """Take in what was found in the ads that come after these."""
        self.rows += other.rows
        self.answered += other.answered
        self.flawed += other.flawed
        self.ignored = self.ignored or other.ignored
        for name in ("cells", "headers", "lacking", "nameless"):
            getattr(self, name).add(getattr(other, name))
        for field, counts in other.unknown.items():
            known = self.unknown.setdefault(field, {})
            for value, count in counts.items():
                if value in known or len(known) < _UNKNOWN_MAX:
                    known[value] = known.get(value, 0) + count

    def warnings(self) -> list[str]:
        """Say in a sentence each what is flawed, how often, and where first."""
        told = []
        if self.cells.count:
            told.append(
                f"{counted(self.cells.count, 'cell')} of {counted(self.flawed, 'ad')} cannot be "
                "read or are out of bounds, and count as missing (of a text, only its NUL bytes): "
                f"{self.cells}"
            )
        if self.ignored:
            told.append(f"ignored columns: {self.ignored}")
        if self.headers.count:
            told.append(f"the header is there again, and left out: {self.headers}")
        if self.lacking.count:
            have = "has" if self.lacking.count == 1 else "have"
            told.append(
                f"{counted(self.lacking.count, 'ad')} without {' or '.join(REQUEST_REQUIRED)} "
                f"{have} an empty {TARGET}: {self.lacking}"
            )
        if self.nameless.count:
            told.append(f"{counted(self.nameless.count, 'ad')} without {ID}: {self.nameless}")
        values = [
            (count, f"{field} {quote(value)!r} ({counted(count, 'ad')})")
            for field, counts in self.unknown.items()
            for value, count in counts.items()
        ]
        if values:
            values.sort(key=lambda value: -value[0])
            named = Tally(count=len(values), named=[name for _, name in values[:_NAMED_MAX]])
            told.append(
                "unknown to the model, whose answers to such ads are those to any of their kind: "
                f"{named}"
            )
        return told


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


class _Checkpoint(BaseModel):
    """How far a file of ads was answered into the file of answers beside this one."""

    run: tuple[str, ...]  # what must be the same to go on
    parts: int = 0
    size: int = 0  # of the answers, in bytes
    found: Findings = Findings()


@dataclass(frozen=True)
class _Answerer:
    """Answers a part of a file; pickled, it does so in other processes."""

    predictor: Predictor
    known: KnownValues | None
    for_spreadsheets: bool

    def __call__(self, part: UntypedPart) -> tuple[bytes, Findings, float]:
        """Return rows of CSV, what there is to tell of them, and how much of the file is read."""
        loaded = part.typed()
        ads, flaws = _cleaned(loaded)
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
        found.add(_oddities(loaded))
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
    workspace = current_workspace()
    key = hashlib.sha256(os.fsencode(output.parent.resolve() / output.name)).hexdigest()[:16]
    with exclusive(workspace.locks / f"batch-{key}.lock", f"answers to {output}"):
        as_parquet = output.suffix.lower() == PARQUET
        answerer = _Answerer(predictor, known, for_spreadsheets=not as_parquet)
        md5 = ads_md5(data, max_file_gb)
        folder = workspace.batch / key
        try:
            parts = stream_untyped(data, labelled=False, max_file_gb=max_file_gb)
            found = _answer(answerer, parts, folder, (md5, model, __version__))
            with write_aside(output) as aside:
                (_write_parquet if as_parquet else shutil.copyfile)(folder / _ANSWERS, aside)
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
    done = _checkpoint(folder, run)
    if before := done.found.rows:
        told = f"  goes on after {counted(before)} that are answered already"
        console().print(told, soft_wrap=True)
    with (folder / _ANSWERS).open("ab") as file:
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
            with write_aside(folder / _CHECKPOINT) as aside:
                aside.write_text(done.model_dump_json(), encoding="utf-8")
            report(share, 1.0, _pace(done.found.rows, before, now - begun, share))
    return done.found


def _pace(rows: int, before: int, seconds: float, share: float) -> str:
    """Say how many ads are answered, ``before`` of them earlier, and how long the rest takes."""
    rate = max(rows - before, 1) / seconds
    left = rows * (1 / share - 1) / rate
    return f"{rows:,} ads, {rate:,.0f} a second, about {left:.0f} s left"


def _checkpoint(folder: Path, run: tuple[str, ...]) -> _Checkpoint:
    """Return where the same run was interrupted, or the beginning."""
    try:
        done = _Checkpoint.model_validate_json((folder / _CHECKPOINT).read_bytes())
        same = done.run == run and (folder / _ANSWERS).stat().st_size >= done.size
    except (OSError, ValueError):
        same = False
    return done if same else _Checkpoint(run=run)


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
            f"the header has: {', '.join(header[:20])[:_NAMES_LENGTH_MAX]}"
        )
    if output.exists() and os.path.samefile(data, output):
        raise StateError(f"--output {output} is the file of ads itself: name another file")
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=output.parent):
            pass
    except OSError as error:
        raise StateError(f"cannot write {output}: {error.strerror or error}") from error


def cleaned(loaded: AdsPart) -> tuple[pd.DataFrame, list[str]]:
    """Return the ads as a request may carry them, and warnings that count what was not so.

    A cell that could not be read is missing already; here a number out of its bounds and
    a text over its length become missing, too, since the model has never learnt from such
    and the APIs refuse them. ``item_id`` is no field of the model and stays as it is.

    The ads have shape and columns of ``loaded.frame``, which is not changed; of warnings
    there is one or none.
    """
    ads, found = _cleaned(loaded)
    return ads, found.warnings()


def _cleaned(loaded: AdsPart) -> tuple[pd.DataFrame, Findings]:
    ads = loaded.frame.copy(deep=False)
    flaws = loaded.unparsed[["row", "column", "value", "reason"]].to_numpy().tolist()
    for name in ads.columns.drop(ID):
        column = COLUMN[str(name)]
        beyond, reason = _beyond_schema(column, ads[name])
        if beyond.any():
            flaws += [[r, name, quote(ads[name].iat[r]), reason] for r in np.flatnonzero(beyond)]
            kept = ads[name].to_numpy(copy=True)
            kept[beyond] = missing_values(column.kind, 1)[0]
            ads[name] = kept
    flaws.sort(key=lambda flaw: int(flaw[0]))
    named = [
        f"{_place(loaded, row)}, {column} {str(value)[:80]!r}: {reason}"
        for row, column, value, reason in flaws[:_NAMED_MAX]
    ]
    flawed = len({row for row, *_ in flaws})
    return ads, Findings(cells=Tally(count=len(flaws), named=named), flawed=flawed)


def complete(ads: pd.DataFrame, required: Sequence[str] = REQUEST_REQUIRED) -> NDArray[np.bool_]:
    """Say for each ad whether it has all that is required, shape (n,)."""
    return ads[list(required)].notna().all(axis=1).to_numpy(dtype=np.bool_)


def places(loaded: AdsPart, rows: Sequence[int] | NDArray[np.int64]) -> Tally:
    """Count some ads, and name the first few by where they are in the file."""
    return Tally(count=len(rows), named=[_place(loaded, row) for row in rows[:_NAMED_MAX]])


def _place(loaded: AdsPart, row: int) -> str:
    """Return where an ad is: the line where it begins, from 1; of Parquet, its row, from 1."""
    if loaded.lines is None:
        return f"row {loaded.first_row + row + 1}"
    return f"line {loaded.lines[row]}"


def ignored(loaded: AdsPart) -> list[str]:
    """Return warnings that name the columns which an ad does not have, and repeated headers."""
    return _oddities(loaded).warnings()


def repeated(loaded: AdsPart) -> list[str]:
    """Return a warning that names the rows which say the header again, or none."""
    return Findings(headers=_oddities(loaded).headers).warnings()


def _oddities(loaded: AdsPart) -> Findings:
    """Return what is odd in the table around the ads."""
    # repr keeps a name that is empty or has a line break in it legible.
    names = ", ".join(map(repr, loaded.ignored_columns))[:_NAMES_LENGTH_MAX]
    headers, where = loaded.repeated_headers, "row" if loaded.lines is None else "line"
    named = [f"{where} {place}" for place in headers[:_NAMED_MAX]]
    return Findings(ignored=names, headers=Tally(count=len(headers), named=named))


def _beyond_schema(column: Column, values: pd.Series[Any]) -> tuple[NDArray[np.bool_], str]:
    """Say which values the schema does not allow, and why; a missing one it does."""
    if column.max_length is not None:
        lengths = np.array([len(text or "") for text in values.tolist()])
        return lengths > column.max_length, f"longer than {column.max_length:,} characters"
    low, high, numbers = column.minimum, column.maximum, values.to_numpy()
    if low is None or high is None:
        return np.zeros(len(values), dtype=np.bool_), ""
    return (numbers < low) | (numbers > high), f"not between {low:g} and {high:g}"
