"""The form of one ad: its fields, how they depend on one another, and the ad they make."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import gradio as gr

from demand.ads import COLUMN, REQUEST_REQUIRED
from demand.serving.page.source import Market
from demand.serving.page.texts import Language, knows, text

Updates = dict[Any, Any]
_USER_TYPES = ("Private", "Company", "Shop")
# A photo's name tells the model nothing: that there is one, does.
_PHOTO = "photo"
_DECORATION = re.compile(r"\s|₽|руб(?:лей|ля|ль)?\.?|р\.?$|rub")
# A price in roubles of which three digits are behind a sign is no fraction of one.
_THOUSANDS = re.compile(r"[0-9]{1,3}(?:[.,][0-9]{3})+")
_NUMBER = re.compile(r"-?[0-9]{1,15}(?:\.[0-9]+)?")
_PARAMS = ("param_1", "param_2", "param_3")


@dataclass(frozen=True)
class Form:
    """The fields, named as an ad's; their values arrive in this order."""

    title: gr.Textbox
    description: gr.Textbox
    price: gr.Textbox
    image: gr.Checkbox
    parent_category_name: gr.Dropdown
    category_name: gr.Dropdown
    param_1: gr.Dropdown
    param_2: gr.Dropdown
    param_3: gr.Dropdown
    region: gr.Dropdown
    city: gr.Dropdown
    user_type: gr.Radio

    @classmethod
    def build(cls, language: Language) -> Form:
        """Put the fields on the page, where the caller has it built."""

        def label(name: str) -> str:
            return text(language, f"field.{name}")

        def choice(name: str, *, visible: bool = True) -> gr.Dropdown:
            # What the lists do not have may be typed: a small town, or all of it where the
            # service has no lists.
            return gr.Dropdown(
                [],
                value=None,
                label=label(name),
                allow_custom_value=True,
                interactive=True,
                visible=visible,
                elem_id=f"field-{name}",
                num_choices_shown=None,
            )

        title = gr.Textbox(
            label=label("title"),
            max_length=COLUMN["title"].max_length,
            max_lines=1,
            elem_id="field-title",
        )
        with gr.Row(elem_classes="dp-pair"):
            parent, category = choice("parent_category_name"), choice("category_name")
        with gr.Row(elem_classes="dp-pair"):
            params = [choice(name, visible=False) for name in _PARAMS]
        description = gr.Textbox(
            label=label("description"),
            lines=4,
            max_lines=10,
            max_length=COLUMN["description"].max_length,
            elem_id="field-description",
        )
        with gr.Row(elem_classes="dp-pair"):
            price = gr.Textbox(label=label("price"), max_lines=1, elem_id="field-price")
            photo = gr.Checkbox(label=label("image"), value=False, elem_id="field-image")
        with gr.Row(elem_classes="dp-pair"):
            region, city = choice("region"), choice("city")
        user_type = gr.Radio(
            _user_types(language, _USER_TYPES),
            value="",
            label=label("user_type"),
            elem_id="field-user_type",
        )
        return cls(
            title,
            description,
            price,
            photo,
            parent,
            category,
            params[0],
            params[1],
            params[2],
            region,
            city,
            user_type,
        )

    def components(self) -> list[Any]:
        """Return the fields in their order."""
        return [getattr(self, field.name) for field in fields(self)]

    def speak(self, language: Language, market: Market | None) -> Updates:
        """Return the labels in a language; what was typed stays."""
        updates: Updates = {
            getattr(self, field.name): gr.update(label=text(language, f"field.{field.name}"))
            for field in fields(self)
        }
        known = tuple(market.facts.get("user_types", ())) if market is not None else ()
        updates[self.user_type] = gr.update(
            label=text(language, "field.user_type"),
            choices=_user_types(language, known or _USER_TYPES),
        )
        return updates

    def offer(self, market: Market | None, ad: Mapping[str, Any]) -> Updates:
        """Return the lists to choose from, as they are with what is chosen so far."""
        if market is None:
            free = gr.update(choices=[], visible=True)
            return {
                component: free
                for name in ("parent_category_name", "category_name", *_PARAMS, "region", "city")
                for component in [getattr(self, name)]
            }
        updates = {
            self.parent_category_name: gr.update(choices=market.parents()),
            self.category_name: gr.update(
                choices=market.categories(ad.get("parent_category_name"))
            ),
            self.region: gr.update(choices=market.regions()),
            self.city: gr.update(choices=market.cities(ad.get("region"))),
        }
        chosen: list[str | None] = []
        for name in _PARAMS:
            value = ad.get(name)
            open_so_far = all(chosen)
            choices = market.params(ad.get("category_name"), chosen) if open_so_far else []
            updates[getattr(self, name)] = gr.update(
                choices=choices, visible=bool(choices) or value is not None
            )
            chosen.append(value)
        return updates

    def after(self, market: Market | None, ad: Mapping[str, Any], changed: str) -> Updates:
        """Return what a choice means for the fields that depend on it."""
        if market is None:
            return {}
        chosen = dict(ad)
        cleared: list[str] = []
        if changed == "parent_category_name":
            within = market.categories(chosen.get("parent_category_name"))
            if chosen.get("category_name") not in within:
                cleared = ["category_name", *_PARAMS]
        elif changed == "category_name":
            cleared = list(_PARAMS)
            typed = chosen.get("category_name")
            chosen["category_name"] = market.meant(typed) if typed else None
            facts = market.category(chosen.get("category_name"))
            if facts is not None:
                chosen["parent_category_name"] = facts["parent"]
        elif changed in _PARAMS:
            cleared = list(_PARAMS[_PARAMS.index(changed) + 1 :])
        elif changed == "region" and chosen.get("city") not in market.cities(chosen.get("region")):
            cleared = ["city"]
        for name in cleared:
            chosen.pop(name, None)
        updates = self.offer(market, chosen)
        if chosen.get(changed) == ad.get(changed):
            updates.pop(getattr(self, changed), None)
        else:
            updates[getattr(self, changed)]["value"] = chosen.get(changed)
        for name in cleared:
            updates[getattr(self, name)]["value"] = None
        if changed == "category_name":
            updates[self.parent_category_name]["value"] = chosen.get("parent_category_name")
        return updates


