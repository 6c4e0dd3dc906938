"""How fast is a file of ads answered? ``python -m benchmarks.batch``.

Trains a model in a temporary installation, and lets ``run.py --pipeline batch-inference`` answer
a file of demo ads, of which at most a million differ: once undisturbed, and once killed when half
of the ads are answered, and run again. Seconds and memory are of the whole command, with its
start; memory is that of all processes, a page that n of them share counted once. Prints what was
found and writes it below benchmarks/results. Exit status 0, whatever it was.
"""

from __future__ import annotations

import contextlib
import csv
import filecmp
import itertools
import json
import sys
import time
from pathlib import Path

import psutil

from benchmarks import report
from benchmarks.servers.installation import Installation, temporary_installation
from benchmarks.servers.usage import SAMPLE_S, watch
from cli.terminal import whole_number
from demand.demo import write_demo
from demand.errors import ServingError
from demand.workspace.workspace import Workspace

_DIFFERENT, _SEED, _END_S = 1_000_000, 3, 20.0


def main(arguments: list[str] | None = None) -> int:
    """Measure and print; return the exit status."""
    parser = report.program_parser("batch", __doc__, "--rows 10000000")
    count, text = whole_number(100_000, 12_000_000), "ads in the file (default: %(default)s)"
    parser.add_argument("--rows", metavar="N", type=count, default=1_000_000, help=text)
    return report.run(parser, arguments, measure)


def measure(rows: int, say: report.Say) -> report.Report:
    """Return the figures of a file of so many ads."""
    about = report.machine()
    with temporary_installation() as installation:
        folder = installation.folder
        whole, resumed = folder / "whole.csv", folder / "resumed.csv"
        say(f"writing {rows:,} demo ads")
        write_ads(folder / "many.csv", rows)
        say("training a model")
        installation.train()
        command = f"run.py --pipeline batch-inference --data {folder / 'many.csv'} --output "
        say("answering all")
        seconds, cpu, memory = answer(installation, f"{command}{whole}")
        say("answering half, and killed")
        left = kill(installation, f"{command}{resumed}", rows // 2)
        say("answering the rest")
        rest, _, _ = answer(installation, f"{command}{resumed}")
        same = filecmp.cmp(whole, resumed, shallow=False)
    findings = [
        report.Finding("ads a second", rows / seconds, 30_000, at_most=False),
        report.Finding("memory, all processes", memory, 2_000, unit="MB"),
        report.Finding("processes left by kill -9", left, 0),
        report.Finding("the same bytes as undisturbed", same, 1, at_most=False),
    ]
    times = [("all", seconds), ("the rest, after kill -9", rest), ("all, CPU time", cpu)]
    lines = [(what, spent, 1e6 * spent / rows) for what, spent in times]
    spent = report.Grid("Time", {"": "", "seconds": ",.0f", "µs an ad": ".1f"}, lines)
    grids = [report.asked_and_found(findings), spent]
    return report.Report("batch", {**about, "ads": f"{rows:,}"}, __doc__, grids)


def write_ads(path: Path, rows: int) -> None:
    """Write demo ads, again from the first where there are more than a million."""
    different = path.with_name("different.csv")
    write_demo(different, min(rows, _DIFFERENT), _SEED)
    with path.open("w", encoding="utf-8", newline="") as target:
        for done in range(0, rows, _DIFFERENT):
            with different.open(encoding="utf-8", newline="") as source:
                writer, table = csv.writer(target), csv.reader(source)
                writer.writerows(itertools.islice(table, bool(done), rows - done + 1))
    different.unlink()


def answer(installation: Installation, command: str) -> tuple[float, float, float]:
    """Run to the end; return seconds, CPU seconds, and the most megabytes of all processes."""
    with installation.program(command) as (process, _):
        used = list(watch(process))
        if process.returncode:
            raise ServingError(f"`python {command}` ended with {process.returncode}")
    return used[-1].seconds, used[-1].cpu_s, max(each.megabytes for each in used)


def kill(installation: Installation, command: str, rows: int) -> int:
    """End a run as the system does, once so many ads are answered; count what it leaves running."""
    batch = Workspace(installation.home).batch
    with installation.program(command) as (process, _):
        while _answered(batch) < rows:
            if process.poll() is not None:
                raise ServingError(f"`python {command}` ended before it was killed")
            time.sleep(SAMPLE_S)
        started = process.children(recursive=True)
        process.kill()
        _, left = psutil.wait_procs(started, _END_S)
    return len(left)


def _answered(batch: Path) -> int:
    """Return how many ads the one run that is going on has answered."""
    for path in batch.glob("*/checkpoint.json"):
        with contextlib.suppress(OSError):
            return int(json.loads(path.read_bytes())["found"]["rows"])
    return 0


if __name__ == "__main__":
    sys.exit(main())
