"""The components of the page, and what one visit remembers."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any

import gradio as gr

from demand.serving.page.form import Form
from demand.serving.page.many_view import View
from demand.serving.page.rows import Progress


@dataclass(frozen=True)
class Parts:
    """All that is on the page, and the states of one visit."""

    head: gr.HTML
    language: gr.Radio
    notice: gr.HTML
    tab_one: gr.Tab
    tab_many: gr.Tab
    tab_team: gr.Tab
    form_head: gr.HTML
    form: Form
    form_note: gr.HTML
    ask: gr.Button
    answer: gr.HTML
    advice: gr.HTML
    many_head: gr.HTML
    upload: gr.UploadButton
    stop: gr.Button
    download: gr.DownloadButton
    progress: gr.HTML
    table: gr.HTML
    team: gr.HTML
    result: gr.State
    pending: gr.State
    seen: gr.State
    file: gr.State

    def all(self) -> list[Any]:
        """Return every component, the form's fields one by one."""
        own = [getattr(self, each.name) for each in fields(self)]
        return [part for part in own if part is not self.form] + self.form.components()


@dataclass
class File:
    """A file that was answered, wholly or so far, and how it is looked at."""

    progress: Progress
    view: View = field(default_factory=View)
