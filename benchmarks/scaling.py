"""What do more ads cost, and what are they worth? ``python -m benchmarks.scaling``.

Runs ``run.py --pipeline training`` on demo ads in a temporary installation, deployment included,
then peers on the same training, validation and test ads. Each is a process of its own. Memory is
that of the process and all below it, a page that n of them share counted once; like CPU time it
is looked at every two seconds. A peer is ended when it has taken as long as our pipeline, or
``--memory-gb``; those that learn in rounds or passes stop at four fifths of the time, and answer.

Explained is a share of what can be: (mean² - RMSE²) / (mean² - floor²) on the test ads, of the
mean predictor and of the true means, which only demo ads tell. RMSE less ours has a 95 % interval
(paired bootstrap by seller): positive where ours is better. KB on disk; µs of one ad by itself.
Exit status 0, whatever was found.
"""

from __future__ import annotations

import contextlib
import math
import os
import re
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from itertools import pairwise
from pathlib import Path
from signal import SIGKILL
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
import psutil
from matplotlib.figure import Figure
from safetensors.numpy import load_file

from benchmarks import report
from benchmarks.models.folds import size_on_disk
from benchmarks.models.large import PEERS
from benchmarks.servers.installation import Installation, temporary_installation
from benchmarks.servers.usage import Usage, watch
from benchmarks.speed import one_ad
from cli.terminal import whole_number
from demand.data.typed import TypedAds
from demand.demo import noise_floor, write_demo
from demand.errors import ServingError
from demand.evaluation.metrics import Floats, bootstrap_rmse, rmse
from demand.registry.model_files import load_predictor
from demand.registry.registry import Registry
from demand.reports.plots import INK, OURS, STYLE
from demand.schema.columns import TARGET
from demand.workspace.workspace import Workspace

ROWS = (10_000, 100_000, 500_000, 1_500_000)
SEED = 13  # of the demo ads
REST, ALL = "ZenML and start-up", "all"
PARTS = ("training", "validation", "test")
# What was asked is asked of so many ads; below, a start costs more than the ads.
_ASKED_ROWS, _GROWTH_ROWS_MIN = 1_500_000, 100_000
_TIMED_ADS, _LEARNING_SHARE = 2_000, 0.8
_STEP = re.compile(r"^  (\w+): done, ([\d.]+) s$", re.MULTILINE)


@dataclass(frozen=True)
class Model:
    """What a model used, how it ended, and its answers to the test ads, None where none."""

    name: str
    used: Usage
    end: str
    answers: Floats | None


@dataclass(frozen=True)
class Size:
    """All that was found with so many ads; the first of the models is ours.

    ``test`` are the test ads, with target and seller; ``mean`` is the RMSE of the mean predictor
    on them, ``floor`` that of the true means, NaN where they are unknown.
    """

    rows: int
    test: pd.DataFrame
    mean: float
    floor: float
    steps: Mapping[str, Usage]
    kilobytes: float
    microseconds: float
    models: Sequence[Model]

    def quality(self, model: Model) -> tuple[float, float]:
        """Return RMSE and explained share, NaN where the model did not answer."""
        error = math.nan if model.answers is None else rmse(self.test[TARGET], model.answers)
        return error, (self.mean**2 - error**2) / (self.mean**2 - self.floor**2)

    def behind(self, model: Model) -> tuple[float, float, float]:
        """Return the RMSE of a model less that of ours, and its interval."""
        ours, sellers = self.models[0].answers, self.test["user_id"]
        if model.answers is None or model.answers is ours:
            return math.nan, math.nan, math.nan
        return bootstrap_rmse(self.test[TARGET], model.answers, ours, groups=sellers)


def train(installation: Installation, data: Path, config: Path | None) -> dict[str, Usage]:
    """Run the pipeline, and stop what it deployed; return what each step and all used.

    Raises
    ------
    ServingError
        It did not deploy; quotes what it said.
    """
    command = ["run.py", "--pipeline", "training", "--data", str(data)]
    command += ["--config", str(config)] if config else []
    used, ended = [Usage(0.0, 0.0, 0.0)], dict[str, tuple[float, float]]()
    try:
        with installation.program(shlex.join(command)) as (process, _):
            for now in watch(process):
                used.append(now)
                for step, seconds in _STEP.findall(installation.said()):
                    ended.setdefault(step, (now.seconds, float(seconds)))
            if process.returncode:
                said = installation.said()[-2_000:]
                raise ServingError(f"the pipeline ended with {process.returncode}:\n{said}")
    finally:
        installation.stop()
    return usage_of_steps(np.array(used), ended)


