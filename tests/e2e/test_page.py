"""`demand ui` in Debian's chromium, in front of a real API that comes and goes."""

from __future__ import annotations

import csv
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect, sync_playwright

from demand.demo import write_demo
from demand.production_log.config import MonitoringConfig
from demand.production_log.store import ProductionLog
from demand.serving.http.server import free_port
from demand.workspace.workspace import PROJECT_ROOT, Workspace
from tests.e2e.page import (
    ARGUMENTS,
    CHROMIUM,
    ROWS,
    Process,
    Seller,
    faint_texts,
    make_model,
    unnamed_controls,
    visit,
)
from tests.production_log.answered import FAR_AHEAD, LONG_AGO

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(
        not CHROMIUM.exists(), reason=f"{CHROMIUM} is absent: apt-get install chromium"
    ),
]
LINES = "#plot-curve .mark-line path"
BARS = "#plot-histogram .mark-rect path"
SHOTS = PROJECT_ROOT / "reports" / "screenshots"
TOKEN = "a-token-of-the-test"
EVIL = '<img src=x onerror="alert(1)"><b>жирно</b>'
VIEWS = pytest.mark.parametrize(
    ("width", "language", "dark"),
    [(1280, "ru-RU", False), (375, "ru-RU", True), (1280, "en-US", True), (375, "en-US", False)],
)
HEADER = "item_id,title,category_name,price,description\n"
BAD = (
    "1,Велосипед горный,Велосипеды,9000,катались мало\n"
    "2,,Велосипеды,100,без заголовка\n"
    "3,Часы,Часы и украшения,12 500,цена с пробелом\n"
    "4,Стол,Мебель и интерьер,500,лишнее,поле\n"
    f'=cmd(),"{EVIL.replace(chr(34), chr(34) * 2)}",Мебель и интерьер,3000,\n'
)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def api(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    folder = tmp_path_factory.mktemp("api")
    command = ["cli.main", "api", "--model", str(model), "--model-version", "7", "--quiet"]
    started = Process(
        command, free_port(27000 + os.getpid() % 2000), folder / "api.log",
        DEMAND_HOME=str(folder), DEMAND_API_TOKEN=TOKEN,
    )  # fmt: skip
    started.start("/ready")
    yield started
    started.send(signal.SIGCONT)
    started.end()


@pytest.fixture(scope="module")
def ui(api: Process, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    folder = tmp_path_factory.mktemp("ui")
    command = ["cli.main", "ui", "--api", api.url, "--link", "MLflow=http://127.0.0.1:5000"]
    started = Process(
        command, free_port(29000 + os.getpid() % 2000), folder / "ui.log",
        DEMAND_HOME=str(folder), DEMAND_API_TOKEN=TOKEN,
    )  # fmt: skip
    started.start("/health")
    yield started
    assert started.end() == 0
    assert "Traceback" not in started.log()
    assert TOKEN not in started.log()
    assert not [path for path in (folder / "page").rglob("*") if path.is_file()]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    expect.set_options(timeout=20_000)
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(
            executable_path=str(CHROMIUM), headless=True, args=list(ARGUMENTS)
        )
        yield started
        started.close()


@pytest.fixture(autouse=True)
def api_is_up(api: Process) -> Iterator[None]:
    """Bring the API back after a test that took it away and failed."""
    yield
    assert api.process is not None
    if api.process.poll() is not None:
        api.start("/ready")


def shoot(seller: Seller, name: str, width: int, language: str, dark: bool) -> None:
    SHOTS.mkdir(parents=True, exist_ok=True)
    shade = "dark" if dark else "light"
    path = SHOTS / f"{name}-{width}-{language[:2]}-{shade}.png"
    seller.page.screenshot(path=path, full_page=True, animations="disabled")


@VIEWS
def test_an_ad_is_answered_with_all_that_helps_in_under_a_second(
    ui: Process, browser: Browser, width: int, language: str, dark: bool
) -> None:
    with visit(browser, ui.url, width=width, language=language, dark=dark) as seller:
        seller.describe("Телефон", "15 000 ₽", "Телефоны")
        seller.ask()  # what is loaded once is loaded now
        seconds = sorted(seller.ask_about_price(price) for price in (14_000, 13_000, 15_000))
        print(f"answers in {', '.join(f'{s:.2f}' for s in seconds)} s")
        assert seconds[1] < 1.0
        number = seller.shown("[data-test=probability]")
        assert re.fullmatch(r"\d+([.,]\d)? ?%", number)
        assert re.search(r"\d+ ?%", seller.shown("[data-test=percentile]"))
        assert "80" in seller.shown("[data-test=interval]")
        words = {"ru": "Из 100 таких объявлений", "en": "Of 100 ads like this"}[language[:2]]
        assert words in seller.shown(".dp-sentence")
        gauge = seller.page.locator("#answer [role=img]")
        assert number.split("%")[0].strip() in (gauge.get_attribute("aria-label") or "")
        # The curve, its best range and today's price.
        expect(seller.page.locator(LINES)).to_have_count(3)
        assert 1 <= seller.page.locator("#advice .dp-suggestions > li").count() <= 5
        assert seller.page.locator("#dp-demanded-title").is_visible()
        assert seller.width() <= width
        assert unnamed_controls(seller.page) == []
        assert faint_texts(seller.page) == []
        shoot(seller, "answer", width, language, dark)
        assert seller.hosts == {f"127.0.0.1:{ui.port}"}
        assert seller.errors == []


@VIEWS
def test_a_file_with_bad_rows_is_answered_and_they_are_marked(
    ui: Process, browser: Browser, tmp_path: Path, width: int, language: str, dark: bool
) -> None:
    data = tmp_path / "bad.csv"
    data.write_text(HEADER + BAD, encoding="utf-8")
    with visit(browser, ui.url, width=width, language=language, dark=dark) as seller:
        seller.tab(1)
        seller.page.set_input_files("input[type=file]", data)
        shown = seller.ads()
        assert len(shown) == 5
        assert sum(bool(cells[-1]) for cells in shown) == 3
        done = {"ru": "Оценено 3 из 5", "en": "3 of 5 ads answered"}[language[:2]]
        assert done in seller.shown("#progress")
        assert seller.page.locator("#ads img").count() == 0
        assert EVIL in shown[4]
        with seller.page.expect_download() as download:
            seller.page.locator("#download").click()
        with Path(download.value.path()).open(encoding="utf-8-sig", newline="") as file:
            rows = list(csv.DictReader(file))
        assert [bool(row["deal_probability"]) for row in rows] == [True, False, True, False, True]
        assert [bool(row["problem"]) for row in rows] == [False, True, True, True, False]
        assert rows[4]["item_id"] == "'=cmd()"
        assert rows[0]["suggestion_1"]
        assert seller.width() <= width
        assert unnamed_controls(seller.page) == []
        assert faint_texts(seller.page) == []
        shoot(seller, "file", width, language, dark)
        assert seller.errors == []


@VIEWS
def test_the_team_sees_the_champions_card(
    ui: Process, browser: Browser, width: int, language: str, dark: bool
) -> None:
    with visit(browser, ui.url, width=width, language=language, dark=dark) as seller:
        seller.tab(2)
        card = seller.shown("#team")
        rmse = {"ru": "0,2388 (0,2312 – 0,2460)", "en": "0.2388 (0.2312 – 0.2460)"}[language[:2]]
        for words in ("7", "2026-11-24", "demo.csv", rmse, "<b>Велосипеды</b>", "6 % missing"):
            assert words in card
        assert "10" in seller.shown("#calibration")
        seller.page.locator("#plot-calibration .mark-line path").nth(1).wait_for(state="attached")
        expect(seller.page.locator(f"#errors {ROWS}")).to_have_count(2)
        link = seller.page.get_by_role("link", name="MLflow")
        assert link.get_attribute("href") == "http://127.0.0.1:5000"
        assert seller.width() <= width
        assert faint_texts(seller.page) == []
        shoot(seller, "team", width, language, dark)


def test_lists_depend_on_one_another_and_come_from_the_model(ui: Process, browser: Browser) -> None:
    with visit(browser, ui.url) as seller:
        everywhere = seller.options("city")
        seller.choose("region", "Омская область")
        seller.page.wait_for_timeout(500)
        here = seller.options("city")
        assert 0 < len(here) < len(everywhere)
        assert not seller.page.locator("#field-param_1").is_visible()
        seller.choose("category_name", "Велосипеды")
        seller.page.locator("#field-param_1").wait_for()
        assert "Горные" in seller.options("param_1")
        assert seller.field("parent_category_name").input_value() == "Хобби и отдых"


def test_another_language_keeps_what_was_typed_and_answered(ui: Process, browser: Browser) -> None:
    with visit(browser, ui.url) as seller:
        assert seller.page.evaluate("document.documentElement.lang") == "ru"
        seller.describe("Велосипед мой", "7000")
        seller.field("description").fill("катались мало")
        seller.ask()
        number = seller.shown("[data-test=probability]").replace(" ", "").replace(",", ".")
        seller.page.get_by_label("English").check()
        seller.page.wait_for_selector("text=Will this ad sell?")
        seller.page.wait_for_function("document.documentElement.lang === 'en'")
        assert seller.page.title() == "Will this ad sell?"
        assert seller.page.get_by_label("Title", exact=True).input_value() == "Велосипед мой"
        assert seller.page.get_by_label("Description", exact=True).input_value() == "катались мало"
        assert seller.page.get_by_label("Price, ₽", exact=True).input_value() == "7000"
        assert seller.page.get_by_label("Category", exact=True).input_value() == "Велосипеды"
        assert seller.shown("[data-test=probability]") == number
        assert seller.page.locator("#ask").inner_text() == "Estimate"
        assert [t.strip() for t in seller.page.get_by_role("tab").all_inner_texts()] == [
            "One ad", "A file", "For the team",
        ]  # fmt: skip
        body = seller.page.locator("#form").inner_text() + seller.page.locator("#head").inner_text()
        # The examples are ads as their sellers wrote them.
        for russian in (seller.page.locator("#examples").inner_text(), "Русский"):
            body = body.replace(russian, "")
        assert not re.search("[а-яё]", body, re.IGNORECASE)


def test_html_in_a_description_is_shown_as_text(ui: Process, browser: Browser) -> None:
    with visit(browser, ui.url) as seller:
        for category in ("Предложение услуг", "Телефоны", "Велосипеды", "Мебель и интерьер"):
            seller.describe(EVIL, category=category)
            seller.field("description").fill(EVIL)
            seller.ask()
            seller.page.wait_for_function(
                "name => document.querySelector('[data-test=percentile]').textContent"
                ".includes(name)",
                arg=category,
            )
            quoted = seller.page.locator("#advice [data-kind=description] summary")
            if quoted.count():
                break
        quoted.click()
        assert EVIL in seller.shown("#advice .dp-asked")
        assert seller.page.locator("#advice img, #answer img, #advice b").count() == 0
        assert seller.errors == []


def test_all_of_it_can_be_done_with_the_keyboard(ui: Process, browser: Browser) -> None:
    with visit(browser, ui.url) as seller:
        keyboard = seller.page.keyboard
        seller.page.locator("body").press("Tab")

        def go_to(selector: str) -> None:
            for _ in range(40):
                if seller.page.evaluate("s => document.activeElement.matches(s)", selector):
                    return
                keyboard.press("Tab")
            raise AssertionError(f"{selector} is not reached")

        go_to("#field-title input")
        seller.type("Велосипед")
        go_to("#field-category_name input")
        seller.type("Велосипеды")
        seller.wait_for_match("category_name", "Велосипеды")
        keyboard.press("Enter")
        seller.wait_for_value("parent_category_name", "Хобби и отдых")
        go_to("#field-price input")
        width = "getComputedStyle(document.activeElement).outlineWidth"
        assert seller.page.evaluate(width) != "0px"
        keyboard.type("9000")
        keyboard.press("Enter")
        seller.page.wait_for_selector("[data-test=percentile]")
        assert "Велосипеды" in seller.shown("[data-test=percentile]")
        go_to("#ask")
        assert seller.page.get_attribute("#answer", "aria-live") == "polite"
        seller.page.get_by_role("tab").first.focus()
        keyboard.press("Tab")
        keyboard.press("Enter")
        seller.page.locator("#upload").wait_for()


def test_what_became_of_an_ad_is_kept_beside_its_answer(
    model: Path, browser: Browser, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DEMAND_LOG_URL")
    api = Process(
        ["cli.main", "api", "--model", str(model), "--model-version", "7", "--quiet"],
        free_port(35000 + os.getpid() % 1000), tmp_path / "api.log", DEMAND_HOME=str(tmp_path),
    )  # fmt: skip
    page = Process(
        ["cli.main", "ui", "--api", api.url, "--quiet"],
        free_port(api.port + 1), tmp_path / "ui.log", DEMAND_HOME=str(tmp_path),
    )  # fmt: skip
    try:
        api.start("/ready")
        page.start("/health")
        with visit(browser, page.url, language="en-US") as seller:
            sold, not_sold = (
                seller.page.get_by_role("button", name=name, exact=True)
                for name in ("Sold", "Not sold")
            )
            expect(sold).to_have_count(0)
            seller.describe("Велосипед")
            seller.ask()
            note = seller.page.locator("#outcome-note [role=status]")
            not_sold.click()
            expect(note).to_have_text("Thank you! Kept: “Not sold”.")
            # Somebody changes their mind, by the keyboard.
            sold.press("Enter")
            expect(note).to_have_text("Thank you! Kept: “Sold”.")
            assert seller.errors == []
    finally:
        page.end()
        api.end()
    log = ProductionLog(Workspace(tmp_path), MonitoringConfig())
    found = log.mature_entries(LONG_AGO, FAR_AHEAD, now=FAR_AHEAD)
    assert found["title_length"].tolist() == [len("Велосипед")]
    assert found["outcome"].tolist() == [1.0]


def test_where_no_outcomes_are_kept_that_is_said(ui: Process, browser: Browser) -> None:
    with visit(browser, ui.url) as seller:
        seller.describe()
        seller.ask()
        seller.page.get_by_role("button", name="Не продано", exact=True).click()
        seller.page.wait_for_selector("#outcome-note [role=alert]")
        assert "Не записано. Этот сервис не хранит" in seller.shown("#outcome-note")


def test_a_list_takes_the_first_match_on_enter_and_nothing_that_it_does_not_have(
    ui: Process, browser: Browser
) -> None:
    with visit(browser, ui.url) as seller:
        field = seller.field("category_name")
        field.click()
        seller.type("теле")
        seller.wait_for_match("category_name", "Телефоны")
        seller.page.keyboard.press("Enter")
        seller.wait_for_value("parent_category_name", "Бытовая электроника")
        assert field.input_value() == "Телефоны"
        field.click()
        field.fill("")
        seller.type("чепуха")
        seller.page.keyboard.press("Tab")
        seller.wait_for_value("category_name", "Телефоны")
        # There are more cities than the list has.
        seller.field("city").fill("Малая деревня")
        seller.page.keyboard.press("Enter")
        seller.wait_for_value("city", "Малая деревня")


def test_an_example_that_is_clicked_fills_the_form_in(ui: Process, browser: Browser) -> None:
    with visit(browser, ui.url, language="en-US") as seller:
        seller.page.locator("#examples").get_by_text("Велосипед горный").click()
        seller.wait_for_value("category_name", "Велосипеды")
        assert seller.field("param_1").input_value() == "Горные"
        seller.ask()
        assert "Велосипеды" in seller.shown("[data-test=percentile]")


def test_what_is_missing_is_said_beside_the_form(ui: Process, browser: Browser) -> None:
    with visit(browser, ui.url) as seller:
        seller.page.locator("#ask").click()
        seller.page.wait_for_selector("#form-note [role=alert]")
        assert "заголовок" in seller.shown("#form-note")


def test_a_value_that_the_api_refuses_is_named_in_the_users_words(
    ui: Process, browser: Browser
) -> None:
    with visit(browser, ui.url) as seller:
        seller.describe(price="-5")
        seller.page.locator("#ask").click()
        seller.page.wait_for_selector("#form-note [role=alert]")
        assert "Поле «Цена, ₽»" in seller.shown("#form-note")
        assert seller.field("price").input_value() == "-5"
        seller.field("price").fill("5000")
        seller.ask()
        expect(seller.page.locator("#form-note [role=alert]")).to_have_count(0)


def test_an_api_that_dies_and_comes_back_costs_nothing_that_was_typed(
    api: Process, ui: Process, browser: Browser
) -> None:
    with visit(browser, ui.url) as seller:
        seller.describe("Велосипед горный", "8000")
        api.end(signal.SIGKILL)
        seller.page.locator("#ask").click()
        seller.page.wait_for_selector("#notice [role=alert]")
        assert "недоступен" in seller.shown("#notice")
        assert "осталось на месте" in seller.shown("#notice")
        shoot(seller, "api-down", 1280, "ru", dark=False)
        assert seller.field("title").input_value() == "Велосипед горный"
        api.start("/ready")
        # By itself: the answer to the question that was asked, and no more notice.
        seller.page.wait_for_selector("[data-test=probability]", timeout=15_000)
        seller.page.wait_for_selector("#notice [role=alert]", state="detached")
        assert seller.field("title").input_value() == "Велосипед горный"
        assert seller.field("price").input_value() == "8000"


def test_a_page_that_was_opened_without_an_api_gets_its_lists_later(
    api: Process, browser: Browser, tmp_path: Path
) -> None:
    api.end(signal.SIGKILL)
    page = Process(
        ["cli.main", "ui", "--api", api.url, "--quiet"],
        free_port(31000 + os.getpid() % 1000), tmp_path / "ui.log",
        DEMAND_HOME=str(tmp_path), DEMAND_API_TOKEN=TOKEN,
    )  # fmt: skip
    try:
        page.start("/health")
        with visit(browser, page.url, language="en-US") as seller:
            seller.page.wait_for_selector("#notice [role=alert]")
            assert "cannot be reached" in seller.shown("#notice")
            seller.field("title").fill("Велосипед")
            api.start("/ready")
            seller.page.wait_for_selector("#notice [role=alert]", state="detached", timeout=15_000)
            assert "Велосипеды" in seller.options("category_name")
            assert seller.field("title").input_value() == "Велосипед"
    finally:
        page.end()


def test_an_api_that_hangs_is_said_to_be_slow(api: Process, ui: Process, browser: Browser) -> None:
    with visit(browser, ui.url, language="en-US") as seller:
        seller.describe("Велосипед", "8000")
        seller.ask()
        api.send(signal.SIGSTOP)
        try:
            seller.page.locator("#ask").click()
            seller.page.wait_for_selector("#notice :text('longer than usual')")
        finally:
            api.send(signal.SIGCONT)
        seller.page.wait_for_selector("#notice [role=alert]", state="detached", timeout=15_000)
        assert seller.field("price").input_value() == "8000"


def test_a_file_goes_on_where_it_was_when_the_api_comes_back(
    api: Process, ui: Process, browser: Browser, tmp_path: Path
) -> None:
    data = tmp_path / "ads.csv"
    write_demo(data, 4000, 11)
    with visit(browser, ui.url) as seller:
        seller.hand_in(data)
        seller.wait_for_progress()
        api.end(signal.SIGKILL)
        seller.page.wait_for_selector("#progress [role=alert]")
        assert "продолжим" in seller.shown("#progress")
        api.start("/ready")
        assert seller.ads()
        assert "Оценено 4 000 из 4 000" in seller.shown("#progress")


def test_ten_thousand_ads_are_answered_while_their_progress_is_shown(
    ui: Process, browser: Browser, tmp_path: Path
) -> None:
    data = tmp_path / "ads.csv"
    write_demo(data, 10_000, 5)
    with visit(browser, ui.url) as seller:
        seller.tab(1)
        seller.page.set_input_files("input[type=file]", data)
        seller.page.wait_for_function(
            "(() => { const p = document.querySelector('#progress progress');"
            " return p && p.value > 0 && p.value < p.max; })()"
        )
        seller.ads()
        expect(seller.page.locator(BARS)).to_have_count(20)
        seller.page.get_by_text("Первые 1 000 объявлений из 10 000").wait_for()
        least = seller.sort_by("Вероятность", "asc")[0]
        assert seller.sort_by("Вероятность", "desc")[0] > 5 * least


def test_a_file_that_is_stopped_keeps_what_was_answered(
    ui: Process, browser: Browser, tmp_path: Path
) -> None:
    data = tmp_path / "ads.csv"
    write_demo(data, 10_000, 6)
    with visit(browser, ui.url) as seller:
        seller.hand_in(data)
        seller.wait_for_progress()
        seller.page.locator("#stop").click()
        assert seller.ads()
        answered = re.search(r"Оценено ([\d ]+) из 10 000", seller.shown("#progress"))
        assert answered is not None
        assert 0 < int(answered[1].replace(" ", "")) < 10_000
        seller.page.locator("#stop").wait_for(state="hidden")
        assert seller.page.locator("#upload").is_enabled()


def test_a_model_server_gives_the_probability_alone_and_that_is_said(
    model: Path, browser: Browser, tmp_path: Path
) -> None:
    port = free_port(33000 + os.getpid() % 1000)
    server = Process(["demand.serving.model_server", str(model)], port, tmp_path / "server.log")
    page = Process(
        ["cli.main", "ui", "--api", f"{server.url}/invocations", "--quiet"],
        free_port(port + 1), tmp_path / "ui.log", DEMAND_HOME=str(tmp_path),
    )  # fmt: skip
    try:
        server.start("/ping")
        page.start("/health")
        with visit(browser, page.url, language="en-US") as seller:
            seller.describe()
            seller.ask()
            assert "only the probability" in seller.shown("#answer")
            assert seller.page.locator("[data-test=percentile]").count() == 0
            assert seller.page.locator("#sold, #not-sold").count() == 0
            expect(seller.page.locator(LINES)).to_have_count(3)
    finally:
        page.end()
        server.end()


def test_nothing_of_gradio_is_offered_and_no_secret_leaves(ui: Process, browser: Browser) -> None:
    with visit(browser, ui.url) as seller:
        assert seller.page.locator("footer a, footer button").count() == 0
        assert TOKEN not in seller.page.content()
        config = seller.page.evaluate("window.gradio_config")
        assert not config.get("analytics_enabled")
        assert not config.get("is_space")
        assert TOKEN not in str(config)
        answer = seller.page.request.get(f"{ui.url}/gradio_api/file=/etc/hostname")
        assert answer.status in (403, 404)


def test_a_port_that_is_taken_is_named(ui: Process, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "cli.main", "ui", "--port", str(ui.port)]
    environment = {**os.environ, "DEMAND_HOME": str(tmp_path)}
    run = subprocess.run(
        command, env=environment, capture_output=True, text=True, cwd=PROJECT_ROOT, timeout=60
    )
    assert run.returncode == 1
    assert f"cannot listen on 127.0.0.1:{ui.port}" in run.stderr
    assert "Traceback" not in run.stderr


def test_help_of_all_commands_loads_no_gradio() -> None:
    code = "import sys, cli.main; cli.main.parser(); sys.exit('gradio' in sys.modules)"
    assert (
        subprocess.run([sys.executable, "-c", code], cwd=PROJECT_ROOT, timeout=60).returncode == 0
    )
