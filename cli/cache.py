"""What past runs left on this disk, for ``demand cache``: shown, and cleared."""

from __future__ import annotations

import json
from dataclasses import asdict

from rich.console import Console
from rich.table import Table

from cli.terminal import prepare_environment, zenml_config


def show_cache(bound_gb: float, keep_gb: float | None, *, as_json: bool) -> None:
    """Remove outputs of runs, the oldest first, down to ``keep_gb`` if given; print the others."""
    freed, runs = 0, []
    if zenml_config().exists():  # else nothing was run
        prepare_environment()
        from orchestration.disk import cached_runs, trim_cache

        freed = 0 if keep_gb is None else trim_cache(keep_gb)
        runs = cached_runs()
    size = sum(run.size_bytes for run in runs)
    if as_json:
        rows = [{k: v for k, v in asdict(run).items() if k != "remove"} for run in runs]
        told = {"runs": rows, "size_bytes": size, "cache_gb": bound_gb, "freed_bytes": freed}
        print(json.dumps(told, ensure_ascii=False, indent=2))
        return
    if runs:
        table = Table.grid(padding=(0, 2))
        newest = max(run.started for run in runs)
        for run in runs:
            note = "newest" if run.started == newest else ""
            megabytes = f"{run.size_bytes / 1e6:,.1f} MB"
            table.add_row(run.name, run.started, megabytes, note if run.ended else "goes on")
        Console(soft_wrap=True).print(table)
    if keep_gb is not None:
        print(f"freed {freed / 1e9:.2f} GB")
    print(f"{size / 1e9:.2f} GB of outputs of runs; after a training at most {bound_gb:g} GB stay")
