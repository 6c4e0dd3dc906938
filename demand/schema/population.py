"""Published figures of the full data: the hierarchy, shares and means to expect."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any


@dataclass(frozen=True)
class Reference:
    """Figures of the whole ``train.csv`` (1,503,424 rows); ``raw`` is the JSON itself."""

    raw: dict[str, Any]

    @property
    def parent_of(self) -> dict[str, str]:
        """Parent category of each of the 47 categories."""
        return {c: p for p, children in self.raw["categories"].items() for c in children}

    @property
    def category_counts(self) -> dict[str, int]:
        """Rows of each of the 47 categories."""
        return {c: n for group in self.raw["categories"].values() for c, n in group.items()}

    @property
    def regions(self) -> dict[str, int]:
        """Rows of each of the 28 regions."""
        return dict(self.raw["regions"])

    @property
    def user_types(self) -> dict[str, int]:
        """Rows of each of the three seller types."""
        return dict(self.raw["user_types"])

    @property
    def missing_share(self) -> dict[str, float]:
        """Share of missing values, in [0, 1], of the columns that have any."""
        return dict(self.raw["missing_share"])

    @property
    def counts(self) -> dict[str, dict[str, int]]:
        """Rows of each value, of the columns whose mix is compared."""
        counts = {"category_name": self.category_counts, "region": self.regions}
        return counts | {"user_type": self.user_types}


@cache
def reference() -> Reference:
    """Read the figures that are shipped with the package."""
    text = (files("demand.schema") / "population.json").read_text(encoding="utf-8")
    return Reference(json.loads(text))
