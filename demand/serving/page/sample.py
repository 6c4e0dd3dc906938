"""A small file of ads that somebody can download and fill in."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence

from demand.ads import INPUT_COLUMNS


def sample_csv() -> str:
    """Return a small file that can be filled in: a header and two made-up ads."""
    names = [c.name for c in INPUT_COLUMNS if c.name in _SAMPLE[0] or c.name in _SAMPLE[1]]
    written = io.StringIO()
    writer = csv.DictWriter(written, names, lineterminator="\r\n")
    writer.writeheader()
    writer.writerows(_SAMPLE)
    return written.getvalue()


_SAMPLE: Sequence[dict[str, str]] = (
    {
        "item_id": "1", "region": "Самарская область", "city": "Самара",
        "parent_category_name": "Хобби и отдых", "category_name": "Велосипеды",
        "param_1": "Горные", "title": "Велосипед горный", "price": "9000",
        "description": "Рама 18 дюймов, колёса 26. Катались два сезона, всё исправно.",
        "user_type": "Private", "image": "1.jpg",
    },
    {
        "item_id": "2", "region": "Самарская область", "city": "Тольятти",
        "parent_category_name": "Личные вещи", "category_name": "Часы и украшения",
        "param_1": "Часы", "title": "Часы наручные", "price": "1500", "description": "",
        "user_type": "Private", "image": "",
    },
)  # fmt: skip
