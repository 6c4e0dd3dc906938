"""The components of the page: where they are, and the form of one ad with the ad it makes."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import gradio as gr
import pandas as pd

from demand.page.api import CategoryStatistics
from demand.page.views import COLUMNS, Language, examples, knows, text
from demand.schema.columns import COLUMN, PARAMS, REQUEST_REQUIRED

LANGUAGE = "language"
# What a visit remembers of its answers, once nobody looks at them any more, in seconds.
_STATE_S = 3600
# Of each plot: the names of its axes.
_AXES = {
    "curve": ("field.price", "table.probability"),
    "histogram": ("table.probability", "team.ads"),
    "calibration": ("team.predicted", "team.actual"),
}
# Legible on light and on dark ground.
_COLOURS = {
    "curve.line": "#0d9488", "curve.shaded": "#8b5cf6", "curve.today": "#d97706",
    "team.measured": "#0d9488", "team.ideal": "#64748b",
}  # fmt: skip
Updates = dict[Any, Any]
# Their values arrive in this order.
FIELDS = (
    "title", "description", "price", "image", "parent_category_name", "category_name", *PARAMS,
    "region", "city", "user_type",
)  # fmt: skip
# Of each list that others depend on: those, each after what it depends on itself.
DEPENDING = {
    "parent_category_name": ("category_name", *PARAMS),
    "category_name": ("parent_category_name", *PARAMS),
    "param_1": PARAMS[1:],
    "param_2": PARAMS[2:],
    "region": ("city",),
}
_LISTS = ("parent_category_name", "category_name", *PARAMS, "region", "city")
_USER_TYPES = ("Private", "Company", "Shop")
# A photo's name tells the model nothing: that there is one, does.
_PHOTO = "photo"
_DECORATION = re.compile(r"\s|₽|руб(?:лей|ля|ль)?\.?|р\.?$|rub")
# A price in roubles of which three digits are behind a sign is no fraction of one.
_THOUSANDS = re.compile(r"[0-9]{1,3}(?:[.,][0-9]{3})+")
_NUMBER = re.compile(r"-?[0-9]{1,15}(?:\.[0-9]+)?")


class Layout:
    """All that is on the page, and the states of one visit; built inside ``gr.Blocks``."""

    def __init__(self) -> None:
        with gr.Row(elem_id="head"):
            self.head = gr.HTML(elem_id="intro")
            languages = [("Русский", "ru"), ("English", "en")]
            self.language = gr.Radio(languages, value="ru", elem_id=LANGUAGE, container=False)
        self.notice = gr.HTML(elem_id="notice")
        with gr.Tabs(elem_id="tabs"):
            with gr.Tab(id="one") as self.tab_one, gr.Row(elem_id="one"):
                self._one()
            with gr.Tab(id="many") as self.tab_many:
                self._many()
            with gr.Tab(id="team") as self.tab_team:
                self._team()
        self.result = gr.State(None, time_to_live=_STATE_S)
        # What became of an ad is known later than a result is remembered.
        self.request_id = gr.State(None)
        self.pending = gr.State(False)
        self.seen = gr.State(None)
        self.file = gr.State(None, time_to_live=_STATE_S)
        # Until the first answer of the server, which knows the browser's language.
        for part, said in self.labels("ru").items():
            for name in said.keys() - {"__type__"}:
                setattr(part, name, said[name])

    def _one(self) -> None:
        with gr.Column(scale=5, min_width=300, elem_id="form"):
            self.form_head = gr.HTML()
            titles = [[example["title"]] for example in examples()]
            self.examples = gr.Dataset(
                components=[gr.Textbox(visible=False)], samples=titles, type="index",
                elem_id="examples",
            )  # fmt: skip
            self.form = Form()
            self.form_note = gr.HTML(elem_id="form-note")
            self.ask = gr.Button(variant="primary", elem_id="ask")
        with gr.Column(scale=7, min_width=300, elem_id="answers"):
            self.answer = gr.HTML(elem_id="answer")
            self.advice = gr.HTML(elem_id="advice")
            with gr.Column(visible=False, elem_id="price", elem_classes="dp-card") as self.price:
                self.curve_words = gr.HTML()
                lines: dict[str, Any] = {"color": "line", "y_lim": [0, None]}
                self.curve = _plot(gr.LinePlot, "curve", x="price", y="probability", **lines)
            card: dict[str, Any] = {"elem_id": "outcome", "elem_classes": "dp-card"}
            with gr.Column(visible=False, **card) as self.outcome:
                self.outcome_head = gr.HTML()
                with gr.Row():
                    self.sold = gr.Button(min_width=120, elem_id="sold")
                    self.not_sold = gr.Button(min_width=120, elem_id="not-sold")
                self.outcome_note = gr.HTML(elem_id="outcome-note")

    def _many(self) -> None:
        self.many_head = gr.HTML(elem_id="many-head")
        with gr.Row(elem_id="many-buttons"):
            types = [".csv", ".gz", ".zip"]
            self.upload = gr.UploadButton(file_types=types, variant="primary", elem_id="upload")
            self.stop = gr.Button(visible=False, elem_id="stop")
            self.download = gr.DownloadButton(visible=False, elem_id="download")
        self.progress = gr.HTML(elem_id="progress")
        with gr.Column(visible=False, elem_id="results") as self.results:
            with gr.Column(elem_classes="dp-card"):
                self.histogram_words = gr.HTML()
                bars = {"x": "probability", "y": "ads", "y_aggregate": "sum"}
                self.histogram = _plot(gr.BarPlot, "histogram", **bars)
            types = ["number", "str", "number", "number", "str", "number", "str", "str"]
            widths = [80, 190, 135, 100, 110, 110, 360, 260]
            self.table = _table("ads", types, 620, headers=list(COLUMNS), column_widths=widths)

    def _team(self) -> None:
        self.team = gr.HTML(elem_id="team")
        with gr.Column(visible=False) as self.measured:
            with gr.Column(elem_classes="dp-card"):
                self.calibration_words = gr.HTML(elem_id="calibration")
                lines = {"x": "predicted", "y": "actual", "color": "line"}
                self.calibration = _plot(gr.LinePlot, "calibration", **lines)
            self.errors = _table("errors", ["str", "number", "number"], 460)
        self.links = gr.HTML(elem_id="links")

    def components(self) -> list[Any]:
        """Return every component, the form's fields one by one."""
        own = [part for part in vars(self).values() if part is not self.form]
        return own + list(self.form.fields.values())

    def labels(self, language: Language) -> Updates:
        """Return tabs, buttons and labels in a language."""
        labels = {
            self.tab_one: "tab.one", self.tab_many: "tab.many", self.tab_team: "tab.team",
            self.examples: "form.examples", self.upload: "many.upload",
            self.download: "many.download", self.language: "page.language",
        }  # fmt: skip
        values = {
            self.ask: "form.ask", self.stop: "many.stop",
            self.sold: "outcome.sold", self.not_sold: "outcome.not_sold",
        }  # fmt: skip
        return {
            **{part: gr.update(label=text(language, key)) for part, key in labels.items()},
            **{part: gr.update(value=text(language, key)) for part, key in values.items()},
        }

    def plotted(
        self, language: Language, name: str, points: pd.DataFrame | None, **more: Any
    ) -> dict[str, Any]:
        """Return a plot of some points; none where there are no points."""
        x, y = _AXES[name]
        drawn = set() if points is None or "line" not in points else set(points["line"])
        colours = {text(language, line): colour for line, colour in _COLOURS.items()}
        return gr.update(
            value=points,
            visible=points is not None,
            x_title=text(language, x),
            y_title=text(language, y),
            # Only of other colours does the plot notice that there are other lines.
            color_map={line: colour for line, colour in colours.items() if line in drawn},
            **more,
        )