def ad_of(values: tuple[Any, ...]) -> dict[str, Any]:
    """Return the ad that the form's values make; what was left open is absent."""
    ad: dict[str, Any] = {}
    for field, value in zip(fields(Form), values, strict=True):
        if field.name == "image":
            ad["image"] = _PHOTO if value else None
        elif field.name == "price":
            ad["price"] = _price(value)
        else:
            ad[field.name] = str(value).strip() if value else None
    return {name: value for name, value in ad.items() if value not in (None, "")}


def is_unread_price(values: tuple[Any, ...]) -> bool:
    """Say whether something was written as the price that is no number."""
    written = dict(zip((field.name for field in fields(Form)), values, strict=True))["price"]
    return bool(str(written or "").strip()) and _price(written) is None


def lacking(ad: Mapping[str, Any]) -> str | None:
    """Return the first field without which nothing can be asked, or None."""
    return next((name for name in REQUEST_REQUIRED if not ad.get(name)), None)


def _price(written: str | None) -> float | None:
    """Read a price as people write it: ``12 500 ₽``, ``12.500``, ``99,90``; None if none."""
    digits = _DECORATION.sub("", str(written or "").lower())
    if _THOUSANDS.fullmatch(digits):
        return float(digits.replace(".", "").replace(",", ""))
    plain = digits.replace(",", ".")
    return float(plain) if _NUMBER.fullmatch(plain) else None


def _user_types(language: Language, known: tuple[str, ...]) -> list[tuple[str, str]]:
    named = [(_user_type(language, name), name) for name in known]
    return [*named, (text(language, "user.unknown"), "")]


def _user_type(language: Language, name: str) -> str:
    key = f"user.{name}"
    return text(language, key) if knows(key) else name


def merged(*updates: Updates) -> Updates:
    """Return updates of which more than one may concern the same field."""
    together: Updates = {}
    for update in updates:
        for component, change in update.items():
            together[component] = {**together.get(component, {}), **change}
    return together