def usage_of_steps(used: Floats, ended: Mapping[str, tuple[float, float]]) -> dict[str, Usage]:
    """Return what each step used, what was used between them, and all.

    ``used`` are moments, as :class:`Usage` has them, shape (n, 3), the first at the start; of
    each step that ``ended`` is known when, and after how many seconds.
    """
    at, cpu_s, megabytes = used.T
    steps, between = {}, np.ones(len(at), dtype=np.bool_)
    for step, (end, seconds) in ended.items():
        within = (at >= end - seconds) & (at <= end)
        between &= ~within
        begun, done = np.interp([end - seconds, end], at, cpu_s)
        steps[step] = Usage(seconds, done - begun, megabytes[within].max())
    total = Usage(at[-1], cpu_s[-1], megabytes.max())
    seconds, spent, _ = np.sum([*steps.values()], axis=0)
    most = megabytes[between].max(initial=0.0)
    return {**steps, REST: Usage(at[-1] - seconds, cpu_s[-1] - spent, most), ALL: total}


def learn(installation: Installation, peer: str, ads: Path, parts: Path, limit: Usage) -> Model:
    """Let a peer learn and answer, in a process that ends at a limit of seconds or memory."""
    answers = installation.folder / f"{peer}.npz"
    given = (peer, ads, parts, answers, _LEARNING_SHARE * limit.seconds)
    command = shlex.join(["-m", "benchmarks.models.large", *map(str, given)])
    used, end = [], ""
    with installation.program(command) as (process, _):
        for now in watch(process):
            used.append(now)
            if now.seconds > limit.seconds or now.megabytes > limit.megabytes:
                end = "out of time" if now.seconds > limit.seconds else "out of memory"
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.kill()
    name, took = PEERS[peer][0], Usage(*np.max(used, axis=0))
    if not process.returncode:
        with np.load(answers) as found:
            return Model(name, took, str(found["told"]), found["answers"])
    last = " ".join(installation.said().split("\n")[-2:])
    if process.returncode == -SIGKILL or "MemoryError" in last:
        return Model(name, took, end or "out of memory", None)
    return Model(name, took, f"failed: {last}", None)


def measure_size(
    installation: Installation,
    data: Path,
    demo_rows: int,
    say: report.Say,
    *,
    peers: Sequence[str],
    time_limit: int | None,
    memory_gb: int,
    config: Path | None,
) -> Size:
    """Run the pipeline on a file, then the peers; it has so many demo ads, or others (0)."""
    say("our pipeline")
    steps, store = train(installation, data, config), installation.folder / "zenml"
    # Which ads are in which part is what the pipeline itself decided.
    ads = TypedAds(next(store.rglob("ingest/ads/**/ads.parquet")))
    files = [next(store.rglob(f"split/{part}_rows/**/rows.safetensors")) for part in PARTS]
    rows = {part: load_file(file)["rows"] for part, file in zip(PARTS, files, strict=True)}
    np.savez(parts := installation.folder / "parts.npz", **rows)
    test = ads.frame(rows["test"])
    plain, known = test.drop(columns=TARGET), test[[TARGET, "user_id"]]
    champion = Registry(Workspace(installation.home)).asked()
    predictor = load_predictor(champion, judged=True)
    one = float(np.median(one_ad(predictor, plain.head(_TIMED_ADS))))
    models = [Model("ours", steps[ALL], "", predictor.predict(plain))]
    for peer in peers:
        say(PEERS[peer][0])
        limit = Usage(time_limit or steps[ALL].seconds, math.inf, 1e3 * memory_gb)
        models.append(learn(installation, peer, ads.path, parts, limit))
    mean, size = champion.metrics["baseline_rmse"], size_on_disk(predictor) / 1024
    floor = noise_floor(demo_rows, SEED, test["item_id"].tolist()) if demo_rows else math.nan
    return Size(ads.rows, known, mean, floor, steps, size, one, models)


def findings(sizes: Sequence[Size]) -> list[report.Finding]:
    """Return what was asked: of the most ads, and how fast time and memory grow."""
    last, asked = sizes[-1], report.Finding
    ours, share = last.models[0].used, last.quality(last.models[0])[1]
    found = [
        asked("size of the model", last.kilobytes, 5_000, unit="KB"),
        asked("one ad", last.microseconds, 150, unit="µs"),
    ]
    if last.rows >= _ASKED_ROWS:
        found += [
            asked("whole pipeline", ours.seconds / 60, 25, unit="minutes"),
            asked("memory", ours.megabytes / 1e3, 6, unit="GB"),
            asked("explained", share, 0.82, at_most=False),
        ]
    for model in (each for each in last.models[1:] if each.answers is not None):
        name = f"RMSE of {model.name} less ours, low end"
        found.append(asked(name, last.behind(model)[1], 0, at_most=False))
    for less, more in pairwise(each for each in sizes if each.rows >= _GROWTH_ROWS_MIN):
        growth = np.divide(more.models[0].used, less.models[0].used) / (more.rows / less.rows)
        for what, times in zip(("time", "memory"), growth[[0, 2]], strict=True):
            name = f"growth of {what} by that of {less.rows:,} to {more.rows:,} ads"
            found.append(asked(name, times, 1))
    return found


