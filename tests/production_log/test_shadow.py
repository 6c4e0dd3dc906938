from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest

from demand.production_log.shadow import Shadow, ShadowModel
from demand.schema.arrays import Floats
from demand.schema.records import Typed
from tests.production_log.answered import AD, FAR_AHEAD, LONG_AGO, add, answered, production_log

PRICED = [AD | {"price": price} for price in range(6)]


def by_price(ads: Typed) -> Floats:
    return ads["price"] / 10.0


def of_version(version: str | None) -> Shadow:
    model = None if version is None else ShadowModel(version, by_price)
    return Shadow(lambda: model, 1000.0)


def test_it_answers_the_ads_of_sellers_under_their_own_rows() -> None:
    request = answered(*PRICED, probes=[0, 3])
    (again,) = of_version("6").answers([request])
    assert (again.model_version, again.request_id, again.shadow) == ("6", "r-1", True)
    assert again.rows == [1, 2, 4, 5]
    np.testing.assert_allclose(again.probabilities, [0.1, 0.2, 0.4, 0.5])
    assert request.probabilities[1] == 0.1  # what was answered is as it was


@pytest.mark.parametrize("version", [None, "7"], ids=["none", "the one that answered"])
def test_there_is_nothing_to_compare_with(version: str | None) -> None:
    assert of_version(version).answers([answered(*PRICED)]) == []


def test_it_answers_no_more_than_is_allowed() -> None:
    shadow = Shadow(lambda: ShadowModel("6", by_price), 4.0)
    found = shadow.answers([answered(*PRICED), answered(*PRICED)])
    assert [again.rows for again in found] == [[0, 1, 2, 3]]


def test_one_that_fails_is_told_once_and_stops_nothing(caplog: pytest.LogCaptureFixture) -> None:
    def broken(_: Typed) -> Floats:
        raise ValueError("no such column")

    shadow = Shadow(lambda: ShadowModel("6", broken), 1000.0)
    with caplog.at_level(logging.WARNING, "demand.production_log"):
        assert [shadow.answers([answered(AD)]) for _ in range(3)] == [[]] * 3
    (line,) = caplog.messages
    assert line == "version 6 cannot answer as a shadow: ValueError('no such column')"


def test_both_answers_are_logged_and_told_apart(tmp_path: Path) -> None:
    log = production_log(tmp_path)
    writer = log.writer(shadow=lambda: ShadowModel("6", by_price))
    add(writer, *PRICED, probes=[0])
    writer.close()
    first = log.entries(LONG_AGO, FAR_AHEAD)
    second = log.entries(LONG_AGO, FAR_AHEAD, shadow=True)
    assert set(first["model_version"]) == {"7"}
    assert set(second["model_version"]) == {"6"}
    assert first["row"].tolist() == second["row"].tolist() == [1, 2, 3, 4, 5]
    np.testing.assert_allclose(second["deal_probability"], second["price"] / 10.0)


def test_there_is_none_where_none_is_wanted(tmp_path: Path) -> None:
    log = production_log(tmp_path, shadow_ads_per_s=0.0)
    writer = log.writer(shadow=lambda: ShadowModel("6", by_price))
    add(writer, AD)
    writer.close()
    assert log.entries(LONG_AGO, FAR_AHEAD, shadow=True).empty
