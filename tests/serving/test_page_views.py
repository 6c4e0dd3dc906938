from __future__ import annotations

from dataclasses import replace
from typing import Any
from xml.etree import ElementTree

import pytest

from demand.advice import plan
from demand.serving.page.answer import Result, answer_html, help_html, sentence, suggestion_text
from demand.serving.page.charts import Axis, bar_chart, gauge, line_chart, log_ticks, nice_ticks
from demand.serving.page.client import Answer
from demand.serving.page.many_view import View, progress_html, results_html, sorted_rows
from demand.serving.page.rows import Progress, Row
from demand.serving.page.source import Market, Snapshot
from demand.serving.page.team import team_html
from demand.serving.page.texts import LANGUAGES, Language
from demand.serving.page.uploads import Problem
from tests.test_advice import AD, FACTS

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
    shown = answer_html(language, result(ad)) + help_html(language, result(ad))
    assert "<script" not in shown
    assert "&lt;script&gt;" in shown
    well_formed(shown)


def test_the_answer_has_number_rank_interval_and_sentence() -> None:
    shown = answer_html("en", result(AD))
    assert "20%" in shown
    assert "Better than 72% of the ads in “Велосипеды”" in shown
    assert "from 0% to 40%" in shown
    assert sentence("en", result(AD)) == "Of 100 ads like this, about 20 end in a deal."


@pytest.mark.parametrize("facts", [{}, FACTS | {"ads": 29}])
def test_a_category_without_a_rank_of_its_own_is_not_named_with_one(facts: dict[str, Any]) -> None:
    shown = answer_html("en", result(AD, facts=facts))
    assert "Better than 72% of all ads" in shown
    assert "Велосипеды" not in shown
    assert "category" not in shown
    assert "Лучше, чем 72\u00a0% всех объявлений" in answer_html("ru", result(AD, facts=facts))


def test_an_interval_of_unknown_coverage_is_not_told_as_80_percent() -> None:
    told = result(AD)
    shown = answer_html("en", replace(told, answer=Answer(0.2, 0.0, 0.4)))
    assert "80%" not in shown
    assert "from 0% to 40%" not in shown


def test_the_answer_names_the_version_that_gave_it() -> None:
    assert "Version 4 of the model" in answer_html("en", result(AD))
    assert "Version" not in answer_html("en", result(AD, complete=False))


def test_of_a_model_server_only_the_probability_is_told_and_that_is_said() -> None:
    shown = answer_html("en", result(AD, complete=False))
    assert "20%" in shown
    assert "Better than" not in shown
    assert "only the probability" in shown


def test_help_has_gains_curve_and_sums() -> None:
    shown = help_html("en", result(AD))
    assert shown.count("+10.0\u00a0pp") == shown.count("<li data-kind")
    assert "now ₽15,000" in shown
    assert "Best price as the model sees it" in shown
    assert "₽2,925 – ₽6,500" in shown


def test_without_facts_it_says_why_there_is_no_curve() -> None:
    shown = help_html("en", result(AD, facts={}))
    assert "dp-plot" not in shown
    assert "no curve" in shown


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_kind_of_suggestion_has_its_words(language: Language) -> None:
    for ad in (AD, AD | {"param_1": "Горные", "price": 100.0}, {**AD, "price": None}):
        found = result({k: v for k, v in ad.items() if v is not None}).advice.suggestions
        assert found
        for suggestion in found:
            assert suggestion_text(language, suggestion, ad)


def test_a_gauge_is_one_image_with_a_description() -> None:
    drawn = well_formed(gauge(0.2, 0.0, 0.4, 'a "gauge"'))
    (svg,) = list(drawn)
    assert svg.attrib["role"] == "img"
    assert svg.attrib["aria-label"] == 'a "gauge"'
    assert "dp-band" in gauge(0.2, 0.0, 0.4, "")
    assert "dp-band" not in gauge(0.2, None, None, "")


