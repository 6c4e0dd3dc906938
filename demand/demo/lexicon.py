"""The Russian vocabulary of the demo ads, laid out for drawing many ads at once.

And the shapes of the real ads that they follow, where the population's figures have none:
aggregates measured on the 8,006 real rows, never their text.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from importlib.resources import files
from typing import Any

import numpy as np
from numpy.typing import NDArray

from demand.demo.exact import Flags, Floats, Indices, Keys, below, cumulative, skewed, text_keys
from demand.schema.population import reference

Texts = NDArray[np.object_]

# A third param that is one of many (sizes), listed beside it.
ANY = "*"


@cache
def packaged(name: str) -> dict[str, Any]:
    """Read a JSON file that is shipped with the package."""
    text = (files("demand.demo") / name).read_text(encoding="utf-8")
    content: dict[str, Any] = json.loads(text)
    return content


CATEGORIES = tuple(reference().parent_of)
# What ads of one parent category look like:
# - seller_shares: of private sellers, companies and shops;
# - no_image, no_description: shares of ads without, in [0, 1];
# - zero_share: share of targets that are exactly 0;
# - spread: how far the true means of this parent's ads lie apart, as a factor;
# - spikes: the high levels on which targets pile up, with their shares; the rest of the high
#   targets lies between 0.65 and the first of them;
# - small_levels: quantiles (SMALL_LEVELS) of the other targets between 0 and 0.65;
# - small_piles: levels among those on which targets pile up, with their shares.
PARENTS: dict[str, dict[str, Any]] = packaged("shapes.json")["parents"]
# Index of each category's parent in PARENTS, shape (47,).
PARENT_OF_CATEGORY = np.array(list(map(list(PARENTS).index, reference().parent_of.values())))
SMALL_LEVELS = (0.0, 0.1, 0.25, 0.5, 0.75, 0.9, 1.0)
# item_seq_number: its quantiles by seller type.
SEQUENCE_LEVELS = (0.0, 0.1, 0.25, 0.5, 0.75, 0.9, 0.99, 1.0)
SEQUENCE_QUANTILES: dict[str, list[float]] = packaged("shapes.json")["sequence_numbers"]
SELLER_TYPES = tuple(SEQUENCE_QUANTILES)


def by_category(field: str) -> Floats:
    """Return a number of each category's parent, such as ``spread``, shape (47,)."""
    return np.array([PARENTS[parent][field] for parent in reference().parent_of.values()])


@dataclass(frozen=True)
class Pool:
    """Phrases in groups (a leaf's or a category's), one group after the other."""

    texts: Texts  # and behind them an empty one, for which -1 stands: shape (phrases + 1,)
    start: Indices  # where each group begins, shape (groups,)
    count: Indices  # how many phrases it has

    @classmethod
    def of(cls, groups: Sequence[Sequence[str]]) -> Pool:
        """Lay out groups of phrases."""
        count = np.array([len(group) for group in groups], dtype=np.int64)
        flat = [phrase for group in groups for phrase in group]
        return cls(np.array([*flat, ""], dtype=object), np.cumsum(count) - count, count)

    @cached_property
    def keys(self) -> Keys:
        """The hash of each phrase, 0 of the empty one, shape (phrases + 1,)."""
        return np.append(text_keys(self.texts[:-1].tolist()), np.uint64(0))

    @cached_property
    def lengths(self) -> Indices:
        """Characters of each phrase, slots not counted, shape (phrases + 1,)."""
        return np.array([len(re.sub(r"\{\w+\}", "", phrase)) for phrase in self.texts])

    def choose(self, groups: Indices, uniforms: Floats) -> Indices:
        """Return the position of a phrase of each group, -1 where the group is empty.

        Earlier phrases of a group are likelier, see :func:`demand.demo.exact.skewed`.
        """
        counts = self.count[groups]
        chosen = self.start[groups] + below(skewed(uniforms), counts)
        return np.where(counts > 0, chosen, -1)

    def flags(self, part: str) -> Flags:
        """Say which phrases contain ``part``, shape (phrases + 1,)."""
        return np.array([part in phrase for phrase in self.texts], dtype=np.bool_)


@dataclass(frozen=True)
class Lexicon:
    """The leaves of the categories (one combination of params each), and words for both.

    Leaves and pools by leaf have the same order; pools by category have that of ``CATEGORIES``.
    """

    leaf_category: Indices
    leaf_params: Texts
    third_params: Pool  # one of which a leaf takes whose third param is ANY
    leaf_keys: Keys  # of what is seen of a leaf that shows its first 0 ... 3 params: (leaves, 4)
    hidden_params: Floats  # how often each is left out, shape (47, 3)
    leaf_ends: Floats
    leaf_price_low: Floats
    leaf_price_width: Floats
    price_factor_spread: Floats
    things: Pool
    brands: Pool
    details: Pool
    patterns: Pool
    plain_patterns: Indices  # so many of a category's first patterns name no brand
    sentences: Pool
    words: Pool  # the good ones of all categories, and then the bad ones
    common: dict[str, list[Any]]  # openings, closings, emoji and typos

    def choose_leaf(self, categories: Indices, uniforms: Floats) -> Indices:
        """Return a leaf of each category, by the leaves' weights."""
        found = np.searchsorted(self.leaf_ends, categories + uniforms, side="right")
        first = np.searchsorted(self.leaf_category, categories, side="left")
        last = np.searchsorted(self.leaf_category, categories, side="right") - 1
        return np.clip(found, first, last).astype(np.int64)


