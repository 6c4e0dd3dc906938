from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import minimize

from demand.features.builder import SparseAds
from demand.model.network import cross_fitted_logits, fit_wide

BUCKETS = 40


def made(n: int = 200, seed: int = 0) -> tuple[SparseAds, np.ndarray]:
    rng = np.random.default_rng(seed)
    row = np.repeat(np.arange(n, dtype=np.int32), 4)
    bucket = rng.integers(0, BUCKETS, 4 * n).astype(np.int32)
    ads = SparseAds(n, row, bucket, rng.normal(size=4 * n).astype(np.float32))
    truth = rng.normal(size=BUCKETS)
    chance = 1.0 / (1.0 + np.exp(1.0 - ads.sums(truth)))
    return ads, np.where(rng.random(n) < chance, rng.random(n), 0.0)


def gradient(ads: SparseAds, target: np.ndarray, table: np.ndarray, bias: float, penalty: float):
    error = 1.0 / (1.0 + np.exp(-(bias + ads.sums(table)))) - target
    of_table = np.bincount(ads.bucket, error[ads.row] * ads.weight, BUCKETS) + penalty * table
    return error.sum(), of_table


@pytest.mark.parametrize("penalty", [0.1, 0.45, 10.0])
def test_the_optimum_has_no_slope(penalty: float) -> None:
    ads, target = made()
    wide = fit_wide(ads, target, buckets=BUCKETS, penalty=penalty)
    of_bias, of_table = gradient(ads, target, wide.table, wide.bias, penalty)
    assert abs(of_bias) < 0.05
    assert np.abs(of_table).max() < 0.05


@pytest.mark.parametrize("penalty", [0.1, 0.45, 10.0])
def test_the_optimum_is_what_another_solver_finds_on_a_dense_matrix(penalty: float) -> None:
    ads, target = made()
    tokens = np.zeros((ads.rows, BUCKETS))
    np.add.at(tokens, (ads.row, ads.bucket), ads.weight)

    def loss(point: np.ndarray) -> float:
        logit = point[0] + tokens @ point[1:]
        entropy = target * np.logaddexp(0, -logit) + (1 - target) * np.logaddexp(0, logit)
        return float(entropy.sum() + penalty / 2 * np.sum(point[1:] ** 2))

    expected = minimize(loss, np.zeros(BUCKETS + 1), method="BFGS", options={"gtol": 1e-4}).x
    wide = fit_wide(ads, target, buckets=BUCKETS, penalty=penalty)
    assert loss(np.append(wide.bias, wide.table)) <= loss(expected) + 1e-3
    np.testing.assert_allclose(
        wide.logits(ads), expected[0] + tokens @ expected[1:], rtol=0, atol=0.01
    )


def test_the_mean_answer_is_the_mean_target_whatever_the_penalty() -> None:
    """For the bias is not penalised: the base rate must not shrink to a half."""
    ads, target = made()
    logits = fit_wide(ads, target, buckets=BUCKETS, penalty=1e4).logits(ads)
    assert np.mean(1.0 / (1.0 + np.exp(-logits))) == pytest.approx(target.mean(), abs=1e-3)


def test_a_stronger_penalty_gives_smaller_weights() -> None:
    ads, target = made()
    sizes = [
        float(np.sum(fit_wide(ads, target, buckets=BUCKETS, penalty=p).table ** 2))
        for p in (0.1, 1.0, 10.0, 1e6)
    ]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[-1] < 1e-6


def test_a_bucket_that_no_ad_has_weighs_nothing() -> None:
    ads, target = made()
    wide = fit_wide(ads, target, buckets=BUCKETS + 5, penalty=0.45)
    assert (wide.table[BUCKETS:] == 0.0).all()


def test_a_fit_is_repeatable() -> None:
    ads, target = made()
    one, other = (fit_wide(ads, target, buckets=BUCKETS, penalty=0.45) for _ in range(2))
    assert one.table.tobytes() == other.table.tobytes()
    assert one.bias == other.bias


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("value", [0.0, 1.0])
def test_a_constant_target_has_finite_logits(value: float) -> None:
    ads, _ = made()
    wide = fit_wide(ads, np.full(ads.rows, value), buckets=BUCKETS, penalty=0.45)
    assert np.isfinite(wide.logits(ads)).all()


def test_cross_fitted_logits_have_not_seen_their_fold() -> None:
    ads, target = made()
    fold = np.arange(ads.rows) % 4
    own = fold == 2
    changed = np.where(own, 1.0 - target, target)
    before, after = (
        cross_fitted_logits(ads, t, fold, buckets=BUCKETS, penalty=0.45) for t in (target, changed)
    )
    np.testing.assert_array_equal(before[own], after[own])
    assert (before[~own] != after[~own]).all()


def test_where_there_is_one_fold_it_is_its_own() -> None:
    ads, target = made()
    fold = np.zeros(ads.rows, dtype=np.int64)
    found = cross_fitted_logits(ads, target, fold, buckets=BUCKETS, penalty=0.45)
    expected = fit_wide(ads, target, buckets=BUCKETS, penalty=0.45).logits(ads)
    np.testing.assert_allclose(found, expected)


def test_the_weights_that_say_most_are_kept() -> None:
    ads, target = made()
    wide = fit_wide(ads, target, buckets=BUCKETS, penalty=0.45)
    said = [
        np.std(ads.sums(np.where(np.arange(BUCKETS) == b, wide.table, 0.0))) for b in range(BUCKETS)
    ]
    pruned = wide.pruned(ads, 10)
    kept = np.flatnonzero(pruned.table)
    assert len(kept) == 10
    np.testing.assert_array_equal(pruned.table[kept], wide.table[kept])
    assert np.min(np.array(said)[kept]) > np.median(said)
    assert pruned.bias == wide.bias


def test_nothing_is_pruned_where_there_is_room() -> None:
    ads, target = made()
    wide = fit_wide(ads, target, buckets=BUCKETS, penalty=0.45)
    np.testing.assert_array_equal(wide.pruned(ads, BUCKETS).table, wide.table)
