"""The model card's Markdown, page and files: nothing that comes in can break them."""

from __future__ import annotations

import dataclasses
import json
import re
from html import unescape
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from demand.errors import StateError
from demand.evaluation.slices import Coverage
from demand.reports.card import Card, ModelFacts, model_card, write_card
from tests.reports.card_facts import (
    PNG,
    Page,
    bare_facts,
    one_line,
    with_slice_named,
)

EVIL = '<script>alert("x")</script> | a\nb `c` *d* [e](http://evil.example) &amp; \\'


# Nothing that comes in can break it.


@pytest.fixture(scope="module")
def attacked(facts: ModelFacts) -> Card:
    """Return a card of which every text from outside is evil."""
    named = with_slice_named(facts, EVIL)
    return model_card(
        dataclasses.replace(
            named,
            compared=facts.compared.assign(name=EVIL),
            lineage={"data_file": EVIL, "git_commit": EVIL, "data_md5": EVIL, EVIL: EVIL},
            config={EVIL: {"a": EVIL, EVIL: [EVIL]}},
            metrics={**facts.metrics, EVIL: 1.0},
            data_warnings=[EVIL, f"# {EVIL}", "1. one", "---"],
            check_warnings=[f"- {EVIL}"],
            plots={EVIL: PNG, "``` \n# x": PNG},
            coverage=Coverage(0.5, {EVIL: 0.5}),
        )
    )


def test_evil_texts_add_no_tag_and_no_address(attacked: Card, facts: ModelFacts) -> None:
    page, usual = Page(attacked.html), Page(model_card(facts).html)
    assert set(page.tags) <= set(usual.tags)
    assert "a" not in page.tags
    assert all(source.startswith("data:image/png;base64,") for source in page.sources)


def test_evil_texts_add_no_heading_and_no_cell(attacked: Card, facts: ModelFacts) -> None:
    page, usual = Page(attacked.html), Page(model_card(facts).html)
    assert page.headings == usual.headings
    assert len(page.tables) == len(usual.tables)
    assert all(len(row) == len(table[0]) for table in page.tables for row in table)


def test_evil_texts_are_shown_as_they_are(attacked: Card) -> None:
    page = Page(attacked.html)
    cells = [cell for table in page.tables for row in table for cell in row]
    assert one_line(EVIL) in cells
    assert one_line(EVIL) in unescape(attacked.html)


def test_a_warning_is_one_item_whatever_it_begins_with(attacked: Card) -> None:
    items = re.findall(r"<li>(.*)</li>", attacked.html)
    for warning in (f"# {EVIL}", "1. one", "---", f"- {EVIL}"):
        assert one_line(warning) in map(unescape, items)


@settings(deadline=None)
@given(st.text(max_size=40))
def test_any_name_of_a_slice_is_one_cell_with_just_that_name(name: str) -> None:
    row = {"slice": "category_name", "value": name, "rows": 30, "rmse": 0.3}
    slices = pd.DataFrame([{**row, "mae": 0.2, "bias": 0.1, "ratio": 1.2}])
    card = model_card(dataclasses.replace(bare_facts(), slices=slices))
    (table,) = (table for table in Page(card.html).tables if table[0][0] == "slice")
    printable = re.sub(
        "[\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]", "�", one_line(name)
    )
    assert table[1][0] == f"category name: {printable}".rstrip()
    assert len(table[1]) == 6


def test_other_readers_of_markdown_see_the_same_tables(attacked: Card) -> None:
    html = MarkdownIt("gfm-like", {"linkify": False}).render(attacked.markdown)
    pages = Page(html), Page(attacked.html)
    assert pages[0].tables == pages[1].tables


# The page and the files.


@pytest.mark.parametrize("which", ["facts", "bare"])
def test_the_page_is_whole_and_loads_nothing_from_outside(
    which: str, request: pytest.FixtureRequest
) -> None:
    html = model_card(request.getfixturevalue(which)).html
    page = Page(html)
    assert page.open == []
    assert not set(page.tags) & {"script", "link", "iframe", "a"}
    assert "http://" not in html
    assert "https://" not in html
    assert re.search(r"url\(|@import", html) is None
    assert "prefers-color-scheme: dark" in html
    assert "default-src 'none'" in html


def test_plots_are_in_the_page_and_not_in_the_markdown(facts: ModelFacts) -> None:
    more = {**facts.plots, "predicted_and_actual": PNG, "another": PNG}
    card = model_card(dataclasses.replace(facts, plots=more))
    assert len(Page(card.html).sources) == len(more)
    assert "```plot" not in card.markdown
    assert card.markdown == model_card(dataclasses.replace(facts, plots={})).markdown


def test_the_same_facts_give_the_same_card(facts: ModelFacts) -> None:
    assert model_card(facts) == model_card(facts)


def test_all_three_files_are_written(facts: ModelFacts, tmp_path: Path) -> None:
    card = model_card(facts)
    page = write_card(card, tmp_path / "reports")
    assert page == tmp_path / "reports" / "model_card.html"
    assert page.read_text(encoding="utf-8") == card.html
    assert page.with_suffix(".md").read_text(encoding="utf-8") == card.markdown
    assert json.loads(page.with_name("card.json").read_text(encoding="utf-8")) == card.data
    assert len(list(page.parent.iterdir())) == 3


def test_a_name_that_is_no_unicode_can_be_written(facts: ModelFacts, tmp_path: Path) -> None:
    lineage = {"data_file": "ads\udcff.csv"}
    card = model_card(dataclasses.replace(facts, lineage=lineage))
    assert "ads�.csv" in write_card(card, tmp_path).read_text(encoding="utf-8")


def test_a_folder_that_cannot_be_written_is_named(facts: ModelFacts, tmp_path: Path) -> None:
    taken = tmp_path / "taken"
    taken.write_text("a file")
    with pytest.raises(StateError, match="taken"):
        write_card(model_card(facts), taken)
