"""Where torch computes, and how its answers repeat."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from demand.config import TrainingSettings
from demand.errors import ConfigError


@contextmanager
def deterministic(seed: int, settings: TrainingSettings) -> Iterator[torch.device]:
    """Fix torch's randomness, algorithms and threads for the block; put them back after.

    Yields the device of the settings; it is a ConfigError where there is none such.
    """
    device = _device(settings.device)
    if device.type == "cuda":
        # What cuBLAS needs to repeat itself; it is read before the first of its calls.
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    threads_before = torch.get_num_threads()
    strict_before = torch.are_deterministic_algorithms_enabled()
    warning_before = torch.is_deterministic_algorithms_warn_only_enabled()
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        torch.set_num_threads(settings.threads)
        torch.use_deterministic_algorithms(True)
        try:
            yield device
        finally:
            torch.set_num_threads(threads_before)
            torch.use_deterministic_algorithms(strict_before, warn_only=warning_before)


def _device(asked: str) -> torch.device:
    found = torch.cuda.is_available()
    if asked == "cuda" and not found:
        raise ConfigError("training.device is cuda, but torch finds no GPU: say cpu, or auto")
    # Of several processes each takes a GPU of its own, as far as there are so many.
    rank = int(os.environ.get("LOCAL_RANK", 0))
    return (
        torch.device("cuda", rank % torch.cuda.device_count())
        if found and asked != "cpu"
        else torch.device("cpu")
    )
