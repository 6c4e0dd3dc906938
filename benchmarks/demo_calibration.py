"""Find the offsets that give the demo ads the real means by category and seller type.

``python -m benchmarks.demo_calibration`` rewrites ``demand/demo/calibration.json``; run it
after a change of the vocabulary or of the amplitudes. Large: 47 categories, ten rounds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

import demand.demo
from benchmarks.report import program_parser
from demand.demo.exact import Floats, Indices
from demand.demo.generator import draw_batch
from demand.demo.lexicon import CATEGORIES, PARENT_OF_CATEGORY, PARENTS, SELLER_TYPES
from demand.demo.target import chances, mean_of, score
from demand.schema.population import reference
from demand.workspace.workspace import write_json

# Other ads than those of any likely seed; each chunk takes the next one.
SEED = 47_001
CHUNK = 20_000


def sample(rows: int) -> tuple[Floats, Indices, Indices]:
    """Return score, category and seller type of many ads, each of shape (rows,).

    Every chunk has sellers of its own: the busy ones of a single crowd would pull the
    means of small categories towards what they happen to sell.
    """
    parts = []
    for chunk, first in enumerate(range(0, rows, CHUNK)):
        facts = draw_batch(0, min(CHUNK, rows - first), SEED + chunk).facts
        parts.append((score(facts), facts.goods.category, facts.sellers.kinds))
    scores, categories, kinds = (np.concatenate(column) for column in zip(*parts, strict=True))
    return scores, categories, kinds


def crossing(rising: Callable[[float], float], goal: float, low: float, high: float) -> float:
    """Return where a rising function reaches a goal (bisection), or the nearer end."""
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (middle, high) if rising(middle) < goal else (low, middle)
    return (low + high) / 2


def offsets(
    raw: Floats, groups: Indices, names: Sequence[str], means: Mapping[str, float]
) -> Floats:
    """Return what must be added to the scores of each group so that they give its mean."""
    found = np.zeros(len(names))
    for index, name in enumerate(names):
        here = raw[groups == index]
        if len(here) >= 20:  # below, the offset is not worth fitting
            found[index] = crossing(lambda o: float(mean_of(here + o).mean()), means[name], -30, 30)  # noqa: B023
    return found


def calibrate(scores: Floats, categories: Indices, kinds: Indices) -> tuple[Floats, Floats]:
    """Return the offsets by category, shape (47,), and by seller type, shape (3,)."""
    figures, by_kind = reference().raw, np.zeros(len(SELLER_TYPES))
    of_category, of_kind = figures["mean_target_by_category"], figures["mean_target_by_user_type"]
    for _ in range(8):
        by_category = offsets(scores + by_kind[kinds], categories, CATEGORIES, of_category)
        by_kind = offsets(scores + by_category[categories], kinds, SELLER_TYPES, of_kind)
    return by_category, by_kind


def small_part_for(means: Floats, parent: int, zero_share: float) -> float:
    """Return the part of small values that gives a parent's share of zeros."""
    parents = np.full(len(means), parent)

    def others(part: float) -> float:
        parts = np.full(len(PARENTS), part)
        return float(sum(chance.mean() for chance in chances(means, parents, parts)))

    return crossing(others, 1.0 - zero_share, 0.0, 0.98)


def main() -> None:
    """Calibrate, and say what noise floor comes out."""
    parser = program_parser("demo_calibration", __doc__, "--rows 3000000")
    parser.add_argument("--rows", type=int, default=3_000_000)
    scores, categories, kinds = sample(parser.parse_args().rows)
    by_category, by_kind = calibrate(scores, categories, kinds)
    means = mean_of(scores + by_category[categories] + by_kind[kinds])
    parents = PARENT_OF_CATEGORY[categories]
    small = [
        small_part_for(means[parents == parent], parent, shape["zero_share"])
        for parent, shape in enumerate(PARENTS.values())
    ]
    found = {
        "category": dict(zip(CATEGORIES, by_category.round(4).tolist(), strict=True)),
        "seller_type": dict(zip(SELLER_TYPES, by_kind.round(4).tolist(), strict=True)),
        "small_part": dict(zip(PARENTS, np.round(small, 4).tolist(), strict=True)),
    }
    write_json(Path(demand.demo.__file__).parent / "calibration.json", found)
    print(f"mean {means.mean():.4f}, standard deviation of the true mean {means.std():.4f}")


if __name__ == "__main__":
    main()
