"""The seller's page in a real browser: a model with facts, the processes, and what one does."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import requests
from playwright.sync_api import Browser, Locator, Page, expect

from demand.config import FeatureSettings, SplitSettings, TrainingSettings
from demand.data.reading import read_ads
from demand.data.splitting import split_ads
from demand.demo import write_demo
from demand.features.category_statistics import category_statistics
from demand.features.feature_set import build_features
from demand.model.training import calibrate_intervals, calibrate_percentiles, train
from demand.registry.packaging import save_model
from demand.workspace.workspace import PROJECT_ROOT, write_json

STARTS_S = 40
# Of a table of Gradio's, without its head.
ROWS = "[role=row]:has([role=gridcell])"
CHROMIUM = Path("/usr/bin/chromium")
ARGUMENTS = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
)  # fmt: skip
CARD = {
    "format": 1, "trained": "2026-11-24", "demo": True, "size_bytes": 138_000,
    "data": {"file": "demo.csv", "md5": "0123456789abcdef" * 2, "rows": 6000, "git_commit": "abc"},
    "rows": {"train": 4300, "validation": 500, "test": 1200},
    "metrics": {"rmse": 0.2388, "rmse_low": 0.2312, "rmse_high": 0.246, "mae": 0.1628,
                "mse": 0.057, "threshold": 0.25, "baseline_rmse": 0.2646},
    "calibration": [{"predicted": p / 100, "actual": p / 105, "ads": 120} for p in range(2, 60, 6)],
    "error_by_category": [{"category": "Велосипеды", "ads": 40, "rmse": 0.31},
                          {"category": "Часы и украшения", "ads": 50, "rmse": 0.21}],
    "weaknesses": ["ads of <b>Велосипеды</b>: RMSE 30 % above that of all"],
    "data_warnings": ["price: 6 % missing"],
}  # fmt: skip


def make_model(folder: Path) -> Path:
    """Train a small model of demo ads, and save it with its market and card."""
    data = folder / "ads.csv"
    write_demo(data, 6000, 3)
    ads = read_ads(data).frame
    parts = split_ads(ads, SplitSettings(), 1)
    training, validation = ads.loc[parts.train], ads.loc[parts.validation]
    built = build_features(training, validation, FeatureSettings(), 1)
    trained = train(built, TrainingSettings(epochs_max=2), 1).predictor
    calibrated = calibrate_intervals(trained, trained, validation)
    predictor = calibrate_percentiles(calibrated, training)
    card = folder / "card"
    card.mkdir()
    write_json(card / "card.json", CARD)
    model = folder / "model"
    save_model(predictor, model, ads.head(20), card=card, market=category_statistics(ads))
    return model


class Process:
    """A server in a process group of its own, on a port that it keeps when started again."""

    def __init__(self, arguments: Sequence[str], port: int, log: Path, **variables: str) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self.port = port
        self._command = [sys.executable, "-m", *arguments, "--port", str(port)]
        self._log = log
        self._environment = {**os.environ, "OMP_NUM_THREADS": "1", **variables}
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, route: str) -> None:
        """Start it and wait until it answers."""
        with self._log.open("ab") as output:
            self.process = subprocess.Popen(
                self._command, env=self._environment, stdout=output, stderr=output,
                cwd=PROJECT_ROOT, start_new_session=True,
            )  # fmt: skip
        deadline = time.monotonic() + STARTS_S
        while True:
            try:
                if requests.get(self.url + route, timeout=5).status_code == 200:
                    return
            except requests.RequestException:
                pass
            assert self.process.poll() is None, self.log()
            assert time.monotonic() < deadline, self.log()
            time.sleep(0.05)

    def send(self, number: signal.Signals) -> None:
        """Send a signal to it and all that it started."""
        assert self.process is not None
        os.killpg(self.process.pid, number)

    def end(self, number: signal.Signals = signal.SIGTERM) -> int:
        """End it; return its exit status."""
        if self.process is None or self.process.poll() is not None:
            return 0
        self.send(number)
        return self.process.wait(30)

    def log(self) -> str:
        return self._log.read_text(encoding="utf-8")


class Seller:
    """Somebody in front of the page."""

    def __init__(self, page: Page, url: str) -> None:
        self.page = page
        self.hosts: set[str] = set()
        self.errors: list[str] = []
        page.on("request", lambda request: self._note(request.url))
        page.on("console", lambda m: self.errors.append(m.text) if m.type == "error" else None)
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("dialog", lambda dialog: self.errors.append(f"dialog {dialog.message}"))
        page.goto(url)
        page.wait_for_selector("#intro h1")
        # The lists come with the first answer of the server.
        self.field("title").wait_for()

    def _note(self, url: str) -> None:
        if url.startswith(("http", "ws")):
            self.hosts.add(url.split("/")[2])

    def field(self, name: str) -> Locator:
        return self.page.locator(f"#field-{name}").locator("input, textarea").first

    def choose(self, name: str, value: str) -> None:
        """Pick a value of a list as one does: type its beginning, take the first."""
        field = self.field(name)
        field.click()
        field.fill(value)
        self.page.get_by_role("option", name=value, exact=True).first.click()

    def type(self, text: str) -> None:
        """Type as a keyboard does; Playwright's own inserts letters that a US one lacks."""
        session = self.page.context.new_cdp_session(self.page)
        for letter in text:
            key = {"key": letter, "text": letter}
            session.send("Input.dispatchKeyEvent", {"type": "keyDown", **key})
            session.send("Input.dispatchKeyEvent", {"type": "keyUp", "key": letter})

    def wait_for_match(self, name: str, value: str) -> None:
        """Wait until the open list of a field has a value as its first match."""
        first = self.page.locator(f"#field-{name} [role=option]").first
        expect(first).to_contain_text(value, timeout=20_000)

    def wait_for_value(self, name: str, value: str) -> None:
        """Wait until a field has a value."""
        self.page.wait_for_function(
            "([name, value]) => document.querySelector(`#field-${name} input`).value === value",
            arg=[name, value],
        )

    def options(self, name: str) -> list[str]:
        self.field(name).click()
        self.page.wait_for_selector("[role=option]")
        found = self.page.locator("[role=option]").all_inner_texts()
        self.page.keyboard.press("Escape")
        return [text.replace("✓", "").strip() for text in found]

    def describe(
        self, title: str = "Велосипед", price: str = "15000", category: str = "Велосипеды"
    ) -> None:
        self.field("title").fill(title)
        self.choose("category_name", category)
        self.field("price").fill(price)

    def ask(self) -> None:
        """Press the button and wait for an answer."""
        self.page.locator("#ask").click()
        self.page.wait_for_selector("[data-test=probability]")
        self.page.wait_for_selector("#dp-curve-title")

    def ask_about_price(self, price: int) -> float:
        """Ask about another price; return seconds until all of its answer is there."""
        self.field("price").fill(str(price))
        # From the click on: until then, the browser only scrolls to the button.
        self.page.evaluate(
            "document.getElementById('ask').addEventListener('click',"
            " () => { window.asked = performance.now(); }, {once: true})"
        )
        self.page.locator("#ask").click()
        answered = self.page.wait_for_function(
            """price => {
              const now = document.querySelector('[data-test=today]');
              return now && now.textContent.split(':')[0].replace(/\\D/g, '') === String(price)
                && performance.now() - window.asked; }""",
            arg=price,
        )
        return float(answered.json_value()) / 1000

    def tab(self, number: int) -> None:
        self.page.get_by_role("tab").nth(number).click()

    def hand_in(self, file: Path) -> None:
        """Choose a file of ads."""
        self.tab(1)
        self.page.set_input_files("input[type=file]", file)

    def ads(self) -> list[list[str]]:
        """Return the cells of the rows that the table of ads shows, once it shows some."""
        rows = self.page.locator(f"#ads {ROWS}")
        rows.first.wait_for(timeout=180_000)
        cells = "row => [...row.querySelectorAll('[role=gridcell]')].map(c => c.innerText.trim())"
        found: list[list[str]] = rows.evaluate_all(f"rows => rows.map({cells})")
        return found

    def sort_by(self, head: str, direction: Literal["asc", "desc"]) -> list[float]:
        """Sort the table by a column of numbers; return those that are shown, once in order."""
        header = self.page.locator("#ads [role=columnheader]", has_text=head)
        header.hover()
        header.get_by_role("button", name="Open cell menu").click()
        self.page.get_by_role("menuitem").nth(("asc", "desc").index(direction)).click()
        header.get_by_label(f"Sorted {direction}ending").wait_for()
        # The rows in sight are drawn after the header, and not in the order of the document.
        shown = self.page.wait_for_function(
            """([column, sign]) => {
              const cells = [...document.querySelectorAll(
                `#ads [role=gridcell][aria-colindex="${column}"]`)];
              const row = cell => Number(cell.getAttribute('aria-rowindex'));
              const values = cells.sort((a, b) => row(a) - row(b)).map(c => Number(c.innerText));
              return values.length > 1 && values.every(
                (value, i) => !i || sign * (value - values[i - 1]) >= 0) && values; }""",
            arg=[header.get_attribute("aria-colindex"), 1 if direction == "asc" else -1],
        )
        found: list[float] = shown.json_value()
        return found

    def wait_for_progress(self) -> None:
        """Wait until some ads of the file are answered."""
        self.page.wait_for_function(
            "(document.querySelector('#progress progress') || {}).value > 0"
        )

    def width(self) -> int:
        return int(self.page.evaluate("document.scrollingElement.scrollWidth"))

    def shown(self, selector: str) -> str:
        return self.page.locator(selector).inner_text().replace("\u00a0", " ")


