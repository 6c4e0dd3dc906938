"""Demo ads: generated ads that are as hard to predict as the real ones.

The embedded default data, so that a fresh clone can train without Kaggle's file.
"""

from __future__ import annotations

from demand.demo.generator import generate, noise_floor, write_demo

# MD5 of the demo ads of `demand.config.DataSettings`' rows and seed, which data.dvc pins.
# Known here too, so that a file is recognised as demo ads wherever it lies.
DEFAULT_MD5 = "1981122c3e3f33fb5dcfc40606185e4a"

__all__ = ["DEFAULT_MD5", "generate", "noise_floor", "write_demo"]
