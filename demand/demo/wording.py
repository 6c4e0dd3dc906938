"""How an ad is worded: which pattern, sentences and extra words each one uses."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache

import numpy as np
import numpy.typing as npt

from demand.demo.exact import piecewise
from demand.demo.goods import Flags, Goods
from demand.demo.hashing import Floats, Indices, Keys, below, skewed, uniform
from demand.demo.lexicon import lexicon
from demand.demo.pool import Pool
from demand.demo.shape import PARENT_SHAPES, parent_of_category

TITLE_LENGTH = 50
# Sentences of a description at each level of its distribution.
_SENTENCE_LEVELS = (0.0, 0.2, 0.5, 0.75, 0.9, 0.96, 0.99, 1.0)
_SENTENCES = (1.0, 1.2, 2.6, 5.6, 12.0, 23.0, 44.0, 60.0)
_TERSE_SHARE = 0.07
# As many sentences as have an effect of their own.
TELLING_SENTENCES = 4


@dataclass(frozen=True)
class Wording:
    """The words of each ad; indices point into the lexicon's pools, -1 means none.

    ``pattern`` is a position in ``lexicon().patterns``, or -1 where the title is the bare
    thing. ``extra`` is a word put after the title, ``remark`` one put into the
    description; ``*_is_good`` says from which of the two pools they are. A terse
    description is no more than the second detail or the thing. ``sentences`` is 0 where
    the description is terse or there is none; the j-th of them is at ``first + j * stride`` in the
    category's pool, around its end. Every array has shape (ads,).
    """

    pattern: Indices
    brand_shown: Flags
    detail_shown: Flags
    extra: Indices
    extra_is_good: Flags
    remark: Indices
    remark_is_good: Flags
    has_description: Flags
    is_terse: Flags
    sentences: Indices
    first: Indices
    stride: Indices

    def sentence(self, place: int, category: Indices) -> Indices:
        """Return the pool position of each ad's sentence number ``place`` (from 0)."""
        pool = lexicon().sentences
        offset = (self.first + place * self.stride) % pool.count[category]
        position: Indices = pool.start[category] + offset
        return position


def draw_wording(goods: Goods, concepts: Keys, row_keys: Keys) -> Wording:
    """Return the wording of each ad; a seller who repeats an ad keeps its title."""
    words = lexicon()
    pattern, extra, extra_is_good = _titles(goods, concepts)
    known = pattern >= 0
    at = np.maximum(pattern, 0)
    sentences, first, stride = _sentences(goods, concepts, row_keys)
    has_description = uniform(concepts, "no description") >= _without()[goods.category]
    is_terse = has_description & (uniform(concepts, "terse") < _TERSE_SHARE)
    sentences = np.where(has_description & ~is_terse, sentences, 0)
    remark, remark_is_good = _extras(goods.category, row_keys, "remark", 0.30)
    remark = np.where(sentences > 0, remark, -1)
    return Wording(
        pattern=pattern,
        brand_shown=known & words.patterns.flags("{brand}")[at],
        detail_shown=known & words.patterns.flags("{detail}")[at],
        extra=extra,
        extra_is_good=extra_is_good,
        remark=remark,
        remark_is_good=remark_is_good,
        has_description=has_description,
        is_terse=is_terse,
        sentences=sentences,
        first=first,
        stride=stride,
    )


def second_detail_shown(wording: Wording, goods: Goods) -> Flags:
    """Say which descriptions name the second detail where it tells."""
    has_slot = lexicon().sentences.flags("{detail}")
    shown = wording.is_terse & (goods.second_detail >= 0)
    for place in range(TELLING_SENTENCES):
        used = wording.sentences > place
        shown |= used & has_slot[wording.sentence(place, goods.category)]
    return shown


@cache
def _lengths(name: str) -> Indices:
    """Return the number of characters of each phrase of a pool, slots not counted."""
    pool: Pool = getattr(lexicon(), name)
    bare = [
        phrase.replace("{thing}", "").replace("{brand}", "").replace("{detail}", "")
        for phrase in pool.texts
    ]
    return np.array([len(text) for text in bare], dtype=np.int64)


