"""Small frames of valid, made-up ads, typed as ingestion delivers them."""

from __future__ import annotations

import numpy as np
import pandas as pd

from demand.schema.columns import COLUMN_NAMES, TARGET
from demand.schema.population import reference

_ADJECTIVES = ("новый", "старый", "детский", "зимний", "красный", "большой", "почти новый")
_NOUNS = ("шкаф", "велосипед", "комбинезон", "телефон", "гараж", "щенок", "учебник", "диван")
_SENTENCES = (
    "Состояние отличное, торг уместен.",
    "Забирать самовывозом, вечером после шести.",
    "Покупали год назад, пользовались мало.",
    "Возможен обмен 🙂",
    "Звоните,\nна письма не отвечаю.",
    "Доставка по городу бесплатно!",
)
_PARAMETERS = ("Женская одежда", "Для мальчиков", "Диваны и кресла", "С пробегом", "Другое")
_CITIES = ("Первый Яр", "Заречье", "Новый Лог", "Каменка", "Дальний Брод")


def _pick(random: np.random.Generator, counts: dict[str, int], rows: int) -> np.ndarray:
    """Draw names with the shares of their counts; an array of str of length ``rows``."""
    weights = np.array(list(counts.values()), dtype=float)
    drawn = random.choice(len(counts), size=rows, p=weights / weights.sum())
    return np.array(list(counts), dtype=object)[drawn]


def _texts(random: np.random.Generator, rows: int) -> tuple[list[str], list[str]]:
    names = zip(random.choice(_ADJECTIVES, rows), random.choice(_NOUNS, rows), strict=True)
    titles = [f"{adjective} {noun}".capitalize() for adjective, noun in names]
    descriptions = [
        f"{title}. " + " ".join(random.choice(_SENTENCES, size=random.integers(1, 5)))
        for title in titles
    ]
    return titles, descriptions


def _target(random: np.random.Generator, rows: int) -> np.ndarray:
    """Draw two thirds zeros, and spikes and a spread for the rest, as in the real ads."""
    spikes = random.choice([0.76786, 0.80323, 0.86521, 1.0], size=rows)
    spread = random.beta(1.2, 3.0, size=rows).round(5)
    values = np.where(random.random(rows) < 0.35, spikes, spread)
    return np.where(random.random(rows) < 0.65, 0.0, values)


def make_ads(rows: int, seed: int = 0) -> pd.DataFrame:
    """Make ``rows`` valid ads with all 18 columns in the schema's order.

    Hierarchy, mixes of category, region and seller type and the missing shares are
    those of the reference figures. Text is object (str or None), numbers float64
    with NaN, dates datetime64[ns]; about a third of the ads share a seller.
    """
    random = np.random.default_rng(seed)
    figures = reference()
    categories = _pick(random, figures.category_counts, rows)
    titles, descriptions = _texts(random, rows)
    users = random.integers(0, max(1, int(rows * 1.2)), size=rows)
    level = {c: random.normal(7.5, 1.0) for c in figures.category_counts}
    prices = np.exp([level[c] + random.normal(0.0, 1.0) for c in categories]).round()
    frame = pd.DataFrame(
        {
            "item_id": np.array([f"{seed:04x}{row:08x}" for row in range(rows)], object),
            "user_id": np.array([f"{user + 0xABC000:012x}" for user in users], object),
            "region": _pick(random, figures.regions, rows),
            "city": random.choice(_CITIES, size=rows).astype(object),
            "parent_category_name": np.array([figures.parent_of[c] for c in categories], object),
            "category_name": categories,
            "param_1": random.choice(_PARAMETERS, size=rows).astype(object),
            "param_2": random.choice(_PARAMETERS, size=rows).astype(object),
            "param_3": random.choice(["48-50 (L)", "Другой", "38"], size=rows).astype(object),
            "title": np.array(titles, dtype=object),
            "description": np.array(descriptions, dtype=object),
            "price": prices,
            "item_seq_number": np.ceil(random.lognormal(3.3, 1.5, size=rows)),
            "activation_date": pd.Timestamp("2017-03-15")
            + pd.to_timedelta(random.integers(0, 14, size=rows), unit="D"),
            "user_type": _pick(random, figures.user_types, rows),
            "image": np.array([f"{v:064x}" for v in random.integers(1, 2**40, size=rows)], object),
            "image_top_1": random.integers(0, 3067, size=rows).astype(float),
            TARGET: _target(random, rows),
        }
    )
    frame["activation_date"] = frame["activation_date"].astype("datetime64[ns]")
    return _with_gaps(random, frame)[list(COLUMN_NAMES)]


def _with_gaps(random: np.random.Generator, frame: pd.DataFrame) -> pd.DataFrame:
    """Leave values out at the reference's missing shares; image and its class together."""
    for name, share in reference().missing_share.items():
        if name == "image_top_1":
            continue
        gaps = random.random(len(frame)) < share
        frame.loc[gaps, name] = np.nan if name == "price" else None
        if name == "image":
            frame.loc[gaps, "image_top_1"] = np.nan
    return frame