def _plot(kind: type[Any], name: str, **more: Any) -> Any:
    return kind(elem_id=f"plot-{name}", height=300, buttons=[], color_title=" ", **more)


def _table(name: str, types: Any, height: int, **more: Any) -> gr.Dataframe:
    shown: dict[str, Any] = {"interactive": False, "wrap": True, "max_height": height}
    return gr.Dataframe(datatype=types, elem_id=name, **shown, **more)


class Form:
    """The fields of one ad, put on the page where the caller has it built."""

    def __init__(self) -> None:
        def named(name: str) -> dict[str, Any]:
            return {"label": text("ru", f"field.{name}"), "elem_id": f"field-{name}"}

        def limited(name: str, **more: Any) -> gr.Textbox:
            return gr.Textbox(max_length=COLUMN[name].max_length, **named(name), **more)

        def choices(*names: str) -> dict[str, gr.Dropdown]:
            more: dict[str, Any] = {
                "value": None, "allow_custom_value": True, "num_choices_shown": None
            }  # fmt: skip
            with gr.Row(elem_classes="dp-pair"):
                return {
                    name: gr.Dropdown([], visible=name not in PARAMS, **named(name), **more)
                    for name in names
                }

        made: dict[str, Any] = {"title": limited("title", max_lines=1)}
        made |= choices("parent_category_name", "category_name") | choices(*PARAMS)
        made["description"] = limited("description", lines=4, max_lines=10)
        with gr.Row(elem_classes="dp-pair"):
            made["price"] = gr.Textbox(max_lines=1, **named("price"))
            made["image"] = gr.Checkbox(value=False, **named("image"))
        made |= choices("region", "city")
        types = _user_types("ru", _USER_TYPES)
        made["user_type"] = gr.Radio(types, value="", **named("user_type"))
        self.fields = {name: made[name] for name in FIELDS}

    def labels(self, language: Language, statistics: CategoryStatistics | None) -> Updates:
        """Return the labels in a language; what was typed stays."""
        updates: Updates = {
            field: gr.update(label=text(language, f"field.{name}"))
            for name, field in self.fields.items()
        }
        known = statistics.facts.get("user_types") if statistics is not None else None
        types = _user_types(language, known or _USER_TYPES)
        updates[self.fields["user_type"]]["choices"] = types
        return updates

    def offer(self, statistics: CategoryStatistics | None, ad: Mapping[str, Any]) -> Updates:
        """Return the lists to choose from, as they are with what is chosen so far.

        A list takes its own values only, but for that of cities, of which there are more;
        where the service has no lists, everything may be typed.
        """
        choices = _choices(statistics, ad)
        return {
            self.fields[name]: gr.update(
                choices=choices.get(name, []),
                visible=name in choices or name in ad,
                allow_custom_value=_is_open(name, choices),
            )
            for name in _LISTS
        }

    def after(
        self, statistics: CategoryStatistics | None, ad: Mapping[str, Any], changed: str
    ) -> Updates:
        """Return what a choice means for the fields that depend on it, and no others.

        A list says that it was changed whenever it is left, too, and answers may overtake one
        another: an empty list changes nothing, and what is still possible stays.
        """
        if statistics is None or changed not in ad:
            return {}
        chosen = dict(ad)
        depending, facts = DEPENDING[changed], statistics.category(ad[changed])
        if changed == "category_name" and facts is not None:
            chosen["parent_category_name"] = facts["parent"]
        cleared = []
        for name in depending:
            value, possible = chosen.get(name), statistics.choices(chosen).get(name, ())
            # There are more cities than those that are known.
            own = name == "city" and value not in statistics.choices({})[name]
            if value is not None and value not in possible and not own:
                del chosen[name]
                cleared.append(name)
        if changed == "parent_category_name" and "category_name" not in cleared:
            depending = ("category_name",)
        offered = self.offer(statistics, chosen)
        updates = {self.fields[name]: offered[self.fields[name]] for name in depending}
        for name in cleared:
            updates[self.fields[name]]["value"] = None
        if changed == "category_name":
            parent = self.fields["parent_category_name"]
            updates[parent]["value"] = chosen.get("parent_category_name")
        return updates

    def fill(self, statistics: CategoryStatistics | None, ad: Mapping[str, Any]) -> Updates:
        """Return the values of an ad, as far as the lists have them, and those lists."""
        shown = {**ad, "image": "image" in ad, "price": str(ad.get("price", ""))}
        choices, updates = _choices(statistics, ad), self.offer(statistics, ad)
        for name, field in self.fields.items():
            value = shown.get(name)
            known = name not in _LISTS or _is_open(name, choices) or value in choices[name]
            updates.setdefault(field, gr.update())["value"] = value if known else None
        return updates