def grids(sizes: Sequence[Size]) -> list[report.Grid]:
    """Return tables of what was asked, of our pipeline, of its steps, and of the peers."""
    used = {"s": ",.0f", "CPU s": ",.0f", "MB": ",.0f"}
    whole, peers = list[list[report.Cell]](), list[list[report.Cell]]()
    for each in sizes:
        ours = each.models[0]
        error, share = each.quality(ours)
        size = [each.mean, each.floor, share, each.kilobytes, each.microseconds]
        whole.append([f"{each.rows:,}", *ours.used, error, *size])
        for model in each.models:
            error, share = each.quality(model)
            behind = "{:+.4f} ({:+.4f} … {:+.4f})".format(*each.behind(model))
            told = None if "nan" in behind else behind
            name = f"{each.rows:,}: {model.name}"
            peers.append([name, error, told, share, *model.used, model.end])
    columns = {"ads": "", **used, "RMSE": ".4f", "mean": ".4f", "floor": ".4f"}
    columns |= {"explained": ".1%", "KB": ",.0f", "µs": ".0f"}
    of_steps = {f"{each.rows:,}: {name}": form for each in sizes for name, form in used.items()}
    steps = [[step, *(x for each in sizes for x in each.steps[step])] for step in sizes[0].steps]
    beside = {"ads: model": "", "RMSE": ".4f", "RMSE - ours": "", "explained": ".1%", **used}
    return [
        report.asked_and_found(findings(sizes)),
        report.Grid("Our pipeline", columns, whole),
        report.Grid("Its steps", {"step": "", **of_steps}, steps),
        report.Grid("Beside peers, on the same ads", {**beside, "end": ""}, peers),
    ]


def draw(sizes: Sequence[Size]) -> bytes:
    """Draw time, memory and RMSE by the number of ads, as PNG."""
    rows, png = [each.rows for each in sizes], BytesIO()
    with mpl.rc_context(fname=STYLE):
        figure = Figure((9.6, 3.8))
        panels = figure.subplots(1, 3)
        for place, model in enumerate(sizes[0].models):
            found = [each.models[place] for each in sizes]
            errors = [each.quality(one)[0] for each, one in zip(sizes, found, strict=True)]
            lines = [one.used.seconds for one in found], [one.used.megabytes / 1e3 for one in found]
            how = {"color": f"C{place}" if place else OURS, "linewidth": 1 if place else 2.5}
            for axes, line in zip(panels, (*lines, errors), strict=True):
                axes.plot(rows, line, marker=".", label=model.name, **how)
        floors = [each.floor for each in sizes]
        panels[2].plot(rows, floors, color=INK, linestyle=":", label="noise floor")
        for axes, title in zip(panels, ("Seconds", "Memory, GB", "RMSE"), strict=True):
            axes.set(title=title, xlabel="ads", xscale="log")
            axes.set_xticks(rows, [f"{each / 1000:,.0f} k" for each in rows])
            axes.set_xticks([], minor=True)
        panels[0].set_yscale("log")
        figure.legend(*panels[2].get_legend_handles_labels(), loc="outside lower center", ncols=4)
        figure.savefig(png, format="png", metadata={"Software": None})
    return png.getvalue()


def main(arguments: list[str] | None = None) -> int:
    """Measure, print and write; return the exit status."""
    examples = "--rows 10000 100000 --peers ridge mlp", "--data train.csv.zip"
    parser = report.program_parser("scaling", __doc__, *examples)
    add, count = parser.add_argument, whole_number(1, 10_000_000)
    text = "demo ads (default: 10000 100000 500000 1500000)"
    add("--rows", metavar="N", type=count, nargs="+", default=ROWS, help=text)
    add("--data", type=Path, metavar="FILE", help="labelled ads, in the place of demo ads")
    text = f"only these, or none (default: {' '.join(PEERS)})"
    add("--peers", nargs="*", choices=PEERS, default=[*PEERS], metavar="KEY", help=text)
    text = "seconds of a peer (default: as many as our pipeline took)"
    add("--time-limit", metavar="N", type=count, help=text)
    text = "gigabytes of a peer (default: %(default)s)"
    add("--memory-gb", metavar="N", type=count, default=12, help=text)
    add("--config", type=Path, metavar="FILE", help="of our pipeline (default: its own)")
    return report.run(parser, arguments, measure)


def measure(
    rows: Sequence[int], data: Path | None, say: report.Say, **options: Any
) -> report.Report:
    """Measure each number of demo ads, or the file; ``options`` are of :func:`measure_size`."""
    about, sizes, threads = report.machine(), list[Size](), os.cpu_count() or 1
    for count in [0] if data else sorted(rows):
        with temporary_installation(threads=threads) as installation:
            path = data.resolve() if data else installation.folder / "ads.csv"
            if not data:
                say(f"writing {count:,} demo ads")
                write_demo(path, count, SEED)
            sizes.append(measure_size(installation, path, count, say, **options))
    return report.Report("scaling", about, __doc__, grids(sizes), plot=draw(sizes))


if __name__ == "__main__":
    sys.exit(main())
