from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from demand.evaluation.baselines import CategoryMeans, baseline_answers, mean_baseline
from demand.evaluation.metrics import rmse
from demand.schema.columns import TARGET
from tests.ads_factory import make_ads


@pytest.fixture
def four_ads() -> pd.DataFrame:
    ads = make_ads(4, seed=1)
    ads["category_name"] = ["Кошки", "Кошки", "Кошки", "Собаки"]
    ads[TARGET] = [0.9, 0.9, 0.9, 0.1]
    return ads


def test_mean_baseline_repeats_the_training_mean() -> None:
    assert mean_baseline([0.0, 0.5, 1.0, 0.5], 3).tolist() == [0.5, 0.5, 0.5]


def test_category_means_are_shrunk_towards_the_mean_of_all(four_ads: pd.DataFrame) -> None:
    predicted = CategoryMeans().fit(four_ads).predict(four_ads)
    weight = CategoryMeans.SHRINKAGE
    cats, dogs = (2.7 + weight * 0.7) / (3 + weight), (0.1 + weight * 0.7) / (1 + weight)
    assert predicted.tolist() == pytest.approx([cats] * 3 + [dogs])


@pytest.mark.parametrize("category", ["Птицы", "новая категория", None])
def test_unseen_and_missing_categories_get_the_mean(
    four_ads: pd.DataFrame, category: str | None
) -> None:
    model = CategoryMeans().fit(four_ads)
    unseen = four_ads.assign(category_name=pd.Series([category] * 4, dtype=object))
    assert model.predict(unseen).tolist() == pytest.approx([0.7] * 4)


def test_category_means_do_not_read_the_target_to_predict(four_ads: pd.DataFrame) -> None:
    model = CategoryMeans().fit(four_ads)
    assert np.array_equal(model.predict(four_ads), model.predict(four_ads.drop(columns=TARGET)))


def test_category_means_beat_the_mean_where_categories_differ() -> None:
    ads = make_ads(3000, seed=2)
    level = ads["category_name"].map(
        {c: i / 50 for i, c in enumerate(ads["category_name"].unique())}
    )
    ads[TARGET] = level.to_numpy(dtype=float)
    train, test = ads.iloc[:2000], ads.iloc[2000:]
    means = rmse(test[TARGET], CategoryMeans().fit(train).predict(test))
    assert means < 0.7 * rmse(test[TARGET], mean_baseline(train[TARGET], len(test)))


def test_every_baseline_answers_every_ad_without_its_target() -> None:
    train, test = make_ads(300, seed=5), make_ads(40, seed=6)
    answers = baseline_answers(train, train, test.drop(columns=TARGET), seed=1)
    assert list(answers) == ["mean", "category_means", "reports_mlp"]
    assert all(answer.shape == (40,) for answer in answers.values())


def test_baselines_with_the_same_seed_answer_alike() -> None:
    train, test = make_ads(300, seed=5), make_ads(40, seed=6)
    first, second = (pd.DataFrame(baseline_answers(train, train, test, seed=1)) for _ in range(2))
    pd.testing.assert_frame_equal(first, second, check_exact=True)