def _price_intervals(leaves: list[dict[str, Any]]) -> tuple[Floats, Floats, float]:
    """Return each leaf's interval on the price scale of its category, and the spread.

    Leaves are ordered by their price factor and take a part of [0, 1) as wide as their
    share; the spread is the standard deviation of log2 of the factor.
    """
    weights = np.array([leaf["weight"] for leaf in leaves], dtype=np.float64)
    order = np.argsort([leaf["price_factor"] for leaf in leaves], kind="stable")
    ends = cumulative(weights[order])
    low, width = np.empty(len(leaves)), np.empty(len(leaves))
    low[order], width[order] = np.append(0.0, ends[:-1]), np.diff(ends, prepend=0.0)
    total = math.fsum(weights)
    logs = [round(math.log2(leaf["price_factor"]), 6) for leaf in leaves]
    mean = math.fsum(w * v for w, v in zip(weights, logs, strict=True)) / total
    squares = math.fsum(w * (v - mean) * (v - mean) for w, v in zip(weights, logs, strict=True))
    return low, width, math.sqrt(squares / total)


def _hidden(leaves: list[dict[str, Any]], category: str) -> list[float]:
    """Return how often sellers must leave out each param, so that real shares are missing.

    The shares were measured on the 8,006 real ads; those of param_2 of services (0.357) and
    clothes (0.078) are lowered a little, so that the whole file's shares come out.
    """
    total = math.fsum(leaf["weight"] for leaf in leaves)
    chances = []
    for place, wanted in enumerate(packaged("missing_params.json")[category]):
        none = math.fsum(leaf["weight"] for leaf in leaves if leaf["params"][place] is None)
        absent = none / total
        chances.append(max(0.0, (wanted - absent) / (1.0 - absent)) if absent < 1.0 else 0.0)
    return chances


def _names_brand(pattern: str) -> bool:
    return "{brand}" in pattern


@cache
def lexicon() -> Lexicon:
    """Read the vocabulary that is shipped with the package."""
    names = (file.name for file in (files("demand.demo") / "vocabulary").iterdir())
    vocabulary = {name: packaged(f"vocabulary/{name}") for name in names}
    common = vocabulary.pop("common.json")
    by_name = {name: words for file in vocabulary.values() for name, words in file.items()}
    entries = {name: by_name[name] for name in CATEGORIES}
    by_leaf = [(name, leaf) for name, entry in entries.items() for leaf in entry["leaves"]]
    seen = [
        ["|".join([name, *filter(None, leaf["params"][:shown])]) for shown in range(4)]
        for name, leaf in by_leaf
    ]
    low, width, spread = zip(
        *(_price_intervals(e["leaves"]) for e in entries.values()), strict=True
    )
    shares = [cumulative([leaf["weight"] for leaf in e["leaves"]]) for e in entries.values()]
    patterns = [sorted(entry["title_patterns"], key=_names_brand) for entry in entries.values()]

    def of_leaf(key: str) -> Pool:
        return Pool.of([leaf.get(key, []) for _, leaf in by_leaf])

    def of_category(*keys: str) -> Pool:
        return Pool.of([entry[key] for key in keys for entry in entries.values()])

    return Lexicon(
        leaf_category=np.repeat(np.arange(len(CATEGORIES)), [len(ends) for ends in shares]),
        leaf_params=np.array([leaf["params"] for _, leaf in by_leaf], dtype=object),
        third_params=of_leaf("param_3_values"),
        leaf_keys=np.array([text_keys(keys) for keys in seen]),
        hidden_params=np.array([_hidden(e["leaves"], name) for name, e in entries.items()]),
        leaf_ends=np.concatenate([number + ends for number, ends in enumerate(shares)]),
        leaf_price_low=np.concatenate(low),
        leaf_price_width=np.concatenate(width),
        price_factor_spread=np.array(spread),
        things=of_leaf("things"),
        brands=of_leaf("brands"),
        details=of_leaf("details"),
        patterns=Pool.of(patterns),
        plain_patterns=np.array([sum(not _names_brand(p) for p in row) for row in patterns]),
        sentences=of_category("sentences"),
        words=of_category("words_good", "words_bad"),
        common=common,
    )
