"""What all benchmarks share: options, progress, tables for people, files for programs."""

from __future__ import annotations

import argparse
import datetime
import math
import os
import platform
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from cli.terminal import guarded
from demand.workspace.workspace import PROJECT_ROOT, write_aside, write_json

RESULTS = PROJECT_ROOT / "benchmarks" / "results"
Say = Callable[[str], None]
Cell = str | float | None


@dataclass(frozen=True)
class Grid:
    """A table: for the terminal, for Markdown and for JSON from the same cells.

    ``columns`` say by heading how numbers are written: a format of Python's, or ``n`` for as
    many digits as a reader compares. None and NaN are written as a dash.
    """

    title: str
    columns: Mapping[str, str]
    rows: Sequence[Sequence[Cell]]

    def table(self) -> Table:
        """Return it for the terminal."""
        table = Table(title=self.title, title_justify="left")
        for place, heading in enumerate(self.columns):
            table.add_column(heading, justify="right" if place else "left")
        for row in self._texts():
            table.add_row(*row)
        return table

    def markdown(self) -> list[str]:
        """Return its lines in Markdown."""
        rule = "|---|" + "---:|" * (len(self.columns) - 1)
        lines = ["| " + " | ".join(row) + " |" for row in (self.columns, *self._texts())]
        return [f"## {self.title}", "", lines[0], rule, *lines[1:], ""]

    def records(self) -> list[dict[str, Cell]]:
        """Return its rows for JSON, numbers as they are."""
        rows = [[None if cell != cell else cell for cell in row] for row in self.rows]
        return [dict(zip(self.columns, row, strict=True)) for row in rows]

    def _texts(self) -> list[list[str]]:
        formats = self.columns.values()
        return [[_text(*each) for each in zip(row, formats, strict=True)] for row in self.rows]


def _text(cell: Cell, form: str) -> str:
    if isinstance(cell, str):
        return cell
    if cell is None or math.isnan(cell):
        return "–"
    return number(cell) if form == "n" else format(cell, form)


def number(value: float) -> str:
    """Write a number with as many digits as a reader compares."""
    if not math.isfinite(value) or abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}" if value != int(value) else f"{value:.0f}"


@dataclass(frozen=True)
class Finding:
    """A figure and what was asked of it: at most so much, or at least.

    ``spread`` are the least and the most of the rounds, where there were several.
    """

    figure: str
    found: float
    asked: float
    at_most: bool = True
    unit: str = ""
    spread: tuple[float, float] | None = None

    @property
    def passed(self) -> bool:
        """Whether what was asked was found; what is no number does not pass."""
        return self.found <= self.asked if self.at_most else self.found >= self.asked


def asked_and_found(findings: Sequence[Finding]) -> Grid:
    """Return a line a finding."""
    rows = [
        (
            each.figure,
            f"{'≤' if each.at_most else '≥'} {number(each.asked)} {each.unit}".strip(),
            f"{number(each.found)} {each.unit}".strip(),
            " … ".join(map(number, each.spread or ())),
            "pass" if each.passed else "MISSED",
        )
        for each in findings
    ]
    columns = dict.fromkeys(("figure", "asked", "found", "rounds", "passed"), "")
    return Grid("Asked and found", columns, rows)


@dataclass(frozen=True)
class Report:
    """The tables of a program (a module below ``benchmarks``), and what else is written.

    ``about`` tells machine and settings, ``notes`` what was done and how to read the tables;
    ``grids`` are printed and written, ``details`` only written, as is ``plot``, a PNG. ``status``
    is the program's exit status, ``summary`` a last line.
    """

    program: str
    about: Mapping[str, str | float]
    notes: str | None
    grids: Sequence[Grid]
    details: Sequence[Grid] = ()
    status: int = 0
    summary: str = ""
    plot: bytes | None = None

    def write(self, folder: Path) -> Path:
        """Write ``.json`` and ``.md``, and the plot as ``.png``; return the path of ``.md``."""
        name, grids = self.program, [grid for grid in (*self.grids, *self.details) if grid.rows]
        facts = ", ".join(f"{fact} {value}" for fact, value in self.about.items())
        lines = [f"# {name.replace('_', ' ').capitalize()}", "", facts, "", self.notes or "", ""]
        lines += [f"Written by `python -m benchmarks.{name}`.", ""]
        lines += [line for grid in grids for line in grid.markdown()]
        if self.plot is not None:
            lines += [f"![]({name}.png)", ""]
            with write_aside(folder / f"{name}.png") as temporary:
                temporary.write_bytes(self.plot)
        with write_aside(folder / f"{name}.md") as temporary:
            temporary.write_text("\n".join(lines), encoding="utf-8")
        tables = {grid.title: grid.records() for grid in grids}
        write_json(folder / f"{name}.json", {"about": dict(self.about), "tables": tables})
        return folder / f"{name}.md"


def program_parser(
    program: str, description: str | None, *examples: str
) -> argparse.ArgumentParser:
    """Return a program's parser, whose ``--help`` ends with examples."""
    prog = f"python -m benchmarks.{program}"
    return argparse.ArgumentParser(
        prog=prog,
        description=description,
        epilog="\n".join(["examples:", *(f"  {prog} {example}" for example in examples)]),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def run(
    parser: argparse.ArgumentParser,
    arguments: list[str] | None,
    measure: Callable[..., Report],
) -> int:
    """Measure with a program's options, as keywords; print and write what is found.

    Progress, for which there is the keyword ``say``, is told on standard error. Returns the
    exit status, also that of an error.
    """
    where = "where files are written (default: benchmarks/results)"
    parser.add_argument("--results", type=Path, metavar="DIR", default=RESULTS, help=where)
    parser.add_argument("--quiet", action="store_true", help="no progress")
    options = vars(parser.parse_args(arguments))
    results, quiet = options.pop("results"), options.pop("quiet")
    told, started = Console(stderr=True, quiet=quiet, highlight=False), time.perf_counter()

    def say(what: str) -> None:
        told.print(f"  {time.perf_counter() - started:5.0f} s  {what}", soft_wrap=True)

    def program() -> int:
        found = measure(**options, say=say)
        written = found.write(results)
        console = Console(width=None if sys.stdout.isatty() else 180)
        for grid in filter(lambda grid: grid.rows, found.grids):
            console.print(grid.table())
        console.print(f"{found.summary} Also as {written} and .json.".lstrip(), soft_wrap=True)
        return found.status

    return guarded(program)


def machine() -> dict[str, str | float]:
    """Return when and on what a benchmark runs."""
    return {
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "cores": os.cpu_count() or 0,
        "load average": f"{os.getloadavg()[0]:.1f}",
        "Python": platform.python_version(),
    }
