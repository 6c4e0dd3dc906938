"""What happens when somebody opens the page, asks, changes the language, or just waits."""

from __future__ import annotations

import logging
from collections.abc import Callable
from html import escape
from typing import Any, ClassVar

import gradio as gr

from demand.advice import plan
from demand.serving.page.answer import Result, answer_html, help_html
from demand.serving.page.client import Trouble
from demand.serving.page.form import Updates, ad_of, is_unread_price, lacking, merged
from demand.serving.page.many_view import progress_html, results_html
from demand.serving.page.notices import (
    PASSING,
    form_head,
    note,
    sample_link,
    trouble_words,
)
from demand.serving.page.parts import File, Parts
from demand.serving.page.source import Snapshot, Source, answering
from demand.serving.page.team import Link, team_html
from demand.serving.page.texts import Language, count, knows, language_of, text
from demand.serving.page.uploads import FILE_MB_MAX, ROWS_MAX

_log = logging.getLogger("demand.page")


class Handlers:
    """The functions behind the page's events.

    Parameters
    ----------
    source
        The API.
    parts
        What is on the page.
    links
        Of dashboards.
    """

    DEPENDED_ON: ClassVar[tuple[str, ...]] = (
        "parent_category_name", "category_name", "param_1", "param_2", "region",
    )  # fmt: skip

    def __init__(self, source: Source, parts: Parts, links: tuple[Link, ...]) -> None:
        self._source = source
        self._parts = parts
        self._links = links

    def opened(self, request: gr.Request, *values: Any) -> Updates:
        """Show the page in the browser's language."""
        language = language_of(request.headers.get("accept-language"))
        snapshot = self._source.snapshot()
        return {
            **self._words(language, snapshot, None, None),
            **merged(
                self._parts.form.speak(language, snapshot.market),
                self._parts.form.offer(snapshot.market, ad_of(values)),
            ),
            self._parts.seen: _key(snapshot),
        }

    def spoken(
        self, language: Language, result: Result | None, file: File | None, pending: bool
    ) -> Updates:
        """Say everything in another language; what was typed and answered stays."""
        snapshot = self._source.snapshot()
        return {
            **self._words(language, snapshot, result, file, pending=pending),
            **self._parts.form.speak(language, snapshot.market),
            self._parts.form_note: "",
        }

    def chooser(self, name: str) -> Callable[..., Updates]:
        """Return what happens when one of the fields was chosen on which others depend."""

        def chosen(*values: Any) -> Updates:
            market = self._source.snapshot().market
            updates = self._parts.form.after(market, ad_of(values), name)
            return updates or {self._parts.form.title: gr.skip()}

        return chosen

    def asked(self, language: Language, *values: Any) -> Updates:
        """Ask about the ad, its variants and its prices in one request."""
        parts = self._parts
        ad = self._found(ad_of(values))
        missing = "price" if is_unread_price(values) else lacking(ad)
        if missing is not None:
            words = text(language, f"need.{missing}")
            return {parts.form_note: note(words, alert=True), parts.pending: False}
        try:
            result = self._result(ad)
        except Trouble as trouble:
            return self._troubled(language, trouble)
        except Exception:
            _log.exception("an ad could not be answered")
            words = text(language, "trouble.page")
            return {parts.form_note: note(words, alert=True), parts.pending: False}
        return {
            parts.notice: "",
            parts.form_note: "",
            parts.answer: answer_html(language, result),
            parts.advice: help_html(language, result),
            parts.result: result,
            parts.pending: False,
        }

    def looked(self, language: Language, pending: bool, seen: Any, *values: Any) -> Updates:
        """Look how the API is, some seconds later: lists, notices and questions recover."""
        parts = self._parts
        snapshot = self._source.snapshot()
        updates: Updates = {parts.seen: seen}
        if _key(snapshot) != seen:
            updates = {
                parts.seen: _key(snapshot),
                parts.notice: self._notice(language, snapshot, pending=pending),
            }
            if seen is None or tuple(seen)[1:] != _key(snapshot)[1:]:
                updates[parts.form_head] = form_head(language, snapshot)
                updates[parts.team] = team_html(language, snapshot, self._links)
                updates |= parts.form.offer(snapshot.market, ad_of(values))
        if pending and snapshot.trouble is None:
            updates |= self.asked(language, *values)
        return updates

    def _found(self, ad: dict[str, Any]) -> dict[str, Any]:
        """Return the ad with the category that was meant by what was typed."""
        market = self._source.snapshot().market
        if market is None or "category_name" not in ad:
            return ad
        return ad | {"category_name": market.meant(ad["category_name"])}

    def _result(self, ad: dict[str, Any]) -> Result:
        snapshot = self._source.snapshot()
        if snapshot.kind is None:
            snapshot = answering(self._source)
        kind = snapshot.kind or "flask"
        facts = snapshot.market.category(ad["category_name"]) if snapshot.market else None
        asked = plan(ad, facts)
        try:
            answers = self._source.client.answers(asked.ads, kind)
        except Trouble as trouble:
            if trouble.kind != "refused" or trouble.row == 0:
                raise
            # A change of ours was refused, or all of them together: the ad itself may be good.
            asked = asked.alone()
            answers = self._source.client.answers(asked.ads, kind)
        advice = asked.read([answer.probability for answer in answers])
        return Result(ad, answers[0], advice, facts, complete=kind == "flask")

    def _troubled(self, language: Language, trouble: Trouble) -> Updates:
        parts = self._parts
        if trouble.kind == "refused":
            key = f"field.{trouble.field}"
            words = text(language, "refused.other")
            if trouble.field and knows(key):
                words = text(language, "refused.field", field=text(language, key))
            detail = text(language, "refused.detail", detail=trouble.detail)
            told = note(words, alert=True, detail=detail)
            return {parts.form_note: told, parts.notice: "", parts.pending: False}
        passing = trouble.kind in PASSING
        words = trouble_words(language, trouble.kind, pending=passing)
        return {
            parts.notice: note(words, alert=True),
            parts.form_note: "",
            parts.pending: passing,
        }

    def _words(
        self,
        language: Language,
        snapshot: Snapshot,
        result: Result | None,
        file: File | None,
        *,
        pending: bool = False,
    ) -> Updates:
        """Return all that is said on the page, but for the form's fields."""
        parts = self._parts
        empty = f'<p class="dp-card dp-empty">{escape(text(language, "answer.empty"))}</p>'
        many = text(language, "many.intro", rows=count(language, ROWS_MAX), megabytes=FILE_MB_MAX)
        rows = file.progress.rows if file is not None and file.progress.finished else []
        return {
            parts.head: f'<div lang="{language}"><h1>{escape(text(language, "page.title"))}</h1>'
            f"<p>{escape(text(language, 'page.intro'))}</p></div>",
            parts.language: gr.update(label=text(language, "page.language"), value=language),
            parts.notice: self._notice(language, snapshot, pending=pending),
            parts.tab_one: gr.update(label=text(language, "tab.one")),
            parts.tab_many: gr.update(label=text(language, "tab.many")),
            parts.tab_team: gr.update(label=text(language, "tab.team")),
            parts.form_head: form_head(language, snapshot),
            parts.ask: gr.update(value=text(language, "form.ask")),
            parts.answer: answer_html(language, result) if result else empty,
            parts.advice: help_html(language, result) if result else "",
            parts.many_head: f"<h2>{escape(text(language, 'many.title'))}</h2>"
            f"<p>{escape(many)}</p>{sample_link(language)}",
            parts.upload: gr.update(label=text(language, "many.upload")),
            parts.stop: gr.update(value=text(language, "many.stop")),
            parts.download: gr.update(label=text(language, "many.download")),
            parts.progress: progress_html(language, file.progress if file else None),
            parts.table: results_html(language, rows, file.view) if file else "",
            parts.team: team_html(language, snapshot, self._links),
        }

    def _notice(self, language: Language, snapshot: Snapshot, *, pending: bool) -> str:
        if snapshot.trouble is None:
            return ""
        return note(trouble_words(language, snapshot.trouble, pending=pending), alert=True)


def _key(snapshot: Snapshot) -> tuple[str | None, int]:
    """Return what of the API's state makes a difference to what is shown."""
    return snapshot.trouble, snapshot.revision
