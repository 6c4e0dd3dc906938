from __future__ import annotations

from dataclasses import replace
from typing import Any
from xml.etree import ElementTree

import pytest

from demand.page.answers import Progress, Result
from demand.page.api import Answer, CategoryStatistics, Snapshot
from demand.page.uploads import Problem, Row
from demand.page.views import (
    BINS,
    LANGUAGES,
    Language,
    calibration,
    calibration_points,
    curve_points,
    errors_table,
    histogram,
    render,
    results_table,
    suggestion_text,
)
from demand.serving.recommendations import plan
from tests.serving.test_recommendations import AD, FACTS

EVIL = '<script>alert("1")</script>'
DEMANDED = {
    "ads": 32, "price": {"p25": 2925.0, "p50": 4250.0, "p75": 6500.0},
    "description_letters": {"p25": 35.0, "p50": 58.0, "p75": 106.0}, "photo_share": 0.97,
}  # fmt: skip
CARD: dict[str, Any] = {
    "trained": "2026-11-24", "demo": True, "model_version": "7",
    "data": {"file": "ads.csv", "md5": "0" * 32, "rows": 9, "git_commit": None},
    "rows": {"train": 14_400, "validation": 1601, "test": None},
    "metrics": {"rmse": 0.2388, "rmse_low": 0.23, "rmse_high": 0.25, "mae": None},
    "calibration": [{"predicted": 0.1, "actual": 0.12, "ads": 4},
                    {"predicted": 0.3, "actual": 0.25, "ads": 4},
                    {"predicted": None, "actual": 0.2, "ads": 0}],
    "error_by_category": [{"category": EVIL, "ads": 5, "rmse": 0.3},
                          {"category": "Часы", "ads": 0, "rmse": None}],
    "weaknesses": [EVIL], "data_warnings": [],
}  # fmt: skip


def result(ad: dict[str, Any], *, complete: bool = True, facts: Any = None) -> Result:
    known = FACTS | {"demanded": DEMANDED} if facts is None else facts or None
    asked = plan(ad, known)
    given = [0.2] + [0.3] * (len(asked.ads) - 1)
    answer = Answer(0.2, 0.0, 0.4, 0.8, 0.72, "4") if complete else Answer(0.2)
    return Result(ad, answer, asked.read(given), known, complete)


def well_formed(html: str) -> ElementTree.Element:
    """Parse it as XML, which a text that was not escaped would break."""
    return ElementTree.fromstring(f"<div>{html}</div>")  # noqa: S314 - our own


@pytest.mark.parametrize("language", LANGUAGES)
def test_html_in_an_ad_is_shown_as_text(language: Language) -> None:
    ad = AD | {"title": EVIL, "category_name": EVIL, "description": EVIL, "param_1": EVIL}
    shown = render("answer", language, result(ad)) + render("advice", language, result(ad))
    assert "<script" not in shown
    assert "&lt;script&gt;" in shown
    well_formed(shown)


def test_the_answer_has_number_rank_interval_and_sentence() -> None:
    shown = render("answer", "en", result(AD))
    assert "20%" in shown
    assert "Better than 72% of the ads in “Велосипеды”" in shown
    assert "from 0% to 40%" in shown
    assert "Of 100 ads like this, about 20 end in a deal." in shown


@pytest.mark.parametrize("facts", [{}, FACTS | {"ads": 29}])
def test_a_category_without_a_rank_of_its_own_is_not_named_with_one(facts: dict[str, Any]) -> None:
    shown = render("answer", "en", result(AD, facts=facts))
    assert "Better than 72% of all ads" in shown
    assert "Велосипеды" not in shown
    assert "category" not in shown
    assert "Лучше, чем 72\u00a0% всех объявлений" in render("answer", "ru", result(AD, facts=facts))


def test_an_interval_of_unknown_coverage_is_not_told_as_80_percent() -> None:
    told = result(AD)
    shown = render("answer", "en", replace(told, answer=Answer(0.2, 0.0, 0.4)))
    assert "80%" not in shown
    assert "from 0% to 40%" not in shown


def test_the_answer_names_the_version_that_gave_it() -> None:
    assert "Version 4 of the model" in render("answer", "en", result(AD))
    assert "Version" not in render("answer", "en", result(AD, complete=False))


def test_of_a_model_server_only_the_probability_is_told_and_that_is_said() -> None:
    shown = render("answer", "en", result(AD, complete=False))
    assert "20%" in shown
    assert "Better than" not in shown
    assert "only the probability" in shown


def test_help_has_gains_and_sums() -> None:
    shown = render("advice", "en", result(AD))
    assert shown.count("+10.0\u00a0pp") == shown.count("<li data-kind") > 0
    assert "₽2,925 – ₽6,500" in shown


