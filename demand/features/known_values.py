"""Which values of an ad's lists a model has learnt from; any other is answered as unknown."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Self

from demand.features.encoding import normalise


class UnknownValue(NamedTuple):
    """A value that a model has not learnt from: position of the ad, field, and the value."""

    row: int
    field: str
    value: str


@dataclass(frozen=True)
class KnownValues:
    """The values of some fields, as they are written and in the form that is compared.

    A field that is not among them has no unknown values.
    """

    values: Mapping[str, frozenset[str]]

    @classmethod
    def from_statistics(cls, statistics: Mapping[str, Any]) -> Self:
        """Take the values from :mod:`demand.features.category_statistics`; others give none."""
        # Of these the statistics have all values but such as were seen once or twice. Params and
        # cities are many, and new ones are no mistake.
        try:
            categories = statistics["categories"]
            found = {
                "category_name": [category["name"] for category in categories],
                "parent_category_name": [category["parent"] for category in categories],
                "region": [region["name"] for region in statistics["regions"]],
                "user_type": statistics["user_types"],
            }
            # Hashes are blind to case, so a value that differs in it alone is known.
            known = {name: {*texts, *map(normalise, texts)} for name, texts in found.items()}
        except (LookupError, TypeError):
            return cls({})
        return cls({name: frozenset(texts) for name, texts in known.items() if texts})

    @classmethod
    def from_file(cls, path: Path) -> Self:
        """Take the values from a file of statistics; one that cannot be read gives none."""
        try:
            return cls.from_statistics(json.loads(path.read_bytes()))
        except (OSError, ValueError, RecursionError):
            return cls({})

    def unknown(self, ads: Mapping[str, Iterable[Any]]) -> Iterator[UnknownValue]:
        """Yield the unknown values of n ads, field after field.

        Less than a microsecond an ad where all are known. Takes columns of n texts, None where
        missing, as of :func:`demand.schema.records.typed_records`, and looks at no others.
        """
        for field, known in self.values.items():
            if field not in ads:
                continue
            for row, value in enumerate(ads[field]):
                # Missing is a value of its own, of which every model knows.
                if value in known or not isinstance(value, str):
                    continue
                if normalise(value).strip() not in known:
                    yield UnknownValue(row, field, value)

    def counts(self, ads: Mapping[str, Iterable[Any]]) -> dict[str, dict[str, int]]:
        """Return the number of ads by field and unknown value, in the order they are met."""
        found: dict[str, dict[str, int]] = {}
        for _, field, value in self.unknown(ads):
            of_field = found.setdefault(field, {})
            of_field[value] = of_field.get(value, 0) + 1
        return found
