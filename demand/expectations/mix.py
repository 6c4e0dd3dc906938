"""How far the mix of a column's values is from the one to expect."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from demand.reference import reference


def reference_mixes() -> dict[str, dict[str, int]]:
    """Return the reference's count of each value, of the columns whose mix is compared."""
    figures = reference()
    return {
        "category_name": figures.category_counts,
        "region": figures.regions,
        "user_type": figures.user_types,
    }


def mix_distances(ads: pd.DataFrame) -> dict[str, float]:
    """Return :func:`mix_distance` from the reference of each column compared."""
    return {name: mix_distance(ads[name], counts) for name, counts in reference_mixes().items()}


def mix_shares(values: pd.Series[str], expected: Mapping[str, int]) -> pd.DataFrame:
    """Return the share of each value beside the expected one.

    Parameters
    ----------
    values
        One value per ad, shape (n,); missing ones are left out.
    expected
        Count of each value in the reference.

    Returns
    -------
    DataFrame
        Columns ``observed`` and ``expected``, each a share in [0, 1], indexed by the
        values of both; sorted by how far ``observed`` is from ``expected``, furthest first.
    """
    observed = values.value_counts(normalize=True).rename("observed")
    reference = pd.Series(expected, dtype=float).rename("expected")
    shares = pd.concat([observed, reference / reference.sum()], axis=1).fillna(0.0)
    distance = (shares["observed"] - shares["expected"]).abs()
    return shares.loc[distance.sort_values(ascending=False, kind="stable").index]


def mix_distance(values: pd.Series[str], expected: Mapping[str, int]) -> float:
    """Return the total variation distance of a mix from the expected one, in [0, 1].

    Half the sum over all values of ``|observed share - expected share|``: the share of
    the ads that would have to have another value for the mixes to be equal. 1 where
    there are no values at all.
    """
    if values.notna().sum() == 0:
        return 1.0
    shares = mix_shares(values, expected)
    return float((shares["observed"] - shares["expected"]).abs().sum() / 2.0)
