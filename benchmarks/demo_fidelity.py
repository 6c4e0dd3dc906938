"""Are the demo ads as hard as the real ones? ``python -m benchmarks.demo_fidelity``.

Trains category means, ridge on TF-IDF and LightGBM on demo ads and on real ads with the
same code, by cross-validation grouped by seller, and prints their errors side by side;
then the shares, quantiles and means of many demo ads beside the published ones of the
real ads. Exit status 0 where all lie within their tolerances, 1 where one does not.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import pandas as pd
from rich.console import Console
from rich.table import Table

from benchmarks.fidelity_models import cross_validate
from benchmarks.fidelity_shapes import TOLERANCE, Comparison, compare_shapes
from demand.demo import generate, noise_floor
from demand.ingestion.reading import read_ads
from demand.state import PROJECT_ROOT, write_aside, write_json

RESULTS = PROJECT_ROOT / "benchmarks" / "results"


def compare_errors(demo: pd.DataFrame, real: pd.DataFrame, folds: int) -> list[Comparison]:
    """Return the peers' cross-validated RMSE on both sets of ads."""
    return [
        Comparison("RMSE", on_demo.peer, on_real.rmse, on_demo.rmse, TOLERANCE)
        for on_demo, on_real in zip(
            cross_validate(demo, folds), cross_validate(real, folds), strict=True
        )
    ]


def table_of(comparisons: list[Comparison], title: str) -> Table:
    """Return a table with one line a figure."""
    table = Table(title=title, title_justify="left")
    for heading in ("figure", "real", "demo", "difference", "tolerance", ""):
        table.add_column(heading, justify="left" if heading in {"figure", ""} else "right")
    for item in comparisons:
        table.add_row(*cells_of(item))
    return table


def cells_of(item: Comparison) -> tuple[str, ...]:
    """Return the cells of one comparison's line."""
    return (
        item.figure if item.group == "RMSE" else f"{item.group}: {item.figure}",
        f"{item.real:.4f}",
        f"{item.demo:.4f}",
        f"{item.demo - item.real:+.4f}",
        f"{item.tolerance:.4f}",
        "pass" if item.passed else "FAIL",
    )


def worst_of_each(comparisons: list[Comparison]) -> list[Comparison]:
    """Return all that failed, all of small groups, and the worst of each large group."""
    shown = []
    for group in dict.fromkeys(item.group for item in comparisons):
        members = [item for item in comparisons if item.group == group]
        if len(members) > 15:
            worst = max(members, key=lambda item: abs(item.demo - item.real) / item.tolerance)
            shown += [item for item in members if not item.passed or item is worst]
        else:
            shown += members
    return shown


def write_results(errors: list[Comparison], shapes: list[Comparison], floor: float) -> None:
    """Write all figures as JSON and as Markdown."""
    everything = [*errors, *shapes]
    write_json(
        RESULTS / "demo_fidelity.json",
        {"noise_floor": floor, "comparisons": [item.as_dict() for item in everything]},
    )
    lines = [
        "# Demo ads beside real ones",
        "",
        f"Noise floor of the demo ads: {floor:.4f}.",
        "Written by `python -m benchmarks.demo_fidelity`.",
        "",
        "| figure | real | demo | difference | tolerance | |",
        "|---|---:|---:|---:|---:|---|",
        *("| " + " | ".join(cells_of(item)) + " |" for item in everything),
    ]
    with write_aside(RESULTS / "demo_fidelity.md") as temporary:
        temporary.write_text("\n".join(lines) + "\n", encoding="utf-8")


def main(arguments: list[str] | None = None) -> int:
    """Compare, print and write; return the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=PROJECT_ROOT / "../shared/avito/ads.csv")
    parser.add_argument("--rows", type=int, default=8_000, help="demo ads to train on")
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--seed", type=int, default=2017)
    parser.add_argument("--shape-rows", type=int, default=200_000, help="demo ads to count")
    options = parser.parse_args(arguments)
    console = Console(width=None if sys.stdout.isatty() else 120)
    if not options.data.exists():
        console.print(f"there are no real ads at {options.data}: name them with --data")
        return 1
    real = read_ads(options.data).frame
    errors = compare_errors(generate(options.rows, options.seed), real, options.folds)
    floor = noise_floor(options.rows, options.seed)
    console.print(
        table_of(
            errors, f"RMSE on {len(real)} real and {options.rows} demo ads, {options.folds} folds"
        )
    )
    shapes = compare_shapes(generate(options.shape_rows, options.seed))
    console.print(table_of(worst_of_each(shapes), f"Figures of {options.shape_rows} demo ads"))
    write_results(errors, shapes, floor)
    failed = [item for item in (*errors, *shapes) if not item.passed]
    console.print(
        f"Noise floor {floor:.4f}. {len(errors) + len(shapes)} figures compared, "
        f"{len(failed)} outside their tolerance. All of them: {RESULTS / 'demo_fidelity.md'}"
    )
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