def test_charts_are_one_image_with_a_description_each() -> None:
    x = Axis(1.0, 1000.0, ((10.0, "10 <"),), logarithmic=True)
    y = Axis(0.0, 1.0, ((0.0, "0"), (1.0, "1")))
    line = [(1.0, 0.1), (1000.0, 0.5)]
    drawn = line_chart(x, y, [("dp-line", line)], "it rises", shaded=(10.0, 100.0))
    (chart,) = list(well_formed(drawn))
    assert chart.attrib["role"] == "img"
    assert chart.attrib["aria-label"] == "it rises"
    assert 'points="0.00,90.00 100.00,50.00"' in drawn
    assert 'x="33.33" y="0" width="33.33"' in drawn
    well_formed(bar_chart(y, [1, 2], Axis(0.0, 2.0, ()), "bars"))


def test_ticks_are_round_and_cover_the_values() -> None:
    assert nice_ticks(0.27) == pytest.approx([0.0, 0.1, 0.2, 0.3])
    assert nice_ticks(0.0) == [0.0, 1.0]
    assert log_ticks(1000, 30_000) == [1000, 3000, 10_000, 30_000]
    assert len(log_ticks(1, 1e12)) <= 7
    assert log_ticks(5, 5) == [5, 5]


def rows() -> list[Row]:
    ad = AD | {"title": EVIL}
    return [
        Row(2, "1", ad, answer=Answer(0.5, percentile=0.2)),
        Row(3, "=x", None, [Problem("title", "missing")]),
        Row(4, "3", AD | {"title": "Арбуз"}, answer=Answer(0.7)),
    ]


def test_the_table_escapes_and_marks_bad_rows() -> None:
    shown = results_html("en", rows(), View())
    assert "<script" not in shown
    assert "Title: not given — no answer" in shown
    assert shown.count('class="dp-bad"') == 1
    well_formed(shown.replace("disabled>", ">"))


def test_the_table_says_when_a_row_is_compared_with_all_ads() -> None:
    row = Row(2, "1", AD, answer=Answer(0.5, percentile=0.2))
    assert "of all ads" not in results_html("en", [row], View())
    assert "20% of all ads" in results_html("en", [replace(row, among_all=True)], View())


def test_sorting_puts_rows_without_a_value_last() -> None:
    view = View().sorted_by("probability")
    assert [row.line for row in sorted_rows(rows(), view)] == [4, 2, 3]
    view = view.sorted_by("probability")
    assert [row.line for row in sorted_rows(rows(), view)] == [2, 4, 3]
    assert [row.line for row in sorted_rows(rows(), view.sorted_by("problem"))] == [3, 2, 4]
    assert view.sorted_by("evil") == view


def test_the_table_shows_one_page() -> None:
    many = [Row(i, str(i), AD, answer=Answer(i / 100)) for i in range(60)]
    shown = results_html("en", many, View(page=99))
    assert shown.count('<tr role="row"') == 1 + 10
    assert "page 3 of 3" in shown


def test_progress_says_how_far_it_is_and_how_it_ended() -> None:
    progress = Progress(rows(), reached=1)
    assert "1 of 3 done" in progress_html("en", progress)
    progress.finished = True
    assert "2 of 3 ads answered" in progress_html("en", progress)


def snapshot(card: dict[str, Any] | None) -> Snapshot:
    return Snapshot(None, "", "flask", "7", Market({}), card, 1)


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_card_tells_all_it_has_and_escapes_it(language: Language) -> None:
    shown = team_html(language, snapshot(CARD), [("ZenML", "http://127.0.0.1:8237/?a=1&b=2")])
    assert "<script" not in shown
    assert "14" in shown
    assert 'href="http://127.0.0.1:8237/?a=1&amp;b=2"' in shown
    assert "dp-ideal" in shown
    well_formed(shown)


def test_a_model_without_a_card_says_so() -> None:
    assert "has no card" in team_html("en", snapshot(None), [])
