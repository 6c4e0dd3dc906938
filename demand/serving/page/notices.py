"""What the page tells about itself: troubles, remarks, and what a model is good for."""

from __future__ import annotations

from html import escape
from urllib.parse import quote

from demand.serving.page.sample import sample_csv
from demand.serving.page.source import Snapshot
from demand.serving.page.texts import Language, text
from demand.serving.page.uploads import UploadError

# Troubles that end without anybody's doing on the page.
PASSING = ("down", "slow", "busy", "no_model")


def trouble_words(language: Language, kind: str, *, pending: bool) -> str:
    """Say what is wrong with the API, what was kept, and what happens by itself."""
    words = [text(language, f"trouble.{kind}")]
    if kind in PASSING:
        words.append(text(language, "trouble.kept"))
        if pending:
            words.append(text(language, "trouble.again"))
    return " ".join(words)


def note(words: str, *, alert: bool = False, detail: str = "") -> str:
    """Return a box with some words; an alert is read out at once."""
    role = ' role="alert"' if alert else ""
    more = f"<br><small>{escape(detail)}</small>" if detail else ""
    kind = "dp-alert" if alert else "dp-note"
    return f'<div class="{kind}"{role}>{escape(words)}{more}</div>'


def file_note(language: Language, error: UploadError) -> str:
    """Say why a file was not answered."""
    words = text(language, error.key, **error.values)
    return note(words, alert=True, detail=error.detail if error.detail != error.key else "")


def form_head(language: Language, snapshot: Snapshot) -> str:
    """Return the form's heading, and what is to be known of the model that answers."""
    head = f"<h2>{escape(text(language, 'form.title'))}</h2>"
    if (snapshot.card or {}).get("demo"):
        head += note(text(language, "demo.note"))
    if snapshot.market is None and snapshot.kind is not None:
        head += note(text(language, "lists.none"))
    return head


def sample_link(language: Language) -> str:
    """Return a link that holds the example file itself."""
    content = quote("\ufeff" + sample_csv())
    return (
        f'<p><a download="example.csv" href="data:text/csv;charset=utf-8,{content}">'
        f"{escape(text(language, 'many.sample'))}</a></p>"
    )
