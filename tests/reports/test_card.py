"""The model card: what it says, and what it leaves out."""

from __future__ import annotations

import dataclasses
import math
import re

import pandas as pd
import pytest

from demand.config import TrainingConfig
from demand.reports.card import ModelFacts, model_card
from demand.reports.markdown import NOT_MEASURED
from tests.reports.card_facts import COMMIT, TEST_ROWS, Page, one_line

# What it says.


@pytest.mark.parametrize(
    "part",
    [
        "trained | 2026-11-24",
        "saved model | 138.9 KB",
        "train | 2,100 | 70.0%",
        "Ads in the file: 3,007.",
        "In none of the parts below: 7;",
        "28 regions",
        f"training.learning_rate | {TrainingConfig().training.learning_rate}",
        "mean predictor |",
        "category means |",
        "the report's MLP |",
        "champion (what served before) |",
        "Expected calibration error:",
        "noise floor",
        "not for",
        "It has learnt correlations",
        "wide-and-deep MLP",
        "fitted to its optimum",
        f"on {TEST_ROWS} test ads that neither held-out fit has learnt from",
        "how the error differs by region or city",
    ],
)
def test_the_card_says(facts: ModelFacts, part: str) -> None:
    assert part.lower() in one_line(model_card(facts).markdown).lower()


def test_the_rmse_stands_with_its_interval(facts: ModelFacts) -> None:
    found = facts.metrics
    words = f"{found['rmse']:.4f} (interval: {found['rmse_low']:.4f} to {found['rmse_high']:.4f})"
    assert words in model_card(facts).markdown


def test_intervals_are_explained_where_the_config_tells(facts: ModelFacts) -> None:
    config = {"gate": {"confidence": 0.9, "bootstrap_samples": 1234}}
    told = model_card(dataclasses.replace(facts, config=config)).markdown
    assert "Intervals hold 90% of 1,234 bootstrap samples" in one_line(told)
    assert "bootstrap that draws sellers" in one_line(model_card(facts).markdown)


def test_a_difference_is_judged_by_its_interval(facts: ModelFacts) -> None:
    compared = pd.DataFrame(
        [
            {"name": "one", "rmse": 0.3, "difference": -0.1, "low": -0.2, "high": -0.05},
            {"name": "two", "rmse": 0.2, "difference": 0.0, "low": -0.1, "high": 0.1},
            {"name": "three", "rmse": 0.1, "difference": 0.1, "low": 0.05, "high": 0.2},
            {"name": "four", "rmse": 0.1, "difference": 0.1, "low": math.nan, "high": math.nan},
        ]
    )
    page = Page(model_card(dataclasses.replace(facts, compared=compared)).html)
    (table,) = (table for table in page.tables if table[0][0] == "other")
    verdicts = {row[0]: row[-1] for row in table[1:]}
    assert verdicts == {
        "one": "better",
        "two": "not clearly different",
        "three": "worse",
        "four": NOT_MEASURED,
    }


def test_a_figure_it_does_not_know_is_shown_by_its_name(facts: ModelFacts) -> None:
    more = {**facts.metrics, "pinball_loss": 0.0456, "pinball_loss_low": 0.04}
    more["pinball_loss_high"] = 0.05
    card = model_card(dataclasses.replace(facts, metrics=more))
    assert "| pinball_loss | 0.0456 (interval: 0.0400 to 0.0500) |" in card.markdown


def test_no_slice_worse_than_all_ads_is_hidden(facts: ModelFacts) -> None:
    page = Page(model_card(facts).html)
    shown = {row[0] for table in page.tables if table[0][0] == "slice" for row in table[1:]}
    bad = facts.slices[facts.slices["ratio"] > 1.0]
    assert len(bad) > 10
    for row in bad.itertuples():
        assert f"{str(row.slice).replace('_', ' ')}: {row.value}" in shown


def test_slices_are_shown_from_the_worst_and_from_the_best(facts: ModelFacts) -> None:
    page = Page(model_card(facts).html)
    worse, better = (table for table in page.tables if table[0][0] == "slice")
    assert float(worse[1][2]) == pytest.approx(facts.slices["rmse"].max(), abs=1e-4)
    assert float(better[1][2]) == pytest.approx(facts.slices["rmse"].min(), abs=1e-4)


def test_slices_left_out_are_counted(facts: ModelFacts) -> None:
    card = model_card(facts)
    page = Page(card.html)
    shown = sum(len(table) - 1 for table in page.tables if table[0][0] == "slice")
    hidden = re.search(r"\((\d+) more, better than all", one_line(card.markdown))
    assert hidden is not None
    assert shown + int(hidden[1]) == len(facts.slices)


def test_a_slice_that_was_not_measured_counts_as_bad(facts: ModelFacts) -> None:
    slices = facts.slices.copy()
    slices.loc[0, ["rmse", "ratio", "mae", "bias"]] = math.nan
    page = Page(model_card(dataclasses.replace(facts, slices=slices)).html)
    worse = next(table for table in page.tables if table[0][0] == "slice")
    assert worse[1][2:] == [NOT_MEASURED] * 4


