"""How an ad is worded: which pattern, sentences and extra words it uses, and its texts."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import pandas as pd

from demand.demo.exact import Flags, Floats, Indices, Keys, below, piecewise, skewed, uniform
from demand.demo.lexicon import CATEGORIES, by_category, lexicon
from demand.demo.offers import Goods, Sellers, places

TITLE_LENGTH = 50
# Sentences of a description at each level of its distribution.
_SENTENCE_LEVELS = np.array([0.0, 0.2, 0.5, 0.75, 0.9, 0.96, 0.99, 1.0])
_SENTENCES = np.array([1.0, 1.2, 2.6, 5.6, 12.0, 23.0, 44.0, 60.0])
_TERSE_SHARE = 0.07
# As many sentences as have an effect of their own.
TELLING_SENTENCES = 4
_LOWER, _UPPER = 0.01, 0.02
_TYPO_SHARE, _EMOJI_SHARE, _QUOTE_SHARE = 0.04, 0.012, 0.4
_OPENING_SHARE, _CLOSING_SHARE = 0.12, 0.35


@dataclass(frozen=True)
class Wording:
    """The words of each ad, shape (ads,); indices point into the lexicon's pools, -1 is none."""

    pattern: Indices  # -1 where the title is the bare thing
    extra: Indices  # a word put after the title
    remark: Indices  # a word put into the description
    has_description: Flags
    is_terse: Flags  # a description that is no more than the second detail or the thing
    sentences: Indices  # their number, 0 where the description is terse or there is none
    # The j-th of them is at first + j * stride in the category's pool, around its end.
    first: Indices
    stride: Indices

    def shown(self, slot: str) -> Flags:
        """Say which titles' patterns have a slot; the bare thing has none."""
        return _has_slot(self.pattern, slot)

    def sentence(self, place: int, category: Indices) -> Indices:
        """Return the pool position of each ad's sentence number ``place`` (from 0)."""
        pool = lexicon().sentences
        offset = (self.first + place * self.stride) % pool.count[category]
        position: Indices = pool.start[category] + offset
        return position

    def second_detail_shown(self, goods: Goods) -> Flags:
        """Say which descriptions name the second detail where it tells."""
        has_slot = lexicon().sentences.flags("{detail}")
        shown = self.is_terse & (goods.second_detail >= 0)
        for place in range(TELLING_SENTENCES):
            shown |= (self.sentences > place) & has_slot[self.sentence(place, goods.category)]
        return shown


def draw_wording(goods: Goods, concepts: Keys, row_keys: Keys) -> Wording:
    """Return the wording of each ad; a seller who repeats an ad keeps its title."""
    category = goods.category
    pattern, extra = _titles(goods, concepts)
    has_description = uniform(concepts, "no description") >= by_category("no_description")[category]
    is_terse = has_description & (uniform(concepts, "terse") < _TERSE_SHARE)
    sizes = lexicon().sentences.count[category]
    wanted = piecewise(uniform(concepts, "sentences"), _SENTENCE_LEVELS, _SENTENCES)
    count = np.floor(wanted + uniform(row_keys, "more")).astype(np.int64)
    sentences = np.where(has_description & ~is_terse, np.minimum(count, sizes), 0)
    return Wording(
        pattern=pattern,
        extra=extra,
        remark=np.where(sentences > 0, _extras(category, row_keys, "remark", 0.30), -1),
        has_description=has_description,
        is_terse=is_terse,
        sentences=sentences,
        first=below(uniform(concepts, "first sentence"), sizes),
        stride=_strides()[category, below(uniform(concepts, "stride"), 8)],
    )


def _has_slot(pattern: Indices, slot: str) -> Flags:
    return lexicon().patterns.flags(f"{{{slot}}}")[pattern]


def _titles(goods: Goods, concepts: Keys) -> tuple[Indices, Indices]:
    """Return each title's pattern and its extra word."""
    words, category = lexicon(), goods.category
    every, plain = words.patterns.count[category], words.plain_patterns[category]
    chosen = below(skewed(uniform(concepts, "pattern")), np.where(goods.brand < 0, plain, every))
    pattern = words.patterns.start[category] + chosen
    pattern = np.where(_has_slot(pattern, "detail") & (goods.detail < 0), -1, pattern)
    pattern = np.where(_title_length(goods, pattern) > TITLE_LENGTH, -1, pattern)
    extra = _extras(category, concepts, "extra", 0.22)
    longer = _title_length(goods, pattern) + len(", ") + words.words.lengths[extra]
    return pattern, np.where(longer > TITLE_LENGTH, -1, extra)


def _title_length(goods: Goods, pattern: Indices) -> Indices:
    """Return the characters of each title without its extra word."""
    words = lexicon()
    brand = np.where(_has_slot(pattern, "brand"), words.brands.lengths[goods.brand], 0)
    detail = np.where(_has_slot(pattern, "detail"), words.details.lengths[goods.detail], 0)
    bare = words.patterns.lengths[pattern] + words.things.lengths[goods.thing]
    length: Indices = bare + brand + detail
    return length


