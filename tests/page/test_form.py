from __future__ import annotations

import os
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import gradio as gr
import pytest
from fastapi.testclient import TestClient

from demand.page import guard, server
from demand.page.answers import answered
from demand.page.api import Answer, CategoryStatistics, Client, Kind, Snapshot, Source, Trouble
from demand.page.layout import Form, ad_of, lacking
from demand.page.server import create_app, delete_old, visitors_folder
from demand.page.views import examples

STATISTICS = CategoryStatistics(
    {
        "categories": [
            {"parent": "Личные вещи", "name": "Часы", "params": [
                {"value": "Наручные", "next": [{"value": "Кварцевые", "next": []}]}]},
            {"parent": "Хобби", "name": "Велосипеды", "params": []},
            {"parent": "Личные вещи", "name": "Часть гардероба", "params": []},
        ],
        "regions": [{"name": "Самарская", "cities": ["Самара", "Тольятти"]},
                    {"name": "Омская", "cities": ["Омск"]}],
        "user_types": ["Private", "Dealer"],
    }
)  # fmt: skip


@pytest.fixture(scope="module")
def form() -> Form:
    with gr.Blocks(analytics_enabled=False):
        return Form()


def choices(updates: dict[Any, Any], component: Any) -> list[str]:
    """Return the values that Gradio would offer: it makes pairs of some lists."""
    offered = updates[component]["choices"]
    return [choice[1] if isinstance(choice, tuple) else choice for choice in offered]


def test_the_lists_are_the_models_own(form: Form) -> None:
    updates = form.offer(STATISTICS, {})
    assert choices(updates, form.fields["parent_category_name"]) == ["Личные вещи", "Хобби"]
    assert choices(updates, form.fields["category_name"]) == [
        "Часы",
        "Велосипеды",
        "Часть гардероба",
    ]
    assert choices(updates, form.fields["region"]) == ["Самарская", "Омская"]
    assert choices(updates, form.fields["city"]) == ["Самара", "Тольятти", "Омск"]
    assert not updates[form.fields["param_1"]]["visible"]


def test_cities_depend_on_the_region(form: Form) -> None:
    updates = form.after(STATISTICS, {"region": "Омская", "city": "Самара"}, "region")
    assert choices(updates, form.fields["city"]) == ["Омск"]
    assert updates[form.fields["city"]]["value"] is None
    kept = form.after(STATISTICS, {"region": "Омская", "city": "Омск"}, "region")
    assert "value" not in kept[form.fields["city"]]


def test_params_depend_on_the_category_and_on_one_another(form: Form) -> None:
    updates = form.after(STATISTICS, {"category_name": "Часы"}, "category_name")
    assert choices(updates, form.fields["param_1"]) == ["Наручные"]
    assert updates[form.fields["parent_category_name"]]["value"] == "Личные вещи"
    assert not updates[form.fields["param_2"]]["visible"]
    ad = {"category_name": "Часы", "param_1": "Наручные"}
    assert choices(form.after(STATISTICS, ad, "param_1"), form.fields["param_2"]) == ["Кварцевые"]


def test_another_section_takes_back_what_is_not_in_it(form: Form) -> None:
    ad = {"parent_category_name": "Хобби", "category_name": "Часы", "param_1": "Наручные"}
    updates = form.after(STATISTICS, ad, "parent_category_name")
    assert choices(updates, form.fields["category_name"]) == ["Велосипеды"]
    assert updates[form.fields["category_name"]]["value"] is None
    assert updates[form.fields["param_1"]]["value"] is None


def test_lists_take_their_own_values_but_cities_others_too(form: Form) -> None:
    updates = form.offer(STATISTICS, {"category_name": "Часы"})
    for name in ("category_name", "param_1", "region"):
        assert not updates[form.fields[name]]["allow_custom_value"], name
    assert updates[form.fields["city"]]["allow_custom_value"]


