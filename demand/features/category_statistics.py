"""Category statistics of a model's ads: choices and usual values, for a seller's page.

Everything is counted or summed up over many ads; no ad is copied.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from demand.schema.columns import PARAMS, TARGET

FORMAT = 1
# What was written once or twice may be a slip, or tell of a person.
SEEN_MIN = 3
# Fewer ads than this have no quantiles worth telling.
ADS_MIN = 20

_QUARTILES = {"p25": 0.25, "p50": 0.5, "p75": 0.75}
_CHOSEN = ("parent_category_name", *PARAMS, "region", "city", "user_type")
_PRICE_QUANTILES = {"p10": 0.1, **_QUARTILES, "p90": 0.9}

Quantiles = dict[str, float]
# From the code of a category to what is told of it.
ByCategory = Mapping[int, Any]


def category_statistics(ads: pd.DataFrame | Iterable[pd.DataFrame]) -> dict[str, Any]:
    """Sum up ads by category and place.

    Some seconds for a million ads. The order of the rows does not matter.

    Parameters
    ----------
    ads
        Typed ads with their target, shape (n, 18), n >= 0: those that a model learnt from; or
        blocks of them, at least one, of which none is kept.

    Returns
    -------
    dict
        JSON-able, without NaN:

        - ``format`` and ``ads`` (n);
        - ``categories``, all of them, most ads first: ``name``, ``parent`` (that of most of
          its ads), ``ads``; ``params``, a tree of ``value``, ``ads``, ``next``; ``price``
          (whole roubles, of the ads with a price; None where those are fewer than 20);
          ``description_letters`` (0 without a description); ``title_words``;
          ``photo_share`` in [0, 1]; and ``demanded``, of the quarter of its ads with the
          highest deal probability, None where that is fewer than 20 ads;
        - ``regions``: ``name``, ``ads``, ``cities``; ``user_types``; most ads first.

        Params, regions, cities and types of sellers that were seen fewer than 3 times are
        left out.

    Raises
    ------
    KeyError
        A column is missing.
    """
    blocks = [ads] if isinstance(ads, pd.DataFrame) else ads
    counted = pd.concat([_counted(block) for block in blocks], ignore_index=True)
    # A category's name is no choice of the seller's words, so none is left out.
    codes, names = pd.factorize(counted["category_name"], sort=True)
    chosen = pd.DataFrame({"category": codes} | {name: _choices(counted[name]) for name in _CHOSEN})
    measures = counted.assign(category=codes)[codes >= 0]
    in_category = chosen[codes >= 0]
    return {
        "format": FORMAT,
        "ads": len(counted),
        "categories": _categories(list(map(str, names)), in_category, measures),
        "regions": _regions(chosen),
        "user_types": [str(name) for name, _ in _seen(chosen, ["user_type"])],
    }


def _choices(texts: pd.Series) -> pd.Series:
    """Return texts as a categorical in which white space alone is missing, too."""
    found = texts.reset_index(drop=True).astype("category")
    blank = [value for value in found.cat.categories if not str(value).strip()]
    return found.cat.remove_categories(blank)


def _counted(ads: pd.DataFrame) -> pd.DataFrame:
    """Return what is counted of each ad, and the numbers that are summed up."""
    price = ads["price"].to_numpy(dtype=np.float64)
    return ads[["category_name", *_CHOSEN]].assign(
        price=np.where(np.isfinite(price), price, np.nan),
        letters=[len(text) if isinstance(text, str) else 0 for text in ads["description"]],
        words=[len(text.split()) if isinstance(text, str) else 0 for text in ads["title"]],
        photo=ads["image"].notna().to_numpy(),
        target=ads[TARGET].to_numpy(dtype=np.float64),
        # Most ads have the target 0.0. Which of those fill a quarter up must depend
        # neither on their place in the file, where dates may be in order, nor on chance.
        lot=pd.util.hash_array(ads["item_id"].to_numpy(dtype=object), categorize=False),
    )


def _categories(
    names: Sequence[str], chosen: pd.DataFrame, measures: pd.DataFrame
) -> list[dict[str, Any]]:
    counts = np.bincount(measures["category"], minlength=len(names))
    parents, params = _parents(chosen), _param_trees(chosen)
    prices = _prices(measures, _PRICE_QUANTILES)
    letters, words = _quantiles(measures, "letters", 0), _quantiles(measures, "words", 1)
    photos = _means(measures, "photo")
    demanded = _demanded(measures)
    return [
        {
            "parent": parents.get(code, ""),
            "name": names[code],
            "ads": int(counts[code]),
            "params": params.get(code, []),
            "price": prices.get(code),
            "description_letters": letters[code],
            "title_words": words[code],
            "photo_share": photos[code],
            "demanded": demanded.get(code),
        }
        # The codes are in the order of the names, which decide between equal counts.
        for code in np.argsort(-counts, kind="stable").tolist()
    ]


def _parents(chosen: pd.DataFrame) -> dict[int, str]:
    """Return the parent that most ads of a category name."""
    pairs = _seen(chosen, ["category", "parent_category_name"], least=1)
    # The last one of a key stays, so the most frequent comes last.
    return {code: str(parent) for (code, parent), _ in reversed(pairs)}


def _param_trees(chosen: pd.DataFrame) -> dict[int, list[dict[str, Any]]]:
    """Return each category's values of ``param_1``, under each its ``param_2``, and so on."""
    below: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for depth in range(1, len(PARAMS) + 1):
        for path, count in _seen(chosen, ["category", *PARAMS[:depth]]):
            following: list[dict[str, Any]] = []
            # What lies above was seen at least as often, so it is there.
            siblings = below.setdefault(path[:-1], [])
            siblings.append({"value": str(path[-1]), "ads": count, "next": following})
            below[path] = following
    return {path[0]: nodes for path, nodes in below.items() if len(path) == 1}


