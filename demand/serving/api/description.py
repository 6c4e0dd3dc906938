"""The API's own description: OpenAPI 3.1, made from the schema of an ad, and a page of it."""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import Any

from jinja2 import Environment

from demand import __version__
from demand.ads import INPUT_COLUMNS, REQUEST_REQUIRED, Column
from demand.serving.api.settings import ApiSettings

_ABOUT = {
    "title": "what it is about",
    "category_name": "one of Avito's categories, such as Велосипеды",
    "price": "in roubles",
    "item_seq_number": "the ad's number among its seller's",
    "activation_date": "ISO 8601",
    "user_type": "Private, Company or Shop",
    "image": "anything that is not null says that there is a photo",
    "image_top_1": "Avito's class of the photo",
    "user_id": "not used by the model",
    "item_id": "not used by the model",
}
EXAMPLE = {
    "title": "Велосипед детский, 16 дюймов",
    "description": "В хорошем состоянии, катались одно лето.",
    "price": 3500,
    "category_name": "Велосипеды",
    "city": "Самара",
}


def openapi(settings: ApiSettings) -> dict[str, Any]:
    """Return the description of all routes as an OpenAPI document."""
    ad, answer = {"$ref": "#/components/schemas/Ad"}, {"$ref": "#/components/schemas/Answer"}
    ads = {"type": "array", "items": ad, "minItems": 1, "maxItems": settings.ads}
    paths: dict[str, Any] = {
        "/predict": {
            "post": {
                "operationId": "predict",
                "summary": "How likely one ad, or each of a list, is to end in a deal",
                "requestBody": _body({"oneOf": [ad, ads]}, EXAMPLE),
                "responses": _responses(
                    {"oneOf": [answer, {"type": "array", "items": answer}]},
                    400,
                    401,
                    413,
                    415,
                    422,
                    503,
                ),
            }
        },
        "/invocations": {
            "post": {
                "operationId": "invocations",
                "summary": "MLflow's scoring protocol, passed through to the active model server",
                "requestBody": _body({"type": "object"}, {"dataframe_records": [EXAMPLE]}),
                "responses": _responses({}, 400, 401, 413, 415, 502, 503, 504),
            }
        },
        "/health": {"get": _get("health", "Whether this process lives", open_to_all=True)},
        "/ready": {"get": _get("ready", "Whether a model answers", 503, open_to_all=True)},
        "/info": {"get": _get("info", "Version, data and figures of the model", 401)},
        "/market": {"get": _get("market", "Choices and usual values of its ads", 401, 404, 503)},
        "/card": {"get": _get("card", "The model card, as data", 401, 404, 503)},
        "/metrics": {"get": _get("metrics", "Metrics for Prometheus", 401, media="text/plain")},
    }
    document: dict[str, Any] = {
        "openapi": "3.1.0",
        "info": {
            "title": "avito-demand",
            "version": __version__,
            "description": "How likely a classified ad is to end in a deal.",
        },
        "paths": paths,
        "components": {"schemas": {"Ad": _ad(), "Answer": _answer(), "Problem": _problem()}},
    }
    if settings.token is not None:
        document["components"]["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
        document["security"] = [{"token": []}]
    return document


def page(settings: ApiSettings) -> str:
    """Return a page for people; nothing in it comes from another host."""
    text: str = _template().render(document=openapi(settings), columns=_ad()["properties"])
    return text


@cache
def _template() -> Any:
    source = files("demand.serving.api").joinpath("page.html.j2").read_text(encoding="utf-8")
    return Environment(autoescape=True).from_string(source)


def _ad() -> dict[str, Any]:
    return {
        "type": "object",
        "required": list(REQUEST_REQUIRED),
        "properties": {column.name: _field(column) for column in INPUT_COLUMNS},
        "additionalProperties": False,
    }


def _field(column: Column) -> dict[str, Any]:
    kinds: dict[str, dict[str, Any]] = {
        "text": {"type": "string"},
        "number": {"type": "number"},
        "integer": {"type": "integer"},
        "date": {"type": "string", "format": "date"},
    }
    field = dict(kinds[column.kind])
    if column.max_length is not None:
        field["maxLength"] = column.max_length
    bounds = {"minimum": column.minimum, "maximum": column.maximum}
    field |= {name: bound for name, bound in bounds.items() if bound is not None}
    if column.name in REQUEST_REQUIRED:
        field |= {"minLength": 1, "pattern": r"\S"}
    else:
        field["type"] = [field["type"], "null"]
    if column.name in _ABOUT:
        field["description"] = _ABOUT[column.name]
    return field


def _answer() -> dict[str, Any]:
    share = {"type": "number", "minimum": 0, "maximum": 1}
    interval = {
        "type": ["object", "null"],
        "required": ["low", "high", "coverage"],
        "properties": {"low": share, "high": share, "coverage": share},
        "description": "where the outcome lies, with a probability of its coverage",
    }
    percentile = {
        "type": ["number", "null"],
        "minimum": 0,
        "maximum": 1,
        "description": "share of its category's ads that are less likely to end in a deal",
    }
    properties = {
        "deal_probability": share,
        "interval": interval,
        "percentile": percentile,
        "model_version": {"type": "string"},
    }
    return {"type": "object", "required": list(properties), "properties": properties}


def _problem() -> dict[str, Any]:
    properties: dict[str, Any] = {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "field": {"type": "string", "description": "the field of an ad that is wrong"},
        "row": {"type": "integer", "description": "the ad that is wrong, from 0"},
    }
    return {
        "type": "object",
        "required": ["type", "title", "status", "detail"],
        "properties": properties,
    }


def _body(schema: dict[str, Any], example: object) -> dict[str, Any]:
    media = {"application/json": {"schema": schema, "example": example}}
    return {"required": True, "content": media}


def _responses(schema: dict[str, Any], *problems: int) -> dict[str, Any]:
    problem = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
    found: dict[str, Any] = {
        "200": {"description": "answered", "content": {"application/json": {"schema": schema}}}
    }
    for status in problems:
        found[str(status)] = {"description": "a problem", "content": problem}
    return found


def _get(
    name: str,
    summary: str,
    *problems: int,
    media: str = "application/json",
    open_to_all: bool = False,
) -> dict[str, Any]:
    responses = _responses({}, *problems)
    responses["200"]["content"] = {media: {}}
    operation = {"operationId": name, "summary": summary, "responses": responses}
    return operation | ({"security": []} if open_to_all else {})