def test_a_list_that_is_left_empty_takes_nothing_back(form: Form) -> None:
    # Its answer may come after that of a choice made meanwhile.
    assert form.after(STATISTICS, {}, "parent_category_name") == {}
    assert form.after(STATISTICS, {"category_name": "Часы"}, "param_1") == {}


def test_a_section_that_is_left_again_touches_no_category_and_no_param(form: Form) -> None:
    updates = form.after(
        STATISTICS, {"parent_category_name": "Личные вещи"}, "parent_category_name"
    )
    assert list(updates) == [form.fields["category_name"]]
    assert "value" not in updates[form.fields["category_name"]]


def test_a_category_that_is_left_again_keeps_its_params(form: Form) -> None:
    ad = {"category_name": "Часы", "param_1": "Наручные", "param_2": "Кварцевые"}
    updates = form.after(STATISTICS, ad, "category_name")
    assert all("value" not in updates[form.fields[name]] for name in ("param_1", "param_2"))
    other = form.after(STATISTICS, {**ad, "category_name": "Велосипеды"}, "category_name")
    assert all(other[form.fields[name]]["value"] is None for name in ("param_1", "param_2"))


def test_a_city_that_no_list_has_outlives_a_choice_of_region(form: Form) -> None:
    updates = form.after(STATISTICS, {"region": "Омская", "city": "Малая деревня"}, "region")
    assert "value" not in updates[form.fields["city"]]


@pytest.mark.parametrize("ad", examples())
def test_an_example_is_an_ad_of_which_lists_take_what_they_have(
    form: Form, ad: dict[str, Any]
) -> None:
    filled = form.fill(None, ad)
    values = [filled[field]["value"] for field in form.fields.values()]
    assert lacking(values) is None
    assert ad_of(values) == {**{k: v for k, v in ad.items() if k != "item_id"}, **photo(ad)}
    for name, update in form.fill(STATISTICS, ad).items():
        if not update.get("allow_custom_value", True):
            assert update["value"] in (None, *choices({name: update}, name))


def photo(ad: dict[str, Any]) -> dict[str, str]:
    return {"image": "photo"} if "image" in ad else {}


def test_without_lists_everything_can_be_typed(form: Form) -> None:
    updates = form.offer(None, {})
    assert updates[form.fields["param_3"]]["visible"]
    assert choices(updates, form.fields["region"]) == []
    assert updates[form.fields["category_name"]]["allow_custom_value"]
    assert form.after(None, {}, "region") == {}


def test_another_language_changes_labels_and_no_value(form: Form) -> None:
    updates = form.labels("en", STATISTICS)
    assert updates[form.fields["title"]]["label"] == "Title"
    assert all("value" not in update for update in updates.values())
    assert [value for _, value in updates[form.fields["user_type"]]["choices"]] == [
        "Private",
        "Dealer",
        "",
    ]


def test_the_form_makes_an_ad_of_what_was_filled_in() -> None:
    values = ("  Стол ", "", None, True, None, "Мебель", None, None, None, "", "Омск", "")
    assert ad_of(values) == {
        "title": "Стол", "image": "photo", "category_name": "Мебель", "city": "Омск",
    }  # fmt: skip
    assert ad_of(("x", "y", "0", False, *[None] * 8))["price"] == 0.0
    assert lacking(("x", *[None] * 11)) == "category_name"
    assert lacking(values) is None


@pytest.mark.parametrize(
    ("written", "price"),
    [("12 500 ₽", 12_500), ("12\u00a0500", 12_500), ("12.500", 12_500), ("1,300,000", 1_300_000),
     ("99,90", 99.9), ("500 руб.", 500), ("500р", 500), ("-5", -5), ("0", 0)],
)  # fmt: skip
def test_a_price_is_read_as_people_write_it(written: str, price: float) -> None:
    values = ("x", "", written, *[None] * 9)
    assert ad_of(values)["price"] == price
    assert lacking(values) == "category_name"


