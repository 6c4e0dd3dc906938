"""The vocabulary: complete, and drawn as asked."""

from __future__ import annotations

import json
import string
from importlib.resources import files

import numpy as np
import pytest

from demand.demo.lexicon import CATEGORIES, Pool, lexicon


def _vocabulary() -> dict[str, dict]:
    found: dict[str, dict] = {}
    for file in (files("demand.demo") / "vocabulary").iterdir():
        if file.name != "common.json":
            found |= json.loads(file.read_text(encoding="utf-8"))
    return found


def test_all_categories_have_words() -> None:
    assert set(_vocabulary()) == set(CATEGORIES)


@pytest.mark.parametrize("category", CATEGORIES)
def test_slots_are_those_that_are_filled(category: str) -> None:
    words = _vocabulary()[category]
    slots = {
        slot
        for phrase in words["title_patterns"] + words["sentences"]
        for _, slot, _, _ in string.Formatter().parse(phrase)
        if slot is not None
    }
    assert slots <= {"thing", "brand", "detail", "city"}


@pytest.mark.parametrize("category", CATEGORIES)
def test_every_leaf_has_things_that_fit_into_a_title(category: str) -> None:
    leaves = _vocabulary()[category]["leaves"]
    assert all(0 < len(thing) <= 50 for leaf in leaves for thing in leaf["things"])
    assert all(leaf["things"] and leaf["weight"] > 0 for leaf in leaves)


@pytest.mark.parametrize("category", CATEGORIES)
def test_a_title_is_possible_without_a_brand(category: str) -> None:
    assert lexicon().plain_patterns[CATEGORIES.index(category)] > 0


def test_leaves_are_drawn_by_their_weights_within_the_category() -> None:
    words = lexicon()
    category = np.repeat(np.arange(47), 200)
    leaf = words.choose_leaf(category, np.tile(np.arange(200) / 200, 47))
    assert (words.leaf_category[leaf] == category).all()


def test_an_empty_group_gives_no_phrase() -> None:
    pool = Pool.of([["a", "b"], []])
    chosen = pool.choose(np.array([0, 1, 0]), np.array([0.0, 0.5, 0.999]))
    assert chosen.tolist() == [0, -1, 1]
