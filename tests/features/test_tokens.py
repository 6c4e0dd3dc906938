from __future__ import annotations

import hashlib

import numpy as np
import pandas as pd
import pytest

from demand.config import FeatureSettings
from demand.features.builder import FeatureBuilder, SparseAds
from demand.features.encoding import AdColumns
from demand.features.kernels import CrossGroup, TokenGroup
from tests.ads_factory import make_ads
from tests.tiny_model import tiny_features

SETTINGS = FeatureSettings(buckets=4096)
BASE = {
    "title": "Велосипед горный",
    "description": "Почти новый, катались одно лето.",
    "parent_category_name": "Хобби и отдых",
    "category_name": "Велосипеды",
    "param_1": "Горные",
    "price": 9000.0,
    "user_type": "Private",
    "image_top_1": 5.0,
    "item_seq_number": 3.0,
}


def tokens_of(ads: pd.DataFrame, settings: FeatureSettings = SETTINGS) -> SparseAds:
    builder = FeatureBuilder(settings, tiny_features().builder.arrays)
    return builder.transform(AdColumns.from_frame(ads)).sparse


def of(ads: SparseAds, number: int) -> list[tuple[int, float]]:
    mine = ads.row == number
    return sorted(zip(ads.bucket[mine].tolist(), ads.weight[mine].tolist(), strict=True))


def one(**changes: object) -> list[tuple[int, float]]:
    return of(tokens_of(pd.DataFrame([BASE | changes])), 0)


def test_the_tokens_of_an_ad_do_not_depend_on_its_neighbours() -> None:
    ads = make_ads(30)
    together = tokens_of(ads)
    for number in range(30):
        assert of(tokens_of(ads.iloc[number : number + 1]), 0) == of(together, number)


def test_the_squares_of_an_ads_weights_are_the_priors() -> None:
    """Each group of tokens has unit length before it is scaled; this ad has all of them."""
    ad = BASE | {"param_2": "20 дюймов", "param_3": "сталь", "region": "Тула", "city": "Тула"}
    sparse = tokens_of(pd.DataFrame([ad]))
    assert (sparse.weight**2).sum() == pytest.approx(
        sum(group.prior for group in TokenGroup), rel=1e-4
    )


@pytest.mark.parametrize(
    "changes",
    [
        {"title": "Самокат"},
        {"description": "Совсем старый"},
        {"category_name": "Коллекционирование"},
        {"param_1": "Дорожные"},
        {"price": 9500.0},
        {"price": None},
        {"user_type": "Shop"},
        {"image_top_1": None},
        {"city": "Тула"},
        {"item_seq_number": 300.0},
    ],
    ids=str,
)
def test_every_field_has_a_say(changes: dict[str, object]) -> None:
    assert one(**changes) != one()


def test_a_word_is_another_token_in_title_and_description() -> None:
    in_title = set(one(title="шкаф", description=None)) - set(one(title=None, description=None))
    in_text = set(one(title=None, description="шкаф")) - set(one(title=None, description=None))
    assert not in_title & in_text


def test_an_ad_without_any_value_has_tokens() -> None:
    assert np.bincount(tokens_of(pd.DataFrame({"title": [None, None]})).row).min() > 5


@pytest.mark.parametrize("buckets", [1, 3, 1_000_003])
def test_any_number_of_buckets_will_do(buckets: int) -> None:
    found = tokens_of(make_ads(5), FeatureSettings(buckets=buckets))
    assert 0 <= found.bucket.min() <= found.bucket.max() < buckets


def test_sums_are_those_of_a_matrix() -> None:
    found = tokens_of(make_ads(20))
    values = np.random.default_rng(0).normal(size=SETTINGS.buckets)
    matrix = np.zeros((20, SETTINGS.buckets))
    np.add.at(matrix, (found.row, found.bucket), found.weight)
    np.testing.assert_allclose(found.sums(values), matrix @ values, rtol=1e-6)


def test_ads_that_are_taken_keep_their_tokens() -> None:
    ads = tokens_of(make_ads(6))
    chosen = np.array([False, True, False, True, True, False])
    taken = ads.take(chosen)
    assert taken.rows == 3
    for new, old in enumerate(np.flatnonzero(chosen)):
        assert of(taken, new) == of(ads, old)


def test_the_tokens_of_an_ad_are_pinned() -> None:
    """A change invalidates saved models: raise ``demand.model.predictor.FORMAT`` with it."""
    ad = BASE | {"price": None, "description": None}
    found = tokens_of(pd.DataFrame([ad]))
    digest = hashlib.md5(found.bucket.tobytes(), usedforsecurity=False)
    assert digest.hexdigest() == "5d9419e9ce2e4c4b9df19a68c85a35c2"


CROSSED = SETTINGS.model_copy(update={"crosses": True, "cross_buckets": 2**20})


def crossed(**changes: object) -> set[tuple[int, float]]:
    return set(of(tokens_of(pd.DataFrame([BASE | changes]), CROSSED), 0))


def test_crosses_have_the_length_of_all_groups_that_are_used() -> None:
    ad = BASE | {"param_2": "20 дюймов", "param_3": "сталь", "region": "Тула", "city": "Тула"}
    squares = (tokens_of(pd.DataFrame([ad]), CROSSED).weight ** 2).sum()
    # All but n-grams of both texts, and words of the description with the type of seller.
    assert squares == pytest.approx(len(TokenGroup) - 3 + len(CrossGroup), rel=1e-4)


def test_a_pair_of_words_is_a_token_in_any_order_and_other_than_its_words() -> None:
    assert crossed(title="стол белый") == crossed(title="белый стол")
    buckets = {bucket for bucket, _ in crossed(title="стол белый")}
    # One of as many letters, too, since lengths are tokens.
    alone = {b for word in ("стол", "белый", "столбелый") for b, _ in crossed(title=word)}
    # The pair alone, and with the params.
    assert len(buckets - alone) == 2


@pytest.mark.parametrize(
    "changes", [{"param_1": "Дорожные"}, {"price": 90_000.0}, {"user_type": "Shop"}], ids=str
)
def test_a_cross_follows_each_of_its_sides(changes: dict[str, object]) -> None:
    title = {b for b, _ in crossed()} - {b for b, _ in crossed(title=None)}
    other = {b for b, _ in crossed(**changes)} - {b for b, _ in crossed(title=None, **changes)}
    assert title - other
    assert other - title


def test_a_title_of_many_words_is_paired_in_bounds() -> None:
    long = " ".join(f"слово{chr(1072 + n)}" for n in range(30))
    found = tokens_of(pd.DataFrame([BASE | {"title": long, "description": long}] * 40), CROSSED)
    assert np.bincount(found.row).max() < 500
