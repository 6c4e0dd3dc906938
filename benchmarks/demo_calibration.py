"""Find the offsets that give the demo ads the real means by category and seller type.

``python -m benchmarks.demo_calibration`` rewrites ``demand/demo/calibration.json``; run it
after a change of the vocabulary or of the amplitudes. Large: 47 categories, ten rounds.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

import demand.demo
from demand.demo.batch import draw_facts, row_keys_of
from demand.demo.chance import mean_of, score
from demand.demo.hashing import Floats, Indices
from demand.demo.lexicon import lexicon
from demand.demo.shape import PARENT_SHAPES, SELLER_TYPES, parent_of_category
from demand.demo.target import chances
from demand.reference import reference
from demand.state import write_json

# Other ads than those of any likely seed; each chunk takes the next one.
SEED = 47_001
CHUNK = 20_000
# Rows of a category below which its offset is not worth fitting.
ENOUGH = 20


def sample(rows: int) -> tuple[Floats, Indices, Indices]:
    """Return score, category and seller type of many ads, each of shape (rows,).

    Every chunk has sellers of its own: the busy ones of a single crowd would pull the
    means of small categories towards what they happen to sell.
    """
    parts = []
    for chunk, first in enumerate(range(0, rows, CHUNK)):
        facts = draw_facts(*row_keys_of(0, min(CHUNK, rows - first), SEED + chunk))
        parts.append((score(facts), facts.goods.category, facts.sellers.kinds))
    scores, categories, kinds = (np.concatenate(column) for column in zip(*parts, strict=True))
    return scores, categories, kinds


def offset_for(raw: Floats, mean: float) -> float:
    """Return what must be added to scores so that they give this mean (bisection)."""
    low, high = -30.0, 30.0
    for _ in range(40):
        middle = (low + high) / 2
        if mean_of(raw + middle).mean() < mean:
            low = middle
        else:
            high = middle
    return (low + high) / 2


def calibrate(scores: Floats, categories: Indices, kinds: Indices) -> tuple[Floats, Floats]:
    """Return the offsets by category, shape (47,), and by seller type, shape (3,)."""
    figures = reference().raw
    by_category = np.zeros(len(lexicon().categories))
    by_kind = np.zeros(len(SELLER_TYPES))
    for _ in range(8):
        for index, name in enumerate(lexicon().categories):
            here = categories == index
            if here.sum() >= ENOUGH:
                by_category[index] = offset_for(
                    scores[here] + by_kind[kinds[here]],
                    figures["mean_target_by_category"][name],
                )
        for kind, name in enumerate(SELLER_TYPES):
            here = kinds == kind
            by_kind[kind] = offset_for(
                scores[here] + by_category[categories[here]],
                figures["mean_target_by_user_type"][name],
            )
    return by_category, by_kind


def small_part_for(means: Floats, parent: int, zero_share: float) -> float:
    """Return the part of small values that gives a parent's share of zeros (bisection)."""
    parents = np.full(len(means), parent)
    low, high = 0.0, 0.98
    for _ in range(25):
        middle = (low + high) / 2
        parts = np.full(len(PARENT_SHAPES), middle)
        if 1.0 - sum(chance.mean() for chance in chances(means, parents, parts)) > zero_share:
            low = middle
        else:
            high = middle
    return (low + high) / 2


def main() -> None:
    """Calibrate, and say what noise floor comes out."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=3_000_000)
    scores, categories, kinds = sample(parser.parse_args().rows)
    by_category, by_kind = calibrate(scores, categories, kinds)
    means = mean_of(scores + by_category[categories] + by_kind[kinds])
    parents = parent_of_category()[categories]
    small = {
        name: round(small_part_for(means[parents == i], i, shape.zero_share), 4)
        for i, (name, shape) in enumerate(PARENT_SHAPES.items())
    }
    write_json(
        Path(demand.demo.__file__).parent / "calibration.json",
        {
            "category": _named(lexicon().categories, by_category),
            "seller_type": _named(SELLER_TYPES, by_kind),
            "small_part": small,
        },
    )
    print(f"mean {means.mean():.4f}, standard deviation of the true mean {means.std():.4f}")


def _named(names: tuple[str, ...], offsets: Floats) -> dict[str, float]:
    return {name: round(float(x), 4) for name, x in zip(names, offsets, strict=True)}


if __name__ == "__main__":
    main()
