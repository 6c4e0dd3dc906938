"""The Gradio application: what is where on the page, and what happens when."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

import gradio as gr

from demand.serving.page.file_handlers import FileHandlers
from demand.serving.page.form import Form
from demand.serving.page.handlers import Handlers
from demand.serving.page.parts import Parts
from demand.serving.page.source import Source
from demand.serving.page.team import Link
from demand.serving.page.texts import text
from demand.serving.page.uploads import FILE_MB_MAX

POLL_S = 3.0
# Files of uploads and answers: looked through every ten minutes, deleted after an hour.
_CACHE_S = (600, 3600)
# What a visit remembers of its answers, once nobody looks at them any more.
_STATE_S = 3600
# Of more visits than this, the one that was quiet for longest is forgotten.
_VISITS_MAX = 200
_ANSWERS_AT_ONCE = 8
_FILES_AT_ONCE = 2
_WAITING_MAX = 64
_QUIET: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}
# On a phone the answer is below the form, out of sight.
_SHOWN = """() => {
  const answer = document.getElementById('answer');
  if (answer && answer.getBoundingClientRect().top > window.innerHeight * 0.6)
    answer.scrollIntoView({behavior: matchMedia('(prefers-reduced-motion: reduce)').matches
      ? 'auto' : 'smooth', block: 'start'});
}"""
# A screen reader must know which language it reads, and hear of answers when they come.
SCRIPT = """() => {
  const attend = () => {
    const spoken = document.querySelector('#intro [lang]');
    if (spoken && document.documentElement.lang !== spoken.lang) {
      document.documentElement.lang = spoken.lang;
      document.title = spoken.querySelector('h1').textContent;
    }
    for (const set of document.querySelectorAll('fieldset')) {
      const name = set.querySelector('[data-testid="block-info"]')?.textContent.trim();
      if (name && set.getAttribute('aria-label') !== name) set.setAttribute('aria-label', name);
    }
    const price = document.querySelector('#field-price input');
    if (price && price.inputMode !== 'decimal') price.inputMode = 'decimal';
    const answer = document.getElementById('answer');
    if (answer && !answer.hasAttribute('aria-live')) answer.setAttribute('aria-live', 'polite');
  };
  attend();
  new MutationObserver(attend).observe(document.body, {childList: true, subtree: true,
    characterData: true});
}"""
# The page shows pages and an order of a table that the server sorts.
_TABLE = """
let last = null;
element.addEventListener('click', (event) => {
  const button = event.target.closest('button[data-sort], button[data-page]');
  if (!button || button.disabled) return;
  const {sort, page} = button.dataset;
  last = sort ? `button[data-sort="${sort}"]` : 'nav button:not([disabled])';
  trigger('submit', {sort: sort || null, page: page === undefined ? null : Number(page)});
});
new MutationObserver(() => {
  const button = last && element.querySelector(last);
  if (button && document.activeElement === document.body) button.focus();
}).observe(element, {childList: true, subtree: true});
"""


def theme() -> gr.themes.Base:
    """Return one calm accent, and fonts of the reader's own machine only."""
    fonts = ["system-ui", "-apple-system", "Segoe UI", "Roboto", "Noto Sans", "sans-serif"]
    return gr.themes.Base(
        primary_hue=gr.themes.colors.teal,
        secondary_hue=gr.themes.colors.teal,
        neutral_hue=gr.themes.colors.slate,
        radius_size=gr.themes.sizes.radius_md,
        font=fonts,
        font_mono=["ui-monospace", "monospace"],
    )


def style() -> str:
    """Return the page's style sheet."""
    return files("demand.serving.page").joinpath("style.css").read_text(encoding="utf-8")


def create_page(source: Source, links: Sequence[Link], folder: Path) -> gr.Blocks:
    """Return the page.

    Parameters
    ----------
    source
        The API.
    links
        Names and URLs of dashboards for the team.
    folder
        Where files to download are written.
    """
    page: gr.Blocks
    with gr.Blocks(
        title=text("ru", "page.title"),
        analytics_enabled=False,
        delete_cache=_CACHE_S,
        fill_width=False,
    ) as page:
        page.state_session_capacity = _VISITS_MAX
        parts = _laid_out()
        _wired(page, parts, Handlers(source, parts, tuple(links)))
        _wired_file(parts, FileHandlers(source, parts, folder))
    page.queue(max_size=_WAITING_MAX, default_concurrency_limit=_ANSWERS_AT_ONCE, api_open=False)
    return page


