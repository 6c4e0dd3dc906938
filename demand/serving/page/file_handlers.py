"""What happens when somebody uploads a file, stops it, or sorts its answers."""

from __future__ import annotations

import dataclasses
import logging
import tempfile
import time
from collections.abc import Iterator
from html import escape
from pathlib import Path

import gradio as gr

from demand.serving.page.client import Trouble
from demand.serving.page.form import Updates
from demand.serving.page.many import answer_many, close
from demand.serving.page.many_view import progress_html, results_html
from demand.serving.page.notices import file_note, note
from demand.serving.page.parts import File, Parts
from demand.serving.page.rows import results_csv
from demand.serving.page.source import Source, answering
from demand.serving.page.texts import Language, text
from demand.serving.page.uploads import UploadError, read_upload

_log = logging.getLogger("demand.page")
# A progress bar that moves more often than this, in seconds, only costs time.
_SHOWN_EVERY_S = 0.3


class FileHandlers:
    """The functions behind the tab of many ads.

    Parameters
    ----------
    source
        The API.
    parts
        What is on the page.
    folder
        Where files to download are written.
    """

    def __init__(self, source: Source, parts: Parts, folder: Path) -> None:
        self._source = source
        self._parts = parts
        self._folder = folder

    def uploaded(self, language: Language, path: str | None) -> Iterator[Updates]:
        """Answer a file, and show how far it is."""
        parts = self._parts
        if path is None:
            yield {parts.progress: ""}
            return
        reading = f'<p role="status">{escape(text(language, "many.reading"))}</p>'
        yield {
            parts.progress: reading,
            parts.table: "",
            parts.file: None,
            parts.download: gr.update(visible=False),
            parts.upload: gr.update(interactive=False),
            parts.stop: gr.update(visible=True),
        }
        ended: Updates = {
            parts.upload: gr.update(interactive=True),
            parts.stop: gr.update(visible=False),
        }
        try:
            upload = read_upload(Path(path))
            shown = 0.0
            snapshot = answering(self._source)
            for progress in answer_many(
                upload, self._source.client, snapshot.kind or "flask", snapshot.market
            ):
                if progress.finished:
                    yield self._finished(language, File(progress)) | ended
                elif time.monotonic() - shown > _SHOWN_EVERY_S or progress.waiting:
                    shown = time.monotonic()
                    yield {
                        parts.progress: progress_html(language, progress),
                        parts.file: File(progress),
                    }
        except UploadError as error:
            yield {parts.progress: file_note(language, error)} | ended
        except Trouble as trouble:
            words = text(language, f"trouble.{trouble.kind}")
            yield {parts.progress: note(words, alert=True)} | ended
        except Exception:
            _log.exception("a file could not be answered")
            yield {parts.progress: note(text(language, "trouble.page"), alert=True)} | ended
        # The file stays until it is old: who uploads the same one gets the same path.

    def stopped(self, language: Language, file: File | None) -> Updates:
        """Show what was answered before somebody pressed stop."""
        ended: Updates = {
            self._parts.upload: gr.update(interactive=True),
            self._parts.stop: gr.update(visible=False),
        }
        if file is None:
            return {self._parts.progress: ""} | ended
        close(file.progress)
        return self._finished(language, file) | ended

    def sorted(self, language: Language, file: File | None, event: gr.EventData) -> Updates:
        """Show the table in another order, or another page of it."""
        if file is None:
            return {self._parts.table: ""}
        data = getattr(event, "_data", None) or {}
        page = data.get("page")
        if isinstance(page, int) and not isinstance(page, bool):
            file.view = dataclasses.replace(file.view, page=page)
        else:
            file.view = file.view.sorted_by(str(data.get("sort")))
        return {
            self._parts.table: results_html(language, file.progress.rows, file.view),
            self._parts.file: file,
        }

    def _finished(self, language: Language, file: File) -> Updates:
        parts, rows = self._parts, file.progress.rows
        path = self._written("answers.csv", "\ufeff" + results_csv(language, rows))
        return {
            parts.progress: progress_html(language, file.progress),
            parts.table: results_html(language, rows, file.view),
            parts.file: file,
            parts.download: gr.update(value=str(path), visible=True),
        }

    def _written(self, name: str, content: str) -> Path:
        self._folder.mkdir(parents=True, exist_ok=True)
        path = Path(tempfile.mkdtemp(dir=self._folder)) / name
        path.write_text(content, encoding="utf-8", newline="")
        return path