def _regions(chosen: pd.DataFrame) -> list[dict[str, Any]]:
    cities: dict[str, list[str]] = {}
    for (region, city), _ in _seen(chosen, ["region", "city"]):
        cities.setdefault(str(region), []).append(str(city))
    return [
        {"name": str(name), "ads": count, "cities": cities.get(str(name), [])}
        for name, count in _seen(chosen, ["region"])
    ]


def _seen(chosen: pd.DataFrame, by: list[str], *, least: int = SEEN_MIN) -> list[tuple[Any, int]]:
    """Return the values of some columns, together, that were seen often enough, and how often.

    Most seen first, then in their own order. A row with one of them missing does not count.
    """
    counts = chosen.groupby(by if len(by) > 1 else by[0], observed=True).size()
    counts = counts[counts >= least].sort_values(ascending=False, kind="stable")
    return list(zip(counts.index.tolist(), counts.tolist(), strict=True))


def _demanded(measures: pd.DataFrame) -> dict[int, dict[str, Any]]:
    """Sum up the quarter of each category's ads with the highest deal probability."""
    ordered = measures.sort_values(
        ["category", "target", "lot"], ascending=[True, False, True], ignore_index=True
    )
    groups = ordered.groupby("category")
    quarter = groups["target"].transform("size") // 4
    best = ordered[(groups.cumcount() < quarter) & (quarter >= ADS_MIN)]
    counts = best.groupby("category").size()
    prices, letters = _prices(best, _QUARTILES), _quantiles(best, "letters", 0)
    photos, probabilities = _means(best, "photo"), _means(best, "target")
    return {
        code: {
            "ads": count,
            "price": prices.get(code),
            "description_letters": letters[code],
            "photo_share": photos[code],
            "mean_deal_probability": probabilities[code],
        }
        for code, count in zip(counts.index.tolist(), counts.tolist(), strict=True)
    }


def _prices(measures: pd.DataFrame, named: Mapping[str, float]) -> ByCategory:
    """Return quantiles of the price in whole roubles, where enough ads have one."""
    priced = measures[measures["price"].notna()]
    counts = priced.groupby("category")["price"].transform("size")
    return _quantiles(priced[counts >= ADS_MIN], "price", 0, named)


def _quantiles(
    measures: pd.DataFrame, name: str, digits: int, named: Mapping[str, float] = _QUARTILES
) -> ByCategory:
    """Return quantiles of a measure by category, rounded to so many digits."""
    levels = np.array(list(named.values()))
    table = measures.groupby("category")[name].quantile(levels).unstack()
    rows = table[levels].to_numpy(dtype=np.float64) if len(table) else np.empty((0, len(levels)))
    return {
        code: dict(zip(named, [round(value, digits or None) for value in row], strict=True))
        for code, row in zip(table.index.tolist(), rows.tolist(), strict=True)
    }


def _means(measures: pd.DataFrame, name: str) -> ByCategory:
    """Return means of a measure by category, to four digits; None where there is none."""
    means = measures.groupby("category")[name].mean()
    return {
        code: None if np.isnan(mean) else round(mean, 4)
        for code, mean in zip(means.index.tolist(), means.tolist(), strict=True)
    }