def _extras(category: Indices, keys: Keys, purpose: str, share: float) -> Indices:
    """Return a good or bad word for a share of the ads, -1 for the others."""
    is_bad = uniform(keys, f"{purpose} side") >= 0.5
    place = uniform(keys, f"{purpose} word")
    word = lexicon().words.choose(category + len(CATEGORIES) * is_bad, place)
    return np.where(uniform(keys, purpose) < share, word, -1)


def side_of(word: Indices) -> Floats:
    """Return 1 for a good word, -1 for a bad one, 0 for none."""
    first_bad = lexicon().words.start[len(CATEGORIES)]
    return np.where(word < 0, 0.0, np.where(word < first_bad, 1.0, -1.0))


@cache
def _strides() -> Indices:
    """Return eight steps for each category that visit all of its sentences."""
    rows = []
    for count in lexicon().sentences.count.tolist():
        coprime = [step for step in range(1, count + 1) if math.gcd(step, count) == 1]
        rows.append([coprime[(i * len(coprime)) // 8] for i in range(8)])
    return np.array(rows, dtype=np.int64)


def write_texts(
    sellers: Sellers, goods: Goods, wording: Wording, row_keys: Keys
) -> tuple[list[str], list[str | None]]:
    """Return titles (at most 50 characters) and descriptions (None where there is none)."""
    words, concepts = lexicon(), sellers.concepts
    pool = words.sentences
    columns = {
        "pattern": words.patterns.texts[wording.pattern],
        "thing": words.things.texts[goods.thing],
        "brand": words.brands.texts[goods.brand],
        "detail": words.details.texts[goods.detail],
        "second_detail": words.details.texts[goods.second_detail],
        "city": places().cities[sellers.cities],
        "extra": words.words.texts[wording.extra],
        "remark": words.words.texts[wording.remark],
        "wants_comma": uniform(concepts, "comma") < 0.5,
        "style": uniform(concepts, "style"),
        "has_description": wording.has_description,
        "sentences": wording.sentences,
        "first": wording.first,
        "stride": wording.stride,
        "pool_start": pool.start[goods.category],
        "pool_size": pool.count[goods.category],
        "chance": uniform(row_keys, "description choice"),
        "look": uniform(row_keys, "description style"),
    }
    rows = list(pd.DataFrame(columns).itertuples(index=False))
    return [_title(row) for row in rows], [_description(row) for row in rows]


def _title(row: Any) -> str:
    pattern = row.pattern or "{thing}"
    thing = row.thing if pattern.startswith("{thing}") else _inside(row.thing)
    title: str = pattern.format(thing=thing, brand=row.brand, detail=row.detail)
    if row.extra:
        title += (", " if row.wants_comma and "," not in title else " ") + row.extra
    title = title[:TITLE_LENGTH].rstrip()
    if row.style < _LOWER:
        return title.lower()
    return title.upper() if row.style < _UPPER else _capital(title)


def _description(row: Any) -> str | None:
    """Join sentences with spaces or line breaks, with a typo or an emoji now and then."""
    if not row.has_description:
        return None
    if not row.sentences:
        if not row.second_detail:
            return str(row.thing)
        detail = row.second_detail
        return _capital(detail) if row.look < 0.4 else f"{row.thing}, {detail}"
    common = lexicon().common
    text = ("\n" if row.look > 0.70 else " ").join(_parts(row, common))
    if row.look * 10 % 1 < _TYPO_SHARE:
        text = text.replace(*common["typos"][int(row.chance * len(common["typos"]))])
    if row.chance * 10 % 1 < _EMOJI_SHARE:
        text += " " + common["emoji"][int(row.look * len(common["emoji"]))]
    return text


def _parts(row: Any, common: dict[str, list[Any]]) -> list[str]:
    """Return the sentences with their slots filled, and what goes before and after them."""
    brand = row.brand or _inside(row.thing)
    if row.brand and row.look < _QUOTE_SHARE:
        brand = f'"{brand}"'
    detail = row.second_detail or "всё есть"
    slots = {"thing": row.thing, "brand": brand, "detail": detail, "city": row.city}
    inside = slots | {"thing": _inside(row.thing)}
    parts = []
    for place in range(row.sentences):
        position = row.pool_start + (row.first + place * row.stride) % row.pool_size
        sentence = lexicon().sentences.texts[position]
        parts.append(_capital(sentence.format_map(slots if sentence[0] == "{" else inside)))
    if row.chance < _OPENING_SHARE:
        openings = common["openings"]
        opening = openings[int(row.chance / _OPENING_SHARE * len(openings))]
        parts.insert(0, f"{opening} {_inside(row.thing)}.")
    if row.remark:
        parts.append(_capital(row.remark) + ("." if row.look < 0.7 else ""))
    if row.chance > 1.0 - _CLOSING_SHARE:
        place = (1.0 - row.chance) / _CLOSING_SHARE
        parts.append(common["closings"][int(place * len(common["closings"]))].format(city=row.city))
    return parts


def _inside(thing: str) -> str:
    """Return a thing as it stands inside a sentence; names in capitals stay."""
    is_name = thing[:1].isascii() or not thing[1:2].islower()
    return thing if is_name else thing[:1].lower() + thing[1:]


def _capital(sentence: str) -> str:
    return sentence[:1].upper() + sentence[1:]
