"""The Russian vocabulary of the demo ads, laid out for drawing many ads at once."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

import numpy as np

from demand.demo.hashing import Floats, Indices, Keys, cumulative, text_keys
from demand.demo.pool import Pool, Texts, as_texts
from demand.errors import StateError
from demand.reference import reference

# A third param that is one of many (sizes), listed beside it.
ANY = "*"


@dataclass(frozen=True)
class Lexicon:
    """Categories, their leaves (one combination of params each), and words for both.

    ``leaf_keys``, shape (leaves, 4), holds the key of what is seen of a leaf that shows
    its first 0 ... 3 params; ``hidden_params``, shape (47, 3), how often each is left out.
    A leaf whose third param is ``ANY`` takes one of its ``third_params``. Leaves and pools
    by leaf have the same order; pools by category have that of ``categories``.
    The first ``plain_patterns`` of a category's patterns name no brand.
    """

    categories: tuple[str, ...]
    leaf_category: Indices
    leaf_params: tuple[Texts, Texts, Texts]
    third_params: Pool
    leaf_keys: Keys
    hidden_params: Floats
    leaf_ends: Floats
    leaf_price_low: Floats
    leaf_price_width: Floats
    price_factor_spread: Floats
    things: Pool
    brands: Pool
    details: Pool
    patterns: Pool
    plain_patterns: Indices
    sentences: Pool
    words_good: Pool
    words_bad: Pool
    openings: tuple[str, ...]
    closings: tuple[str, ...]
    emoji: tuple[str, ...]
    typos: tuple[tuple[str, str], ...]

    def choose_leaf(self, categories: Indices, uniforms: Floats) -> Indices:
        """Return a leaf of each category, by the leaves' weights."""
        found = np.searchsorted(self.leaf_ends, categories + uniforms, side="right")
        first = np.searchsorted(self.leaf_category, categories, side="left")
        last = np.searchsorted(self.leaf_category, categories, side="right") - 1
        return np.clip(found, first, last).astype(np.int64)


def _read() -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the vocabulary by category, and what is common to all."""
    by_category: dict[str, Any] = {}
    common: dict[str, Any] = {}
    folder = files("demand.demo") / "vocabulary"
    for file in sorted(folder.iterdir(), key=lambda item: item.name):
        if file.name.endswith(".json"):
            content = json.loads(file.read_text(encoding="utf-8"))
            if file.name == "common.json":
                common = content
            else:
                by_category.update(content)
    lacking = [name for name in reference().parent_of if name not in by_category]
    if lacking or not common:
        what = ", ".join(lacking) or "what is common to all categories"
        raise StateError(f"{folder} has no vocabulary for {what}: install the package again")
    return by_category, common


def _price_intervals(weights: list[float], factors: list[float]) -> tuple[Floats, Floats, float]:
    """Return each leaf's interval on the price scale of its category, and the spread.

    Leaves are ordered by their price factor and take a part of [0, 1) as wide as their
    share; the spread is the standard deviation of log2 of the factor.
    """
    order = sorted(range(len(weights)), key=lambda i: (factors[i], i))
    ends = cumulative([weights[i] for i in order])
    low = np.empty(len(weights))
    width = np.empty(len(weights))
    for place, i in enumerate(order):
        low[i] = ends[place - 1] if place else 0.0
        width[i] = ends[place] - low[i]
    total = math.fsum(weights)
    logs = [round(math.log2(factor), 6) for factor in factors]
    mean = math.fsum(w * v for w, v in zip(weights, logs, strict=True)) / total
    squares = math.fsum(w * (v - mean) * (v - mean) for w, v in zip(weights, logs, strict=True))
    return low, width, math.sqrt(squares / total)


def _leaf_name(category: str, params: list[str | None]) -> str:
    return "|".join([category, *(param for param in params if param is not None)])


def _hidden(leaves: list[dict[str, Any]], category: str) -> list[float]:
    """Return how often sellers must leave out each param, so that real shares are missing."""
    total = math.fsum(leaf["weight"] for leaf in leaves)
    chances = []
    for place, wanted in enumerate(_missing_params()[category]):
        none = math.fsum(leaf["weight"] for leaf in leaves if leaf["params"][place] is None)
        absent = none / total
        chances.append(max(0.0, (wanted - absent) / (1.0 - absent)) if absent < 1.0 else 0.0)
    return chances


@cache
def _missing_params() -> dict[str, list[float]]:
    """Return the shares of ads without param_1, 2 and 3 by category.

    Measured on the 8,006 real ads; those of param_2 of services (0.357) and clothes
    (0.078) lowered a little, so that the whole file's shares come out.
    """
    text = (files("demand.demo") / "missing_params.json").read_text(encoding="utf-8")
    shares: dict[str, list[float]] = json.loads(text)
    return shares


def _names_brand(pattern: str) -> bool:
    return "{brand}" in pattern


def _leaf_keys(by_category: dict[str, Any], categories: tuple[str, ...]) -> Keys:
    """Return the key of each leaf with its first 0 ... 3 params seen, shape (leaves, 4)."""
    columns = [
        [
            _leaf_name(name, leaf["params"][:shown])
            for name in categories
            for leaf in by_category[name]["leaves"]
        ]
        for shown in range(4)
    ]
    return np.stack([text_keys(column) for column in columns], axis=1)


@cache
def lexicon() -> Lexicon:
    """Read the vocabulary that is shipped with the package.

    Raises
    ------
    StateError
        A category of the reference figures has no vocabulary.
    """
    by_category, common = _read()
    categories = tuple(reference().parent_of)
    entries = [by_category[name] for name in categories]
    leaves = [leaf for entry in entries for leaf in entry["leaves"]]
    weights = [[float(leaf["weight"]) for leaf in entry["leaves"]] for entry in entries]
    prices = [
        _price_intervals(shares, [float(leaf["price_factor"]) for leaf in entry["leaves"]])
        for shares, entry in zip(weights, entries, strict=True)
    ]
    params = [as_texts([leaf["params"][i] for leaf in leaves]) for i in range(3)]
    patterns = [sorted(entry["title_patterns"], key=_names_brand) for entry in entries]
    return Lexicon(
        categories=categories,
        leaf_category=np.repeat(np.arange(len(categories)), [len(shares) for shares in weights]),
        leaf_params=(params[0], params[1], params[2]),
        third_params=Pool.of([leaf.get("param_3_values", []) for leaf in leaves]),
        leaf_keys=_leaf_keys(by_category, categories),
        hidden_params=np.array([_hidden(by_category[name]["leaves"], name) for name in categories]),
        leaf_ends=np.concatenate([i + cumulative(shares) for i, shares in enumerate(weights)]),
        leaf_price_low=np.concatenate([low for low, _, _ in prices]),
        leaf_price_width=np.concatenate([width for _, width, _ in prices]),
        price_factor_spread=np.array([spread for _, _, spread in prices]),
        patterns=Pool.of(patterns),
        plain_patterns=np.array([sum(not _names_brand(p) for p in row) for row in patterns]),
        **{name: Pool.of([leaf[name] for leaf in leaves]) for name in _BY_LEAF},
        **{name: Pool.of([entry[name] for entry in entries]) for name in _BY_CATEGORY},
        openings=tuple(common["openings"]),
        closings=tuple(common["closings"]),
        emoji=tuple(common["emoji"]),
        typos=tuple((right, wrong) for right, wrong in common["typos"]),
    )


_BY_LEAF = ("things", "brands", "details")
_BY_CATEGORY = ("sentences", "words_good", "words_bad")