def _laid_out() -> Parts:
    with gr.Row(elem_id="head"):
        head = gr.HTML(elem_id="intro")
        language = gr.Radio(
            [("Русский", "ru"), ("English", "en")],
            value="ru",
            label=text("ru", "page.language"),
            elem_id="language",
            container=False,
        )
    notice = gr.HTML(elem_id="notice")
    with gr.Tabs(elem_id="tabs"):
        with gr.Tab(text("ru", "tab.one"), id="one") as tab_one, gr.Row(elem_id="one"):
            with gr.Column(scale=5, min_width=300, elem_id="form"):
                form_head = gr.HTML()
                form = Form.build("ru")
                form_note = gr.HTML(elem_id="form-note")
                ask = gr.Button(text("ru", "form.ask"), variant="primary", elem_id="ask")
            with gr.Column(scale=7, min_width=300, elem_id="answers"):
                answer = gr.HTML(elem_id="answer")
                advice = gr.HTML(elem_id="advice")
        with gr.Tab(text("ru", "tab.many"), id="many") as tab_many:
            many_head = gr.HTML(elem_id="many-head")
            with gr.Row(elem_id="many-buttons"):
                upload = gr.UploadButton(
                    text("ru", "many.upload"),
                    file_types=[".csv", ".gz", ".zip"],
                    variant="primary",
                    elem_id="upload",
                )
                stop = gr.Button(text("ru", "many.stop"), visible=False, elem_id="stop")
                download = gr.DownloadButton(
                    text("ru", "many.download"), visible=False, elem_id="download"
                )
            progress = gr.HTML(elem_id="progress")
            table = gr.HTML(elem_id="results", js_on_load=_TABLE)
        with gr.Tab(text("ru", "tab.team"), id="team") as tab_team:
            team = gr.HTML(elem_id="team")
    return Parts(
        head=head, language=language, notice=notice, tab_one=tab_one, tab_many=tab_many,
        tab_team=tab_team, form_head=form_head, form=form, form_note=form_note, ask=ask,
        answer=answer, advice=advice, many_head=many_head, upload=upload,
        stop=stop, download=download, progress=progress, table=table, team=team,
        result=gr.State(None, time_to_live=_STATE_S), pending=gr.State(False), seen=gr.State(None),
        file=gr.State(None, time_to_live=_STATE_S),
    )  # fmt: skip


def _wired(page: gr.Blocks, parts: Parts, do: Handlers) -> None:
    form = parts.form.components()
    spoken = [parts.language, parts.result, parts.file, parts.pending]
    everything = parts.all()
    page.load(do.opened, form, everything, **_QUIET)
    parts.language.input(do.spoken, spoken, everything, **_QUIET)
    for name in Handlers.DEPENDED_ON:
        field = getattr(parts.form, name)
        field.input(do.chooser(name), form, form, queue=False, **_QUIET)
    answered = [
        parts.notice, parts.form_note, parts.answer, parts.advice, parts.result, parts.pending,
    ]  # fmt: skip
    asked: dict[str, Any] = {
        "inputs": [parts.language, *form],
        "outputs": answered,
        "api_visibility": "private",
        "show_progress": "minimal",
        "show_progress_on": [parts.answer],
    }  # fmt: skip
    for event in (parts.ask.click, parts.form.title.submit, parts.form.price.submit):
        event(do.asked, **asked).then(None, js=_SHOWN, **_QUIET)
    gr.Timer(POLL_S).tick(
        do.looked,
        [parts.language, parts.pending, parts.seen, *form],
        [*answered, parts.form_head, parts.team, parts.seen, *form],
        queue=False,
        trigger_mode="once",
        **_QUIET,
    )  # fmt: skip


def _wired_file(parts: Parts, do: FileHandlers) -> None:
    answering = parts.upload.upload(
        do.uploaded,
        [parts.language, parts.upload],
        [parts.progress, parts.table, parts.file, parts.download, parts.stop, parts.upload],
        concurrency_limit=_FILES_AT_ONCE,
        **_QUIET,
    )
    parts.stop.click(
        do.stopped, [parts.language, parts.file],
        [parts.progress, parts.table, parts.file, parts.download, parts.stop, parts.upload],
        cancels=[answering], queue=False, **_QUIET,
    )  # fmt: skip
    parts.table.submit(
        do.sorted, [parts.language, parts.file], [parts.table, parts.file], queue=False, **_QUIET
    )


MAX_UPLOAD = f"{FILE_MB_MAX}mb"
