"""The Gradio application: what happens when somebody opens the page, asks, or just waits."""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import gradio as gr

from demand.page import views
from demand.page.answers import Progress, Result, answer_many, answered
from demand.page.api import Snapshot, Source, Trouble
from demand.page.guard import Input
from demand.page.layout import DEPENDING, LANGUAGE, Layout, Updates, ad_of, lacking
from demand.page.uploads import FILE_MB_MAX, ROWS_MAX, UploadError, read_upload
from demand.page.views import Language, count, examples, knows, language_of, render, text
from demand.workspace.workspace import write_aside

_log = logging.getLogger("demand.page")
POLL_S = 3.0
# Of more visits than this, the one that was quiet for longest is forgotten.
_VISITS_MAX = 200
_ANSWERS_AT_ONCE = 8
_FILES_AT_ONCE = 2
_WAITING_MAX = 64
_QUIET: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}
# The guard has looked at the values. Of one that a list does not have, Gradio would only say
# that it is an error.
_AS_SENT: dict[str, Any] = {**_QUIET, "preprocess": False}
# Troubles that end without anybody's doing on the page.
_PASSING = ("down", "slow", "busy", "no_model")
# A progress bar that moves more often than this, in seconds, only costs time.
_SHOWN_EVERY_S = 0.3


def theme() -> gr.themes.Base:
    """Return one calm accent, and fonts of the reader's own machine only."""
    return gr.themes.Base(
        primary_hue=gr.themes.colors.teal,
        secondary_hue=gr.themes.colors.teal,
        neutral_hue=gr.themes.colors.slate,
        radius_size=gr.themes.sizes.radius_md,
        font=["system-ui", "-apple-system", "Segoe UI", "Roboto", "Noto Sans", "sans-serif"],
        font_mono=["ui-monospace", "monospace"],
    )


def create_page(source: Source, links: Sequence[tuple[str, str]], folder: Path) -> gr.Blocks:
    """Return the page that asks an API; see :class:`Handlers`."""
    page: gr.Blocks
    with gr.Blocks(
        title=text("ru", "page.title"), analytics_enabled=False, fill_width=False
    ) as page:
        page.state_session_capacity = _VISITS_MAX
        layout = Layout()
        _wired(page, layout, Handlers(source, layout, links, folder))
    page.queue(max_size=_WAITING_MAX, default_concurrency_limit=_ANSWERS_AT_ONCE, api_open=False)
    return page


def inputs(page: gr.Blocks) -> dict[int, list[Input]]:
    """Return what each event of the page takes, by its number."""

    def kind(part: Any) -> Input:
        if isinstance(part, gr.UploadButton):
            return "file"
        return "language" if part.elem_id == LANGUAGE else "value"

    events = page.fns.items()
    return {number: [*map(kind, event.inputs)] for number, event in events if event.fn is not None}


def _wired(page: gr.Blocks, on: Layout, do: Handlers) -> None:
    form, everything = list(on.form.fields.values()), on.components()
    page.load(do.opened, form, everything, **_AS_SENT)
    spoken = [on.language, on.result, on.file, on.pending]
    on.language.input(do.spoken, spoken, everything, **_AS_SENT)
    for name in DEPENDING:
        field, chosen = on.form.fields[name], do.chooser(name)
        field.input(chosen, form, form, queue=False, trigger_mode="always_last", **_AS_SENT)
    answer = [
        on.notice, on.form_note, on.answer, on.advice, on.price, on.curve_words, on.curve,
        on.outcome, on.outcome_note, on.result, on.request_id, on.pending,
    ]  # fmt: skip
    asked: dict[str, Any] = {
        "inputs": [on.language, *form], "outputs": answer, **_AS_SENT,
        "show_progress": "minimal", "show_progress_on": [on.answer],
    }  # fmt: skip
    for event in (on.ask.click, on.form.fields["title"].submit, on.form.fields["price"].submit):
        event(do.asked, **asked).then(None, js="() => window.showAnswer()", **_QUIET)
    for button, sold in ((on.sold, True), (on.not_sold, False)):
        ended, shown = partial(do.ended, sold), [on.language, on.request_id]
        button.click(ended, shown, on.outcome_note, **_AS_SENT)
    on.examples.click(do.example, [on.examples], form, queue=False, **_AS_SENT)
    model = [
        on.form_head, on.team, on.measured, on.calibration_words, on.calibration, on.errors,
    ]  # fmt: skip
    looked = [on.language, on.pending, on.seen, *form]
    changed = [*answer, *model, on.seen, *form]
    gr.Timer(POLL_S).tick(do.looked, looked, changed, queue=False, trigger_mode="once", **_AS_SENT)
    file = [
        on.progress, on.results, on.histogram_words, on.histogram, on.table, on.file, on.download,
        on.stop, on.upload,
    ]  # fmt: skip
    answering = on.upload.upload(
        do.uploaded, [on.language, on.upload], file, concurrency_limit=_FILES_AT_ONCE, **_QUIET
    )
    stopped = [on.language, on.file]
    on.stop.click(do.stopped, stopped, file, cancels=[answering], queue=False, **_AS_SENT)