def test_all_warnings_are_listed(facts: ModelFacts) -> None:
    card = model_card(facts).markdown
    for warning in (*facts.data_warnings, *facts.check_warnings):
        assert f"- {warning}" in card


def test_that_there_is_no_warning_is_said(bare: ModelFacts) -> None:
    card = model_card(bare).markdown
    assert "Data validation: no warning." in card
    assert "Checks of the model: no warning." in card


def test_coverage_has_the_worst_category_first(facts: ModelFacts) -> None:
    page = Page(model_card(facts).html)
    (table,) = (table for table in page.tables if table[0][0] == "parent category")
    assert table[1:] == [
        ["all test ads", "81.1%"],
        ["Транспорт", NOT_MEASURED],
        ["Услуги", "70.2%"],
    ]


# Which fit, and which data.


def test_of_a_refitted_model_the_figures_are_the_held_out_fits(facts: ModelFacts) -> None:
    card = one_line(model_card(facts).markdown)
    assert "## Errors on the test ads (held-out fit)" in card
    assert "refitted on all 3,000 ads" in card
    assert "for 2 epochs, as early stopping chose" in card
    assert "It has no test figures of its own" in card
    assert "differ on the test ads by 0.0123" in card
    assert "There is one fit" not in card


def test_of_a_model_that_was_not_refitted_the_figures_are_its_own(facts: ModelFacts) -> None:
    card = one_line(model_card(dataclasses.replace(facts, fits={"refit": False})).markdown)
    assert "There is one fit" in card
    assert f"{TEST_ROWS} test ads it had not seen" in card
    assert "## Errors on the test ads (model)" in card
    assert "held-out" not in card
    assert "erved fit" not in card


def test_demo_ads_are_named_so_at_the_top(facts: ModelFacts) -> None:
    card = model_card(dataclasses.replace(facts, demo=True)).markdown
    opening = one_line(card.split("## ")[0])
    assert "learnt from demo ads: they are generated" in opening
    assert "None of them is real." in one_line(card)
    assert "--data" not in card


def test_ads_of_a_file_are_not_called_demo_ads(facts: ModelFacts) -> None:
    card = one_line(model_card(facts).markdown)
    assert "has learnt from demo ads" not in card
    assert "not the project's demo ads" in card


@pytest.mark.parametrize(
    ("commit", "words"),
    [
        (COMMIT, "should give the same figures"),
        (f"{COMMIT}-dirty", "it alone does not give this model"),
        ("", "The commit of the code is not known"),
    ],
)
def test_how_to_make_it_again_depends_on_the_commit(
    facts: ModelFacts, commit: str, words: str
) -> None:
    lineage = {**facts.lineage, "git_commit": commit}
    card = model_card(dataclasses.replace(facts, lineage=lineage)).markdown
    assert words in card
    assert "python run.py --pipeline training --data 'my ads.csv'" in card
    assert (f"git checkout {COMMIT}\n" in card) is (commit == COMMIT)


# What is absent, and what was not measured.


def test_what_is_absent_is_left_out(bare: ModelFacts) -> None:
    card = model_card(bare).markdown
    cells = {cell.strip() for cell in re.findall(r"^\| ([^|]+)", card, re.MULTILINE)}
    assert not cells & {"trained", "saved model", "MAE", "train", "git_commit"}
    assert "Coverage" not in card
    assert "The error by slice was not measured." in card
    assert "The bins were not measured." in card
    assert "It was compared with no other model." in card
    assert "None" not in card.replace("None of", "")


@pytest.mark.parametrize("kind", ["markdown", "html"])
def test_nan_is_never_written(facts: ModelFacts, kind: str) -> None:
    numbers = ["rmse", "mae", "bias", "ratio"]
    unknown = dataclasses.replace(
        facts,
        metrics=dict.fromkeys(facts.metrics, math.nan),
        compared=facts.compared.assign(rmse=math.nan, difference=math.nan, low=math.nan),
        slices=facts.slices.assign(**dict.fromkeys(numbers, math.nan)),
        calibration=facts.calibration.iloc[:0],
        fits={"refit": True, "difference": math.nan},
    )
    text = getattr(model_card(unknown), kind)
    assert re.search(r"\bnan\b", re.sub(r"base64,\S+", "", text), re.IGNORECASE) is None
    assert NOT_MEASURED in text


def test_an_infinite_error_is_said_to_be_so(facts: ModelFacts) -> None:
    infinite = {"rmse": math.inf, "rmse_low": math.nan, "rmse_high": math.nan}
    card = model_card(dataclasses.replace(facts, metrics=infinite)).markdown
    assert f"infinite (interval: {NOT_MEASURED})" in card


def test_a_model_that_learnt_in_one_pass_is_told_so(facts: ModelFacts) -> None:
    fits = {"refit": False, "epochs": 1, "crosses": True}
    card = one_line(model_card(dataclasses.replace(facts, fits=fits)).markdown)
    assert "from one ad after the other, and from each once" in card
    assert "early stopping" not in card