@pytest.mark.parametrize("written", ["дорого", "1-2", "1e5", "--1", "1" * 40, "NaN"])
def test_what_is_no_price_is_said_to_be_none(written: str) -> None:
    assert lacking(("x", "", written, *[None] * 9)) == "price"
    assert "price" not in ad_of(("x", "", written, *[None] * 9))
    assert lacking(("x", "", " ", *[None] * 9)) == "category_name"


def test_old_files_are_deleted_and_new_ones_kept(tmp_path: Path) -> None:
    old, new = tmp_path / "a" / "old.csv", tmp_path / "new.csv"
    old.parent.mkdir()
    for path in (old, new):
        path.write_text("x")
    os.utime(old, (1, 1))
    delete_old(tmp_path, 1000.0)
    assert not old.exists()
    assert new.exists()


def test_a_folder_stays_while_its_page_runs_and_what_others_left_goes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DEMAND_HOME", str(tmp_path))
    monkeypatch.setattr(server, "_SWEPT_EVERY_S", 0.01)
    left = tmp_path / "page" / "1-x" / "old.csv"
    left.parent.mkdir(parents=True)
    left.write_text("x")
    os.utime(left, (1, 1))
    with visitors_folder() as folder:
        assert folder.stat().st_mode & 0o077 == 0
        # It never looks old, to the sweepers of other pages neither.
        seen, deadline = folder.stat().st_mtime_ns, time.monotonic() + 20
        while left.exists() or folder.stat().st_mtime_ns == seen:
            assert time.monotonic() < deadline
            time.sleep(0.01)
    assert not folder.exists()


class Refusing(Client):
    """Refuses the ad in a given row of the first request, and then none, or every one."""

    def __init__(self, row: int | None, *, times: int = 1) -> None:
        super().__init__("http://127.0.0.1:1")
        self.row, self.times = row, times
        self.sizes: list[int] = []

    def answers(
        self, ads: Sequence[Mapping[str, Any]], kind: Kind, own: Iterable[int] = (0,)
    ) -> list[Answer]:
        self.sizes.append(len(ads))
        if len(self.sizes) <= self.times:
            raise Trouble("refused", "no good", field="title", row=self.row)
        return [Answer(0.2)] * len(ads)


def source(client: Client) -> Source:
    made = Source(client)
    made.snapshot = lambda **_: Snapshot(kind="flask", statistics=STATISTICS)  # type: ignore[method-assign]
    return made


@pytest.mark.parametrize("row", [3, None])
def test_a_refused_variant_leaves_the_ad_its_answer(row: int | None) -> None:
    client = Refusing(row)
    found = answered(source(client), {"title": "Часы", "category_name": "Часы"})
    assert found.answer.probability == 0.2
    assert found.advice.suggestions == ()
    assert client.sizes[0] > 1
    assert client.sizes[1:] == [1]


@pytest.mark.parametrize(("row", "times", "asked"), [(0, 1, 1), (None, 2, 2)])
def test_a_refused_ad_is_named(row: int | None, times: int, asked: int) -> None:
    client = Refusing(row, times=times)
    with pytest.raises(Trouble, match="no good"):
        answered(source(client), {"title": "Часы", "category_name": "Часы"})
    assert len(client.sizes) == asked


def test_no_upload_is_taken_where_there_is_no_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in (*server.ENVIRONMENT, "GRADIO_TEMP_DIR"):
        monkeypatch.setenv(name, "")
    app: Any = create_app(Client("http://127.0.0.1:1"), (), tmp_path)
    visitor = TestClient(app)
    file = {"files": ("ads.csv", b"title,category_name\n")}
    assert visitor.post("/gradio_api/upload", files=file).status_code == 200
    monkeypatch.setattr(guard, "FOLDER_MAX", 5)
    full = visitor.post("/gradio_api/upload", files=file)
    assert full.status_code == 507
    assert full.headers["x-frame-options"] == "DENY"
    assert visitor.get("/health").status_code == 200
