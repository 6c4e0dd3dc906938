"""The texts of the ads as a person would have typed them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from demand.demo.chance import Facts
from demand.demo.goods import Flags
from demand.demo.hashing import Indices, Keys, uniform
from demand.demo.lexicon import Lexicon, lexicon
from demand.demo.sellers import places
from demand.demo.wording import TITLE_LENGTH

_LOWER, _UPPER = 0.01, 0.02
_TYPO_SHARE, _EMOJI_SHARE, _QUOTE_SHARE = 0.04, 0.012, 0.4
_OPENING_SHARE, _CLOSING_SHARE = 0.12, 0.35


@dataclass(frozen=True)
class _Row:
    """One ad's words."""

    thing: str
    brand: str
    detail: str
    second_detail: str
    city: str
    extra: str
    wants_comma: bool
    remark: str


def _rows(facts: Facts, keys: Keys) -> list[_Row]:
    words = lexicon()
    goods, wording = facts.goods, facts.wording

    def texts(pool_name: str, chosen: Indices) -> list[str]:
        pool = getattr(words, pool_name)
        if not len(pool.texts):
            return [""] * len(chosen)
        return [str(t) for t in np.where(chosen >= 0, pool.texts[np.maximum(chosen, 0)], "")]

    def extras(chosen: Indices, is_good: Flags) -> list[str]:
        good = texts("words_good", np.where(is_good, chosen, -1))
        bad = texts("words_bad", np.where(is_good, -1, chosen))
        return [g or b for g, b in zip(good, bad, strict=True)]

    return [
        _Row(*row)
        for row in zip(
            texts("things", goods.thing),
            texts("brands", goods.brand),
            texts("details", goods.detail),
            texts("details", goods.second_detail),
            places().cities[facts.sellers.cities].tolist(),
            extras(wording.extra, wording.extra_is_good),
            (uniform(keys, "comma") < 0.5).tolist(),
            extras(wording.remark, wording.remark_is_good),
            strict=True,
        )
    ]


def write_texts(facts: Facts, row_keys: Keys) -> tuple[list[str], list[str | None]]:
    """Return titles (at most 50 characters) and descriptions (None where there is none)."""
    words = lexicon()
    concepts = facts.sellers.concepts
    rows = _rows(facts, concepts)
    patterns = facts.wording.pattern.tolist()
    styles = uniform(concepts, "style").tolist()
    titles = [
        _title(words.patterns.texts[pattern] if pattern >= 0 else "{thing}", row, style)
        for pattern, row, style in zip(patterns, rows, styles, strict=True)
    ]
    return titles, _descriptions(words, facts, rows, row_keys)


def _title(pattern: str, row: _Row, style: float) -> str:
    thing = row.thing if pattern.startswith("{thing}") else _inside(row.thing)
    title = pattern.format(thing=thing, brand=row.brand, detail=row.detail)
    if row.extra:
        title += (", " if row.wants_comma and "," not in title else " ") + row.extra
    title = title[:TITLE_LENGTH].rstrip()
    if style < _LOWER:
        return title.lower()
    if style < _UPPER:
        return title.upper()
    return _capital(title)


def _descriptions(words: Lexicon, facts: Facts, rows: list[_Row], keys: Keys) -> list[str | None]:
    category, wording = facts.goods.category, facts.wording
    pool = words.sentences
    out: list[str | None] = []
    for row, has_any, count, first, stride, start, size, chance, look in zip(
        rows,
        wording.has_description.tolist(),
        wording.sentences.tolist(),
        wording.first.tolist(),
        wording.stride.tolist(),
        pool.start[category].tolist(),
        pool.count[category].tolist(),
        uniform(keys, "description choice").tolist(),
        uniform(keys, "description style").tolist(),
        strict=True,
    ):
        if not has_any:
            out.append(None)
        elif not count:
            out.append(_terse(row, look))
        else:
            chosen = [pool.texts[start + (first + i * stride) % size] for i in range(count)]
            out.append(_finish(words, _parts(words, chosen, row, chance, look), look, chance))
    return out


def _terse(row: _Row, look: float) -> str:
    if not row.second_detail:
        return row.thing
    return _capital(row.second_detail) if look < 0.4 else f"{row.thing}, {row.second_detail}"


def _parts(
    words: Lexicon, sentences: list[str], row: _Row, chance: float, look: float
) -> list[str]:
    """Return the sentences with their slots filled, and what goes before and after them."""
    brand = row.brand or _inside(row.thing)
    if row.brand and look < _QUOTE_SHARE:
        brand = f'"{brand}"'
    detail = row.second_detail or "всё есть"
    slots = {"thing": row.thing, "brand": brand, "detail": detail, "city": row.city}
    inside = slots | {"thing": _inside(row.thing)}
    parts = [
        _capital(sentence.format_map(slots if sentence.startswith("{") else inside))
        for sentence in sentences
    ]
    if chance < _OPENING_SHARE:
        opening = words.openings[int(chance / _OPENING_SHARE * len(words.openings))]
        parts.insert(0, f"{opening} {_inside(row.thing)}.")
    if row.remark:
        parts.append(_capital(row.remark) + ("." if look < 0.7 else ""))
    if chance > 1.0 - _CLOSING_SHARE:
        place = (1.0 - chance) / _CLOSING_SHARE
        parts.append(words.closings[int(place * len(words.closings))].format(city=row.city))
    return parts


def _finish(words: Lexicon, parts: list[str], look: float, chance: float) -> str:
    """Join sentences with spaces or line breaks, with a typo or an emoji now and then."""
    text = ("\n" if look > 0.70 else " ").join(parts)
    if look * 10 % 1 < _TYPO_SHARE:
        right, wrong = words.typos[int(chance * len(words.typos))]
        text = text.replace(right, wrong)
    if chance * 10 % 1 < _EMOJI_SHARE:
        text += " " + words.emoji[int(look * len(words.emoji))]
    return text


def _inside(thing: str) -> str:
    """Return a thing as it stands inside a sentence; names in capitals stay."""
    is_name = thing[:1].isascii() or not thing[1:2].islower()
    return thing if is_name else thing[:1].lower() + thing[1:]


def _capital(sentence: str) -> str:
    return sentence[:1].upper() + sentence[1:]