@contextmanager
def visit(
    browser: Browser, url: str, *, width: int = 1280, language: str = "ru-RU", dark: bool = False
) -> Iterator[Seller]:
    """Open the page in a browser that knows nobody."""
    context = browser.new_context(
        locale=language,
        viewport={"width": width, "height": 900},
        color_scheme="dark" if dark else "light",
        accept_downloads=True,
    )
    context.set_default_timeout(20_000)
    try:
        yield Seller(context.new_page(), url)
    finally:
        context.close()


def unnamed_controls(page: Page) -> list[str]:
    """Return what can be operated but has no name for a screen reader."""
    found: list[str] = page.evaluate(
        """() => [...document.querySelectorAll('input, textarea, select, button, [role=tab]')]
        .filter(e => e.offsetParent !== null && e.type !== 'file' && !(
          e.ariaLabel || (e.labels && [...e.labels].some(l => l.innerText.trim()))
          || e.innerText.trim() || e.getAttribute('aria-labelledby') || e.title))
        .map(e => e.outerHTML.slice(0, 200))"""
    )
    return found


def faint_texts(page: Page) -> list[tuple[str, float]]:
    """Return texts whose contrast to their ground is below 4.5, with that contrast."""
    found: list[Any] = page.evaluate(
        """() => {
        const rgb = c => (c.match(/[\\d.]+/g) || []).map(Number);
        const light = c => { const [r, g, b] = c.slice(0, 3).map(v => { v /= 255;
            return v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4; });
          return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
        const ground = e => { for (; e; e = e.parentElement) {
            const c = rgb(getComputedStyle(e).backgroundColor);
            if (c.length === 3 || c[3] === 1) return c; } return [255, 255, 255]; };
        const faint = [];
        const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
        while (walk.nextNode()) {
          const e = walk.currentNode.parentElement, words = walk.currentNode.data.trim();
          if (!words || !e.offsetParent || e.closest('button:disabled, script, style')) continue;
          const style = getComputedStyle(e);
          if (style.visibility === 'hidden' || e.getBoundingClientRect().width < 2) continue;
          const a = light(rgb(style.color)), b = light(ground(e));
          const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
          if (ratio < 4.5) faint.push([words.slice(0, 60), Math.round(ratio * 100) / 100]);
        }
        return faint; }"""
    )
    return [(str(words), float(ratio)) for words, ratio in found]