@dataclass(frozen=True)
class Handlers:
    """The functions behind the page's events.

    They ask the source and update what is on the page: names and URLs of dashboards among it,
    and files to download, which are written to the folder.
    """

    source: Source
    page: Layout
    links: Sequence[tuple[str, str]]
    folder: Path

    def opened(self, request: gr.Request, *values: Any) -> Updates:
        """Show the page in the browser's language."""
        language = language_of(request.headers.get("accept-language"))
        snapshot, form = self.source.snapshot(), self.page.form
        updates = self.spoken(language, None, None, False) | {self.page.seen: _key(snapshot)}
        for field, offered in form.offer(snapshot.statistics, ad_of(values)).items():
            updates[field] |= offered
        return updates

    def spoken(
        self, language: Language, result: Result | None, file: Progress | None, pending: bool
    ) -> Updates:
        """Say everything in a language; what was typed and answered stays."""
        page, snapshot, rows = self.page, self.source.snapshot(), count(language, ROWS_MAX)
        sample = "\ufeff" + views.sample_csv()
        return {
            **page.labels(language),
            **page.form.labels(language, snapshot.statistics),
            page.form_note: "",
            page.head: render("head", language),
            page.language: gr.update(label=text(language, "page.language"), value=language),
            page.notice: self._notice(language, snapshot.trouble, pending=pending),
            page.many_head: render("many_head", language, rows, FILE_MB_MAX, sample),
            page.links: render("links", language, self.links),
            page.outcome_head: render("outcome_head", language),
            **self._model(language, snapshot),
            **self._answer(language, result),
            **self._results(language, file),
        }

    def chooser(self, name: str) -> Callable[..., Updates]:
        """Return what happens when one of the fields was chosen on which others depend."""

        def chosen(*values: Any) -> Updates:
            form, statistics = self.page.form, self.source.snapshot().statistics
            updates = form.after(statistics, ad_of(values), name)
            return updates or {form.fields["title"]: gr.skip()}

        return chosen

    def example(self, number: Any) -> Updates:
        """Fill the form in with an example that was clicked."""
        form = self.page.form
        if number not in range(len(examples())):
            return {form.fields["title"]: gr.skip()}
        return form.fill(self.source.snapshot().statistics, examples()[number])

    def asked(self, language: Language, *values: Any) -> Updates:
        """Ask about the ad, its variants and its prices in one request."""
        page, missing = self.page, lacking(values)
        if missing is not None:
            return self._refused(language, text(language, f"need.{missing}"))
        try:
            result = answered(self.source, ad_of(values))
        except Trouble as trouble:
            return self._troubled(language, trouble)
        except Exception:
            _log.exception("an ad could not be answered")
            return self._refused(language, text(language, "trouble.page"))
        return {
            page.notice: "",
            page.form_note: "",
            **self._answer(language, result),
            page.result: result,
            page.request_id: result.answer.request_id,
            page.pending: False,
        }

    def ended(self, sold: bool, language: Language, request_id: str | None) -> str:
        """Report whether the ad whose answer is shown was sold; say thanks, or why it was not kept.

        A page that was started anew no longer knows the request.
        """
        try:
            if request_id is None:
                why = text(language, "outcome.forgotten")
            else:
                self.source.client.report(request_id, sold=sold)
                kept = text(language, "outcome.sold" if sold else "outcome.not_sold")
                return render("status", language, text(language, "outcome.thanks", outcome=kept))
        except Trouble as trouble:
            why = text(language, f"trouble.{trouble.kind}")
        return render("note", language, text(language, "outcome.not_kept", why=why), True)

    def looked(self, language: Language, pending: bool, seen: Any, *values: Any) -> Updates:
        """Look how the API is, some seconds later: lists, notices and questions recover."""
        page, snapshot = self.page, self.source.snapshot()
        updates: Updates = {page.seen: _key(snapshot)}
        if _key(snapshot) != seen:
            updates[page.notice] = self._notice(language, snapshot.trouble, pending=pending)
            if seen is None or tuple(seen)[1:] != _key(snapshot)[1:]:
                updates |= self._model(language, snapshot)
                updates |= page.form.offer(snapshot.statistics, ad_of(values))
        if pending and snapshot.trouble is None:
            updates |= self.asked(language, *values)
        return updates

    def uploaded(self, language: Language, path: str | None) -> Iterator[Updates]:
        """Answer a file, and show how far it is."""
        page = self.page
        if path is None:
            yield {page.progress: ""}
            return
        yield {
            page.progress: render("status", language, text(language, "many.reading")),
            page.results: gr.update(visible=False),
            page.file: None,
            page.download: gr.update(visible=False),
            page.upload: gr.update(interactive=False),
            page.stop: gr.update(visible=True),
        }
        words, detail = "", ""
        try:
            upload = read_upload(Path(path))
            snapshot, kind = self.source.answering()
            shown = 0.0
            for progress in answer_many(upload, self.source.client, kind, snapshot.statistics):
                if progress.finished:
                    yield self._finished(language, progress)
                elif time.monotonic() - shown > _SHOWN_EVERY_S or progress.waiting:
                    shown = time.monotonic()
                    told = render("progress", language, progress)
                    yield {page.progress: told, page.file: progress}
        except UploadError as error:
            words = text(language, error.key, **error.values)
            detail = error.detail if error.detail != error.key else ""
        except Trouble as trouble:
            words = text(language, f"trouble.{trouble.kind}")
        except Exception:
            _log.exception("a file could not be answered")
            words = text(language, "trouble.page")
        # The file stays until it is old: who uploads the same one gets the same path.
        if words:
            yield {page.progress: render("note", language, words, True, detail)} | self._ready()

    def stopped(self, language: Language, file: Progress | None) -> Updates:
        """Show what was answered before somebody pressed stop."""
        if file is None:
            return {self.page.progress: ""} | self._ready()
        file.close()
        return self._finished(language, file)

    def _finished(self, language: Language, file: Progress) -> Updates:
        content = ("\ufeff" + views.results_csv(language, file.rows)).encode()
        # The same content again takes no more room.
        path = self.folder / hashlib.sha256(content).hexdigest() / "answers.csv"
        with write_aside(path) as aside:
            aside.write_bytes(content)
        return {
            **self._results(language, file),
            **self._ready(),
            self.page.file: file,
            self.page.download: gr.update(value=str(path), visible=True),
        }

    def _ready(self) -> Updates:
        """Let another file be handed in."""
        page = self.page
        return {page.upload: gr.update(interactive=True), page.stop: gr.update(visible=False)}

    def _refused(self, language: Language, words: str, detail: str = "") -> Updates:
        note = render("note", language, words, True, detail)
        return {self.page.form_note: note, self.page.pending: False}

    def _troubled(self, language: Language, trouble: Trouble) -> Updates:
        page = self.page
        if trouble.kind == "refused":
            key, words = f"field.{trouble.field}", text(language, "refused.other")
            if trouble.field and knows(key):
                words = text(language, "refused.field", field=text(language, key))
            detail = text(language, "refused.detail", detail=trouble.detail)
            return {page.notice: "", **self._refused(language, words, detail)}
        passing = trouble.kind in _PASSING
        return {
            page.notice: self._notice(language, trouble.kind, pending=passing),
            page.form_note: "",
            page.pending: passing,
        }

    def _notice(self, language: Language, trouble: str | None, *, pending: bool) -> str:
        """Say what is wrong with the API, what was kept, and what happens by itself."""
        if trouble is None:
            return ""
        keys = [f"trouble.{trouble}"]
        if trouble in _PASSING:
            keys += ["trouble.kept", "trouble.again"] if pending else ["trouble.kept"]
        return render("note", language, " ".join(text(language, key) for key in keys), True)

    def _model(self, language: Language, snapshot: Snapshot) -> Updates:
        """Return what is said of the model that answers."""
        page, card = self.page, snapshot.card or {}
        listed = snapshot.statistics is not None or snapshot.kind is None
        groups = views.calibration(snapshot)
        furthest = max((abs(predicted - actual) for predicted, actual in groups), default=0.0)
        points = views.calibration_points(language, snapshot)
        return {
            page.form_head: render("form_head", language, bool(card.get("demo")), listed),
            page.team: render("team", language, snapshot),
            page.measured: gr.update(visible=bool(card)),
            page.calibration_words: render("calibration", language, len(groups), furthest),
            page.calibration: page.plotted(language, "calibration", points),
            page.errors: gr.update(
                value=views.errors_table(language, snapshot), label=text(language, "team.errors")
            ),
        }

    def _answer(self, language: Language, result: Result | None) -> Updates:
        page, told = self.page, result is not None and result.answer.request_id is not None
        outcome = {page.outcome: gr.update(visible=told), page.outcome_note: ""}
        if result is None:
            return {
                **outcome,
                page.answer: render("empty_answer", language),
                page.advice: "",
                page.price: gr.update(visible=False),
            }
        return {
            **outcome,
            page.answer: render("answer", language, result),
            page.advice: render("advice", language, result),
            page.price: gr.update(visible=True),
            page.curve_words: render("curve", language, result),
            page.curve: page.plotted(language, "curve", views.curve_points(language, result)),
        }

    def _results(self, language: Language, file: Progress | None) -> Updates:
        page = self.page
        updates: Updates = {
            page.progress: "" if file is None else render("progress", language, file),
            page.results: gr.update(visible=file is not None and file.finished),
        }
        if file is not None and file.finished:
            bars, width = views.histogram(file.rows)
            table = views.results_table(language, file.rows[: views.ROWS_SHOWN])
            label = views.table_label(language, len(file.rows))
            updates |= {
                page.histogram_words: render("histogram", language, views.probabilities(file.rows)),
                page.histogram: page.plotted(language, "histogram", bars, x_bin=width),
                page.table: gr.update(value=table, label=label),
            }
        return updates


def _key(snapshot: Snapshot) -> tuple[str | None, int]:
    """Return what of the API's state makes a difference to what is shown."""
    return snapshot.trouble, snapshot.revision
