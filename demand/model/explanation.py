"""What each field of an ad adds to its prediction, as Shapley values.

A field's contribution is the mean change of the prediction when the field is added to
the others in random order. The contributions add up to the prediction, equal fields
share equally, and a field that the model does not look at contributes 0 (Shapley,
*A value for n-person games*, 1953; of models: Štrumbelj and Kononenko, *Explaining
prediction models and individual predictions with feature contributions*, 2014).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from math import factorial
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from demand.schema.arrays import Floats

if TYPE_CHECKING:
    from rich.table import Table

Predict = Callable[[Sequence[Mapping[str, Any]]], NDArray[np.float64]]
Masks = NDArray[np.int64]

# What a seller thinks of as one thing, and the columns that say it.
FIELDS: dict[str, tuple[str, ...]] = {
    "title": ("title",),
    "description": ("description",),
    "price": ("price",),
    "category": ("category_name", "parent_category_name"),
    "param_1": ("param_1",),
    "param_2": ("param_2",),
    "param_3": ("param_3",),
    "location": ("region", "city"),
    "user_type": ("user_type",),
    "image": ("image", "image_top_1"),
    "item_seq_number": ("item_seq_number",),
    "activation_date": ("activation_date",),
}
# Every ad needs these two: left out, the title has no words and the category is one
# that no model has learned.
LEFT_OUT: dict[str, str] = {"title": "", "category_name": "(no category)"}
_BAR_WIDTH = 20


@dataclass(frozen=True)
class Explanation:
    """A prediction as a sum: ``base`` and all ``contributions``, to 1e-9.

    What each of :data:`FIELDS` that the ad has adds is in the unit of the prediction, the
    largest first by absolute value. Fields that the ad lacks contribute exactly 0 and are
    left out.
    """

    prediction: float  # deal probability of the ad, in [0, 1]
    base: float  # deal probability of an ad of which nothing is known
    contributions: dict[str, float]


def explain(
    predict: Predict, ad: Mapping[str, Any], *, permutations: int = 32, seed: int = 0
) -> Explanation:
    """Divide a prediction among the fields of its ad.

    Each permutation adds the k fields that the ad has one by one, and so asks for k - 1
    ads besides the whole and the empty one. Permutations come in pairs, one the reverse
    of the other, which lowers the variance (sampling: Castro, Gómez and Tejada,
    *Polynomial calculation of the Shapley value based on sampling*, 2009; pairs: Mitchell
    et al., *Sampling permutations for Shapley value estimation*, JMLR 2022). Where all
    2^k subsets of fields are no more ads than that, the values are exact: with 32
    permutations for up to 7 fields, with 374 for all 12.

    ``predict`` is called once, with n ads that differ, among them the whole and the empty one,
    and gives n deal probabilities, shape (n,). They have ``title`` and ``category_name`` always,
    other columns only where they are known; no ``item_id`` and no ``user_id``. Of ``ad``, values
    by column, None, NaN, NaT and a blank text are missing; columns of no field are ignored. The
    same ad, seed and model give the same explanation.

    Raises
    ------
    ValueError
        An odd number of permutations or fewer than 2, or the model's answer has another
        shape than (n,) or is not finite.
    """
    if permutations < 2 or permutations % 2:
        raise ValueError(f"permutations come in pairs, so {permutations} is no number of them")
    known = {name: value for name, value in ad.items() if _is_known(value)}
    fields = [name for name, columns in FIELDS.items() if not known.keys().isdisjoint(columns)]
    count = len(fields)
    ask = partial(_ask, predict, known, fields)
    if 2**count <= permutations * max(0, count - 1) + 2:
        answers = ask(np.arange(2**count))
        values = _exact(answers, count)
    else:
        answers, values = _sampled(ask, count, permutations, seed)
    # A stable sort: among equals the order of FIELDS holds.
    ranked = sorted(zip(fields, values.tolist(), strict=True), key=lambda pair: -abs(pair[1]))
    return Explanation(float(answers[-1]), float(answers[0]), dict(ranked))


def explained(explanation: Explanation) -> Table:
    """Return an explanation as a table for the terminal: base, fields, prediction."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    table.add_column("field")
    table.add_column("adds", justify="right")
    table.add_column("")
    table.add_row("(nothing known)", f"{explanation.base:.4f}")
    largest = max(map(abs, explanation.contributions.values()), default=0.0)
    for field, value in explanation.contributions.items():
        length = round(_BAR_WIDTH * abs(value) / largest) if largest else 0
        colour = "green" if value > 0 else "red"
        table.add_row(field, f"{value:+.4f}", f"[{colour}]{'█' * length}[/]")
    table.add_section()
    table.add_row("prediction", f"{explanation.prediction:.4f}")
    return table


def _is_known(value: Any) -> bool:
    if isinstance(value, str):
        return bool(value) and not value.isspace()
    # Anything but a scalar is for the model to judge.
    return not (pd.api.types.is_scalar(value) and bool(pd.isna(value)))


def _ask(predict: Predict, known: Mapping[str, Any], fields: list[str], masks: Masks) -> Floats:
    """Return the model's answer for each subset of fields, shape (n,).

    A subset is a number of which bit i says whether field i is in it.
    """
    ads = [
        LEFT_OUT
        | {
            column: known[column]
            for i, field in enumerate(fields)
            if mask >> i & 1
            for column in FIELDS[field]
            if column in known
        }
        for mask in masks.tolist()
    ]
    answers = np.asarray(predict(ads), dtype=np.float64)
    if answers.shape != masks.shape:
        raise ValueError(f"the model answered {len(ads)} ads with the shape {answers.shape}")
    if not np.isfinite(answers).all():
        raise ValueError("the model's answer is not finite for some part of the ad")
    return answers


def _exact(answers: Floats, count: int) -> Floats:
    """Return the Shapley values, shape (count,), from the answers to all 2^count subsets."""
    masks = np.arange(2**count)
    sizes = np.array([mask.bit_count() for mask in masks.tolist()])
    # How many of all orders have exactly this subset before a field that is not in it.
    weights = np.array(
        [factorial(s) * factorial(count - 1 - s) / factorial(count) for s in range(count)]
    )
    values = np.empty(count)
    for i in range(count):
        without = masks[masks >> i & 1 == 0]
        change = answers[without | 1 << i] - answers[without]
        values[i] = np.sum(weights[sizes[without]] * change)
    return values


def _sampled(
    ask: Callable[[Masks], Floats], count: int, permutations: int, seed: int
) -> tuple[Floats, Floats]:
    """Average each field's change over orders that are drawn in pairs, one the reverse of another.

    Returns the answers, first to no field and last to all, and the Shapley values, (count,).
    """
    random = np.random.default_rng(seed)
    drawn = random.permuted(np.tile(np.arange(count), (permutations // 2, 1)), axis=1)
    orders = np.concatenate([drawn, drawn[:, ::-1]])
    # The subsets on the way from none to all, shape (permutations, count + 1).
    paths = np.pad(np.cumsum(np.left_shift(1, orders), axis=1), ((0, 0), (1, 0)))
    masks, place = np.unique(paths, return_inverse=True)
    answers = ask(masks)
    change = np.diff(answers[place.reshape(paths.shape)], axis=1)
    total = np.bincount(orders.ravel(), change.ravel(), minlength=count)
    return answers, total / len(orders)