def _choices(statistics: CategoryStatistics | None, ad: Mapping[str, Any]) -> dict[str, list[str]]:
    """Return the values of each list that there is; all are empty where the service has none."""
    return {name: [] for name in _LISTS} if statistics is None else statistics.choices(ad)


def _is_open(name: str, choices: Mapping[str, Sequence[str]]) -> bool:
    return name == "city" or not choices.get(name)


def ad_of(values: Sequence[Any]) -> dict[str, Any]:
    """Return the ad that the form's values make; what was left open is absent."""
    ad: dict[str, Any] = {}
    for name, value in zip(FIELDS, values, strict=True):
        if name == "image":
            ad["image"] = _PHOTO if value else None
        elif name == "price":
            ad["price"] = _price(value)
        else:
            ad[name] = str(value).strip() if value else None
    return {name: value for name, value in ad.items() if value not in (None, "")}


def lacking(values: Sequence[Any]) -> str | None:
    """Return the first field without which nothing can be asked, or a price that is no number."""
    written, ad = values[FIELDS.index("price")], ad_of(values)
    if str(written or "").strip() and "price" not in ad:
        return "price"
    return next((name for name in REQUEST_REQUIRED if name not in ad), None)


def _price(written: str | None) -> float | None:
    """Read a price as people write it: ``12 500 ₽``, ``12.500``, ``99,90``; None if none."""
    digits = _DECORATION.sub("", str(written or "").lower())
    if _THOUSANDS.fullmatch(digits):
        return float(digits.replace(".", "").replace(",", ""))
    plain = digits.replace(",", ".")
    return float(plain) if _NUMBER.fullmatch(plain) else None


def _user_types(language: Language, known: Sequence[str]) -> list[tuple[str, str]]:
    keys = {name: f"user.{name}" for name in known}
    named = [(text(language, key) if knows(key) else name, name) for name, key in keys.items()]
    return [*named, (text(language, "user.unknown"), "")]