def test_the_curve_is_told_in_words_and_drawn_as_lines() -> None:
    told = render("curve", "en", result(AD))
    assert "Now ₽15,000: the probability is 20%." in told
    assert "Best price as the model sees it" in told
    points = curve_points("en", result(AD))
    assert points is not None
    lines = points.groupby("line")
    assert set(lines.groups) == {"probability", "best price", "your price"}
    assert lines.get_group("your price")["price"].tolist() == [15_000, 15_000]
    assert lines.get_group("probability")["probability"].between(0, 100).all()
    low, high = result(AD).advice.curve.best  # type: ignore[union-attr]
    assert lines.get_group("best price")["price"].between(low, high).all()


def test_without_facts_it_says_why_there_is_no_curve() -> None:
    assert "no curve" in render("curve", "en", result(AD, facts={}))
    assert curve_points("en", result(AD, facts={})) is None


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_kind_of_suggestion_has_its_words(language: Language) -> None:
    for ad in (AD, AD | {"param_1": "Горные", "price": 100.0}, {**AD, "price": None}):
        found = result({k: v for k, v in ad.items() if v is not None}).advice.suggestions
        assert found
        for suggestion in found:
            assert suggestion_text(language, suggestion, ad)


def test_a_gauge_is_one_image_with_a_description() -> None:
    shown = render("answer", "en", result(AD))
    (gauge,) = well_formed(shown).findall(".//*[@role='img']")
    assert gauge.attrib["aria-label"].startswith("Probability of a deal 20%.")
    assert "dp-band" in shown
    assert "dp-band" not in render("answer", "en", result(AD, complete=False))


def rows() -> list[Row]:
    ad = AD | {"title": EVIL}
    return [
        Row(2, "1", ad, answer=Answer(0.5, percentile=0.2)),
        Row(3, "=x", None, [Problem("title", "missing")]),
        Row(4, "3", AD | {"title": "Арбуз"}, answer=Answer(0.7)),
    ]


def test_the_table_has_a_row_an_ad_and_says_what_is_wrong_with_it() -> None:
    table = results_table("en", rows())
    assert table["Title"].tolist() == [EVIL, "№ =x", "Арбуз"]
    assert table["Probability, %"].tolist() == [50.0, None, 70.0]
    assert table["Remarks"].tolist() == ["", "Title: not given — no answer", ""]


def test_the_table_says_when_a_row_is_compared_with_all_ads() -> None:
    row = Row(2, "1", AD, answer=Answer(0.5, percentile=0.2))
    table = results_table("en", [row, replace(row, among_all=True)])
    assert table["Better than, %"].tolist() == [20, 20]
    assert table["Among"].tolist() == ["its category", "all ads"]


def test_a_histogram_counts_every_answer_once() -> None:
    bars, width = histogram(rows())
    assert len(bars) == BINS
    assert bars["ads"].sum() == 2
    assert width == pytest.approx(3.5)
    assert bars["probability"].iloc[-1] == pytest.approx(70 - width / 2)
    assert histogram([])[0]["ads"].sum() == 0


def test_progress_says_how_far_it_is_and_how_it_ended() -> None:
    progress = Progress(rows(), reached=1)
    assert "1 of 3 done" in render("progress", "en", progress)
    progress.finished = True
    assert "2 of 3 ads answered" in render("progress", "en", progress)


def snapshot(card: dict[str, Any] | None) -> Snapshot:
    return Snapshot(None, "flask", "7", CategoryStatistics({}), card, 1)


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_card_tells_all_it_has_and_escapes_it(language: Language) -> None:
    links = [("ZenML", "http://127.0.0.1:8237/?a=1&b=2")]
    shown = render("team", language, snapshot(CARD)) + render("links", language, links)
    assert "<script" not in shown
    assert "14" in shown
    assert 'href="http://127.0.0.1:8237/?a=1&amp;b=2"' in shown
    assert "2" in render("calibration", language, len(calibration(snapshot(CARD))), 0.05)
    well_formed(shown)


def test_calibration_and_errors_leave_out_what_was_not_measured() -> None:
    points = calibration_points("en", snapshot(CARD)).groupby("line")
    assert points.get_group("measured")["actual"].tolist() == [12.0, 25.0]
    assert points.get_group("ideal")["predicted"].tolist() == [0.0, 30.0]
    assert errors_table("en", snapshot(CARD)).to_numpy().tolist() == [[EVIL, 5, 0.3]]


def test_a_model_without_a_card_says_so() -> None:
    assert "has no card" in render("team", "en", snapshot(None))
