"""The model card: what a model is for, how good it is, and where it must not be trusted.

(Mitchell et al., *Model Cards for Model Reporting*, FAT* 2019.) The card is written as
Markdown, and the HTML page is rendered from that. Whatever comes from outside goes
through one escape on its way into the template, ``model_card.md.j2``, so that neither the
name of a category nor a warning can become markup.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined

from demand.evaluation.card_data import card_data
from demand.evaluation.card_tables import (
    calibration_table,
    champion_ads,
    commands,
    coverage_table,
    figures_table,
    is_clean,
    lineage_table,
    model_table,
    parts_table,
    rivals_table,
    slice_tables,
)
from demand.evaluation.evaluate import SLICE_MIN_ROWS
from demand.evaluation.facts import Coverage, Fits, ModelFacts
from demand.evaluation.figures import counted, flat, number
from demand.evaluation.markdown import (
    Markdown,
    bullets,
    code,
    escaped,
    markdown_page,
    other_plots,
    plot,
    table,
)
from demand.evaluation.reports_mlp import ReportsMLP
from demand.reference import reference
from demand.state import write_aside, write_json

__all__ = ["Card", "Coverage", "Fits", "ModelFacts", "model_card", "write_card"]

MARKDOWN_FILE = "model_card.md"
HTML_FILE = "model_card.html"
DATA_FILE = "card.json"
_TITLE = "Model card: deal probability of classified ads"


@dataclass(frozen=True)
class Card:
    """A model card in its three forms: to read, to look at, and for programs.

    ``data`` is that of :func:`demand.evaluation.card_data.card_data`.
    """

    markdown: str
    html: str
    data: dict[str, Any]


def model_card(facts: ModelFacts) -> Card:
    """Return the card of a model as Markdown, as a page that needs only itself, and as data."""
    environment = Environment(  # noqa: S701 - what it writes is Markdown; finalize escapes for that
        finalize=lambda value: value if isinstance(value, Markdown) else escaped(value),
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
    source = (files("demand.evaluation") / "model_card.md.j2").read_text(encoding="utf-8")
    template, context = environment.from_string(source), _context(facts)

    def text(plots: Mapping[str, bytes]) -> str:
        rendered = template.render(context, plots=plots, plot=plot, others=other_plots(plots))
        return re.sub(r"\n{3,}", "\n\n", rendered.strip()) + "\n"

    page = markdown_page(text(facts.plots), _TITLE, facts.plots)
    return Card(text({}), page, card_data(facts))


def write_card(card: Card, folder: Path) -> Path:
    """Write ``model_card.md``, ``model_card.html`` and ``card.json``; return the page's path.

    Raises
    ------
    StateError
        The folder cannot be written.
    """
    for name, text in ((MARKDOWN_FILE, card.markdown), (HTML_FILE, card.html)):
        with write_aside(folder / name) as temporary:
            temporary.write_text(text, encoding="utf-8")
    write_json(folder / DATA_FILE, card.data)
    return folder / HTML_FILE


def _context(facts: ModelFacts) -> dict[str, Any]:
    """Return what the template names."""
    fits, rows, epochs = facts.fits, facts.rows, facts.fits.epochs
    commit = facts.lineage.get("git_commit", "")
    days, read = sorted(reference().raw["dates"]), facts.lineage.get("data_rows", "")
    gate = facts.config.get("gate", {})
    encoder = facts.config.get("features", {}).get("text_encoder", "ngrams")
    judged = "held-out fit" if fits.refit else "model"
    return {
        **slice_tables(facts.slices),
        "title": _TITLE,
        "facts": facts,
        "judged": judged,
        "model": model_table(facts, judged),
        "read": int(read) if read.isdecimal() else 0,
        "unused": int(read) - sum(rows.values()) if read.isdecimal() and rows else 0,
        "parts": parts_table(rows),
        "regions": len(reference().regions),
        "days": (days[0], days[-1]),
        "settings": table(("setting", "value"), list(flat(facts.config)), texts=(0, 1)),
        "encoder": "" if encoder == "ngrams" else encoder,
        "test_ads": counted(rows.get("rows_test"), "test ad"),
        "all_ads": "all ads" if fits.rows is None else f"all {counted(fits.rows)}",
        "epochs": "as many epochs as" if epochs is None else f"{counted(epochs, 'epoch')}, as",
        "gate": gate if {"confidence", "bootstrap_samples"} <= gate.keys() else None,
        "figures": figures_table(facts.metrics),
        "rivals": rivals_table(facts.compared),
        "champion_ads": champion_ads(facts.metrics),
        "reports_mlp": f"baseline: {ReportsMLP.NAME}" in set(facts.compared.get("name", ())),
        "slice_min_rows": SLICE_MIN_ROWS,
        "calibration": calibration_table(facts.calibration),
        "coverage": "" if facts.coverage is None else coverage_table(facts.coverage),
        "warned": {
            "Data validation": facts.data_warnings,
            f"Checks of the {judged}": facts.check_warnings,
        },
        "lineage": lineage_table(facts.lineage),
        "commit": commit,
        "clean": is_clean(commit),
        "commands": code(list(commands(facts, commit))),
        "number": number,
        "bullets": bullets,
    }
