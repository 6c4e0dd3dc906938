"""``python run.py --pipeline batch-inference``."""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from demand.config import TrainingConfig, load_config
from demand.errors import ModelError

if TYPE_CHECKING:
    from rich.console import Console


def answer(arguments: argparse.Namespace, out: Console) -> int:
    """Write the answers of the champion, or of ``--model VERSION``, to a file of ads.

    Runs side by side do not disturb each other, so nothing is locked.
    """
    from demand.batch import check_paths

    max_file_gb = load_config(arguments.config, TrainingConfig).data.max_file_gb
    # What is bound to fail fails now, and not after ZenML has started.
    check_paths(arguments.data, arguments.output, max_file_gb)
    version = version_asked(arguments.model)
    out.print(f"version {version} answers {arguments.data}", markup=False, soft_wrap=True)
    begun = time.perf_counter()
    answered = run_pipeline(arguments.data, arguments.output, version, max_file_gb)
    show(out, answered, version, arguments.output, time.perf_counter() - begun)
    return 0


def version_asked(version: str | None) -> str:
    """Return the version to ask: the one that is named, or the champion.

    Raises
    ------
    ModelError
        It does not exist.
    """
    from demand.serving.registry import Registry

    registry = Registry()
    if version is not None:
        return registry.version(version).version
    champion = registry.champion()
    if champion is None:
        raise ModelError("there is no champion yet: run `python run.py --pipeline training`")
    return champion.version


def run_pipeline(data: Path, output: Path, version: str, max_file_gb: float) -> dict[str, Any]:
    """Run the pipeline and return what :class:`demand.batch.Answered` holds."""
    from pipelines.batch_inference import batch_inference
    from pipelines.interrupts import interrupted_between_transactions
    from pipelines.runs import scratch_folder
    from steps.served_model import ensure_stack

    with interrupted_between_transactions(), scratch_folder():
        ensure_stack()
        run = batch_inference(str(data.resolve()), str(output.absolute()), version, max_file_gb)
        answered: dict[str, Any] = run.steps["batch_inference"].outputs["answered"][0].load()
    return answered


def show(
    out: Console, answered: dict[str, Any], version: str, output: Path, seconds: float
) -> None:
    """Print what was flawed, how many ads were answered, and where the answers are."""
    from demand.batch import counted

    for warning in answered["warnings"]:
        out.print(f"warning: {warning}", markup=False, soft_wrap=True)
    out.print(
        f"version {version} answered {answered['answered']:,} of "
        f"{counted(answered['rows'], 'ad')} in {seconds:.1f} s",
        soft_wrap=True,
    )
    out.print(f"answers: {output}", markup=False, soft_wrap=True)