def _titles(goods: Goods, concepts: Keys) -> tuple[Indices, Indices, Flags]:
    """Return each title's pattern, its extra word, and whether that is a good one."""
    words = lexicon()
    fitting = np.where(
        goods.brand < 0,
        words.plain_patterns[goods.category],
        words.patterns.count[goods.category],
    )
    chosen = below(skewed(uniform(concepts, "pattern")), fitting)
    pattern = words.patterns.start[goods.category] + chosen
    needs_detail = words.patterns.flags("{detail}")[pattern] & (goods.detail < 0)
    pattern = np.where(needs_detail, -1, pattern)
    pattern = np.where(_title_length(goods, pattern) > TITLE_LENGTH, -1, pattern)
    extra, is_good = _extras(goods.category, concepts, "extra", 0.22)
    good = _lengths("words_good")[np.where(is_good, extra, 0)]
    bad = _lengths("words_bad")[np.where(is_good, 0, extra)]
    longer = _title_length(goods, pattern) + len(", ") + np.where(is_good, good, bad)
    return pattern, np.where(longer > TITLE_LENGTH, -1, extra), is_good


def _title_length(goods: Goods, pattern: Indices) -> Indices:
    words = lexicon()
    at = np.maximum(pattern, 0)
    length: Indices = np.where(pattern >= 0, _lengths("patterns")[at], 0)
    length = length + _lengths("things")[goods.thing]
    for name, chosen in (("brand", goods.brand), ("detail", goods.detail)):
        slot = words.patterns.flags(f"{{{name}}}")[at] & (pattern >= 0)
        length = length + np.where(slot, _lengths(f"{name}s")[np.maximum(chosen, 0)], 0)
    return length


def _extras(category: Indices, keys: Keys, purpose: str, share: float) -> tuple[Indices, Flags]:
    """Return a good or bad word for a share of the ads, -1 for the others."""
    words = lexicon()
    is_good = uniform(keys, f"{purpose} side") < 0.5
    place = uniform(keys, f"{purpose} word")
    good = words.words_good.choose(category, place)
    bad = words.words_bad.choose(category, place)
    used = uniform(keys, purpose) < share
    return np.where(used, np.where(is_good, good, bad), -1), is_good


@cache
def _strides() -> npt.NDArray[np.int64]:
    """Return eight steps for each category that visit all of its sentences."""
    rows = []
    for count in lexicon().sentences.count.tolist():
        coprime = [step for step in range(1, count + 1) if math.gcd(step, count) == 1]
        rows.append([coprime[(i * len(coprime)) // 8] for i in range(8)])
    return np.array(rows, dtype=np.int64)


@cache
def _without() -> Floats:
    """Return the share of ads without description by category, shape (47,)."""
    shares = np.array([shape.no_description for shape in PARENT_SHAPES.values()])
    return shares[parent_of_category()]


def _sentences(goods: Goods, concepts: Keys, row_keys: Keys) -> tuple[Indices, Indices, Indices]:
    """Return number of sentences, the first one, and the step to the next."""
    sizes = lexicon().sentences.count[goods.category]
    levels, numbers = np.array(_SENTENCE_LEVELS), np.array(_SENTENCES)
    wanted = piecewise(uniform(concepts, "sentences"), levels, numbers)
    count = np.floor(wanted + uniform(row_keys, "more")).astype(np.int64)
    steps = _strides()[goods.category, below(uniform(concepts, "stride"), 8)]
    return np.minimum(count, sizes), below(uniform(concepts, "first sentence"), sizes), steps


def word_keys(chosen: Indices, is_good: Flags) -> Keys:
    """Return the keys of extra words or remarks, 0 where there is none."""
    words = lexicon()
    good = words.words_good.keys[np.where(is_good, np.maximum(chosen, 0), 0)]
    bad = words.words_bad.keys[np.where(is_good, 0, np.maximum(chosen, 0))]
    return np.where(chosen >= 0, np.where(is_good, good, bad), np.uint64(0))


def side_of(chosen: Indices, is_good: Flags) -> Floats:
    """Return 1 for a good word, -1 for a bad one, 0 for none."""
    return np.where(chosen < 0, 0.0, np.where(is_good, 1.0, -1.0))
