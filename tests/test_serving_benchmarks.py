"""The serving benchmarks measure what they say, and no answer fails while models change."""

from __future__ import annotations

import http.server
import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from benchmarks import batch, overload, resilience, serving
from benchmarks.overload import Overload
from benchmarks.report import Finding, Grid, asked_and_found
from benchmarks.resilience import KILL, LOCK, ROLLBACK, SWITCH, Happened, Journal, wrong_answers
from benchmarks.servers.installation import (
    INVOCATIONS,
    PREDICT,
    Installation,
    Server,
    body_for,
    new_ads,
    temporary_installation,
)
from benchmarks.servers.load import COLUMNS, Load, steady_load, wrk
from benchmarks.serving import (
    ADS,
    BEFORE,
    EMPTY,
    FIGURES,
    FLASK,
    LATENCY,
    MEMORY,
    MODEL_SERVER,
    RATE,
    START,
    UNLOGGED,
    Measured,
    in_turn,
)
from demand.errors import ServingError


class Echo(http.server.BaseHTTPRequestHandler):
    """Answers as the API or as a model server, with a status that the test chooses."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1
    statuses: list[int]
    bodies: list[bytes]

    def do_POST(self) -> None:
        self.bodies.append(self.rfile.read(int(self.headers["Content-Length"])))
        status = self.statuses.pop(0) if len(self.statuses) > 1 else self.statuses[0]
        if status == 200 and self.path == PREDICT:
            said: dict[str, object] = {"deal_probability": 0.5, "model_version": "1"}
        else:
            said = {"predictions": [0.5]} if status == 200 else {"detail": "no"}
        answer = json.dumps(said).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(answer)))
        self.send_header("demand-model-version", "1")
        if status == 503:
            self.send_header("Retry-After", "1")
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_: object) -> None:
        pass


class EchoServer(http.server.ThreadingHTTPServer):
    """Says nothing of connections that the client breaks at its end."""

    daemon_threads = True

    def handle_error(self, *_: object) -> None:
        pass


@pytest.fixture
def echo() -> Iterator[tuple[str, type[Echo]]]:
    """A server's address, and what it answers and was sent."""
    handler = type("Handler", (Echo,), {"statuses": [200], "bodies": []})
    with EchoServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}", handler
        server.shutdown()
        thread.join()


PARTS = [[{"title": "ё"}], [{"title": "b"}]]


def journal(rows: list[tuple[object, ...]], events: list[Happened] | None = None) -> Journal:
    """Requests of path, second of the answer, and perhaps a failure."""
    told = [
        (path, 0, ended, ended, 503 if failure else 200, "1", 0.5, *(failure or [None]))
        for path, ended, *failure in rows
    ]
    return Journal({"date": "today"}, pd.DataFrame(told, columns=COLUMNS), events or [])


def measured(flask_ms: float = 0.5, before: bool = False, **others: float) -> Measured:
    """Two rounds of each figure, all as asked."""
    found = {
        LATENCY: {MODEL_SERVER: 1.0, FLASK: flask_ms, EMPTY: 2.0},
        RATE: {MODEL_SERVER: 100.0, FLASK: 300.0, EMPTY: 50.0},
        ADS: {MODEL_SERVER: 15e3, FLASK: 14e3, EMPTY: 20e3},
        MEMORY: {MODEL_SERVER: 315.0, FLASK: 200.0, EMPTY: 400.0},
        START: {MODEL_SERVER: 2.0, FLASK: 1.0, EMPTY: 4.0},
    }
    rows = []
    for figure in FIGURES:
        of_servers = found.get(figure, found[LATENCY])
        for server, value in {**of_servers, UNLOGGED: of_servers[FLASK]}.items():
            old = before and server in (MODEL_SERVER, FLASK)
            names = [server, server + BEFORE] if old else [server]
            rows += [(figure, name, n, others.get(name, value)) for name in names for n in (0, 1)]
    return Measured({}, pd.DataFrame(rows, columns=["figure", "server", "round", "found"]))


def test_all_bodies_are_sent_in_turn_and_all_answers_counted(echo) -> None:
    address, handler = echo
    found = wrk(address + PREDICT, PARTS, 2, 1)
    assert found.statuses.keys() == {200}
    assert 0 <= len(handler.bodies) - found.statuses[200] <= 2
    assert {json.loads(body)["title"] for body in handler.bodies} == {"ё", "b"}
    assert 0 < found.p50_s <= found.p99_s < 1
    assert found.per_second == pytest.approx(found.statuses[200] / found.seconds)


def test_refusals_are_counted_and_say_when_to_come_again(echo) -> None:
    address, handler = echo
    handler.statuses = [503] * 5 + [200]
    found = wrk(address + PREDICT, PARTS, 2, 1, all_good=False)
    assert (found.statuses[503], found.retry_after, found.lost) == (5, 5, 0)


@pytest.mark.parametrize(("statuses", "path"), [([503, 200], PREDICT), ([200], "/other")])
def test_an_answer_that_is_none_stops_the_measurement(echo, statuses: list[int], path: str) -> None:
    address, handler = echo
    handler.statuses = statuses
    with pytest.raises(ServingError, match="does not answer all"):
        wrk(address + path, PARTS, 1, 1)


def test_a_server_that_is_not_there_is_an_error() -> None:
    with pytest.raises(ServingError, match=r"127\.0\.0\.1:1"):
        wrk("http://127.0.0.1:1/predict", PARTS, 1, 1)


def test_without_wrk_its_installation_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(ServingError, match="apt-get install wrk"):
        wrk("http://127.0.0.1:1/predict", PARTS, 1, 1)


def test_a_steady_load_asks_when_due_and_tells_what_became_of_it(echo) -> None:
    address, handler = echo
    handler.statuses = [503, 200]
    with steady_load(address, new_ads(3), {PREDICT: 40.0, INVOCATIONS: 20.0}) as (start, stop):
        time.sleep(max(0.0, start + 1.0 - time.monotonic()))
        found = stop()
    assert list(found.columns) == list(COLUMNS)
    counts = found["path"].value_counts()
    assert 35 <= counts[PREDICT] <= 45
    assert 15 <= counts[INVOCATIONS] <= 25
    assert found["failure"].notna().sum() == 1
    assert found["failure"].dropna().item() == "status 503: no"
    assert (found["ended"] > found["due"]).all()
    assert set(found["version"].dropna()) == {"1"}
    assert found["probability"].dropna().eq(0.5).all()


def test_a_request_without_an_answer_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    with steady_load("http://127.0.0.1:1", new_ads(1), {PREDICT: 10.0}) as (start, stop):
        time.sleep(max(0.0, start + 0.3 - time.monotonic()))
        found = stop()
    assert len(found) > 1
    assert set(found["status"]) == {0}
    assert found["failure"].str.contains("Connection refused").all()


def test_a_route_is_sent_what_it_understands() -> None:
    ads = new_ads(20)
    assert all(None not in ad.values() for ad in ads)
    assert body_for(PREDICT, ads[:1]) == ads[0]
    assert body_for(PREDICT, ads) == ads
    assert body_for(INVOCATIONS, ads[:1]) == {"dataframe_records": ads[:1]}


def test_nobody_always_comes_first() -> None:
    assert "".join(name for _, name in in_turn("abc", 3)) == "abcbcacab"
    assert [number for number, _ in in_turn("abc", 3)] == [0, 0, 0, 1, 1, 1, 2, 2, 2]


@pytest.mark.parametrize(
    ("found", "at_most", "passed"),
    [(1.0, True, True), (1.1, True, False), (1.0, False, True), (0.9, False, False)],
)
def test_a_figure_passes_in_its_direction(found: float, at_most: bool, passed: bool) -> None:
    finding = Finding("latency", found, 1.0, at_most)
    assert finding.passed is passed
    (row,) = asked_and_found([finding]).rows
    assert row[-1] == ("pass" if passed else "MISSED")


@pytest.mark.parametrize("at_most", [True, False])
def test_what_is_no_number_passes_nothing(at_most: bool) -> None:
    assert not Finding("latency", float("nan"), 1.0, at_most).passed


def test_a_table_has_the_same_cells_everywhere() -> None:
    grid = Grid("T", {"": "", "n": ",.1f", "m": "n"}, [("a", 1234.56, 0.12345), ("b", None, 5)])
    assert grid.markdown()[4:6] == ["| a | 1,234.6 | 0.123 |", "| b | – | 5 |"]
    assert grid.records()[0] == {"": "a", "n": 1234.56, "m": 0.12345}
    assert Grid("T", {"n": ""}, [(float("nan"),)]).records() == [{"n": None}]


def test_all_that_was_asked_is_judged() -> None:
    assert [finding.passed for finding in measured().findings()] == [True] * 9
    slow = [finding.figure for finding in measured(flask_ms=0.6).findings() if not finding.passed]
    assert slow == [f"{LATENCY}: {FLASK} / {MODEL_SERVER}"]


def test_servers_are_judged_beside_those_before() -> None:
    assert [finding.passed for finding in measured(before=True).findings()] == [True] * 13
    other = measured(before=True, **{FLASK + BEFORE: 301.0})
    missed = [finding.figure for finding in other.findings() if not finding.passed]
    assert missed == [f"{RATE}: {FLASK} / {FLASK + BEFORE}"]


def test_serving_results_are_written(tmp_path: Path) -> None:
    written = measured(flask_ms=0.6).to_report().write(tmp_path)
    assert "MISSED" in written.read_text()
    tables = json.loads((tmp_path / "serving.json").read_text())["tables"]
    assert [each["passed"] for each in tables["Asked and found"]].count("MISSED") == 1
    assert tables["Side by side"][0][FLASK] == 0.6


def test_a_gap_lies_between_answers_of_one_route() -> None:
    times = {PREDICT: (1.0, 1.1, 1.6, 1.7), INVOCATIONS: (1.0, 3.0, 3.5)}
    found = journal([(path, time) for path in times for time in times[path]])
    assert found.gap_s(PREDICT) == pytest.approx(0.5)
    assert found.gap_s(INVOCATIONS) == pytest.approx(2.0)


def test_a_failure_fills_no_gap() -> None:
    found = journal([(PREDICT, 1.0), (PREDICT, 2.0, "status 503"), (PREDICT, 4.0)])
    assert found.gap_s(PREDICT) == pytest.approx(3.0)


def test_a_gap_is_of_the_event_in_which_it_mostly_lay() -> None:
    events = [Happened(KILL, "killed", begun, begun) for begun in (2.0, 4.0, 5.0)]
    found = journal([(PREDICT, time) for time in (1.0, 1.9, 4.1, 4.2)], events)
    assert found.gap_s(PREDICT, 0) == pytest.approx(2.2)
    assert found.gap_s(PREDICT, 1) == pytest.approx(0.1)
    assert np.isnan(found.gap_s(PREDICT, 2))


def test_failures_are_told_by_cause_and_event() -> None:
    events = [Happened(KILL, "killed", 1.0, 2.0), Happened(SWITCH, "switched", 3.0, 4.0)]
    requests: list[tuple[object, ...]] = [
        (PREDICT, 0.5),
        (INVOCATIONS, 1.5, "status 503"),
        (INVOCATIONS, 3.5, "status 503"),
        (INVOCATIONS, 3.6),
    ]
    found = journal(requests, events)
    assert found.failures().rows == [[f"{INVOCATIONS}: status 503", 2, 1.5, 3.5, "killed"]]
    assert [found.failed(PREDICT), found.failed(INVOCATIONS)] == [0, 2]
    assert found.failed(INVOCATIONS, SWITCH, ROLLBACK) == 1
    assert [each.passed for each in found.findings()] == [True, False, True]


def test_a_route_without_answers_passes_nothing() -> None:
    assert [each.passed for each in journal([(PREDICT, 1.0)]).findings()] == [False] * 3


def test_an_answer_is_wrong_if_it_is_of_another_version_than_it_names() -> None:
    rows = [
        (PREDICT, ad, 0.0, 1.0, 200, version, probability, None)
        for ad, version, probability in [(0, "1", 0.1), (1, "1", 0.2), (0, "2", 0.1), (0, "3", 0.1)]
    ]
    rows.append((PREDICT, 0, 0.0, 1.0, 503, None, None, "status 503"))
    found = pd.DataFrame(rows, columns=COLUMNS)
    assert wrong_answers(found, {"1": [0.1, 0.2], "2": [0.3, 0.4]}) == 2


def test_resilience_results_are_written(tmp_path: Path) -> None:
    requests: list[tuple[object, ...]] = [(PREDICT, 1.0), (INVOCATIONS, 2.0, "status 503")]
    found = journal(requests, [Happened(KILL, "killed", 1.5, 2.5)])
    written = found.to_report().write(tmp_path)
    assert "/invocations: status 503" in written.read_text()
    routes = json.loads((tmp_path / "resilience.json").read_text())["tables"]["Requests"]
    assert [(each["route"], each["failed"]) for each in routes] == [(PREDICT, 0), (INVOCATIONS, 1)]


@pytest.mark.parametrize("switches", [1, 2, 10])
def test_all_kinds_of_events_are_mixed(switches: int) -> None:
    events = resilience.events_of(switches)
    counts = {kind: events.count(kind) for kind in (SWITCH, ROLLBACK, KILL, LOCK)}
    assert counts == {SWITCH: switches, ROLLBACK: 2, KILL: 2, LOCK: 1}
    # A rollback needs a champion before the present one.
    assert SWITCH in events[: events.index(ROLLBACK)]


def test_an_installation_leaves_nothing_behind() -> None:
    with temporary_installation() as installation:
        (installation.folder / "file").touch()
    assert not installation.folder.exists()


def test_another_checkout_must_be_one(tmp_path: Path) -> None:
    with pytest.raises(ServingError, match="no checkout of this project"):
        Installation(tmp_path, tmp_path)


def test_a_program_that_ends_is_told_with_what_it_said(tmp_path: Path) -> None:
    (tmp_path / "run.py").write_text("raise SystemExit('no ads here')")
    with pytest.raises(ServingError, match="no ads here"):
        Installation(tmp_path, tmp_path).train()


def test_memory_is_that_of_all_processes_that_are_still_there() -> None:
    import psutil

    gone = psutil.Popen(["true"])
    gone.wait()
    own = Server("", lambda: [psutil.Process(), gone], 0.0).resident_mb()
    assert own > 10


@pytest.mark.parametrize("program", [serving, resilience, overload])
def test_help_has_examples(program, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        program.main(["--help"])
    assert ended.value.code == 0
    said = capsys.readouterr().out
    assert f"{program.__name__} --seconds" in said


def test_ads_of_a_long_file_come_again_from_the_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batch, "_DIFFERENT", 10)
    batch.write_ads(tmp_path / "many.csv", 25)
    ids = pd.read_csv(tmp_path / "many.csv")["item_id"].tolist()
    assert len(set(ids)) == 10
    assert ids == (ids[:10] * 3)[:25]


@pytest.mark.parametrize("seconds", ["0", "-1", "nan", "1e9"])
def test_seconds_are_bounded(seconds: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        serving.main(["--seconds", seconds])
    assert "--seconds" in capsys.readouterr().err


def overloaded(after: list[tuple[float, int]]) -> Overload:
    """Quiet for a second, then an overload of one; afterwards waits and statuses, 20 ms apart."""
    rows = [(0.02 * n - 1, 0.001, 200) for n in range(50)]
    rows += [(0.1 * n, 0.3 if n % 2 else 0.01, 200 if n % 2 else 503) for n in range(10)]
    rows += [(1.0 + 0.02 * (n + 1), waited, status) for n, (waited, status) in enumerate(after)]
    caller = pd.DataFrame(rows, columns=["due", "waited", "status"])
    flood = Load({200: 50, 503: 950}, 0, 950, 1.0, 0.01, 0.1, 0, 0, 1)
    memory = [200.0, 230.0, 205.0]
    return Overload({"connections": 2}, 100.0, flood, 1.0, caller, memory)


GOOD = [(0.001, 200)] * 5


@pytest.mark.parametrize(
    ("after", "seconds"),
    [
        (GOOD, 0.021),
        ([(0.001, 503), *GOOD], 0.041),
        ([(0.001, 200), (0.001, 0), (0.5, 200), *GOOD], 0.081),
        (GOOD[:4], float("nan")),
        ([(0.006, 200)] * 9, float("nan")),
    ],
)
def test_all_is_normal_after_five_good_answers_in_a_row(
    after: list[tuple[float, int]], seconds: float
) -> None:
    assert overloaded(after).normal_again_s == pytest.approx(seconds, nan_ok=True)


def test_latencies_are_those_within_the_overload() -> None:
    found = overloaded(GOOD)
    assert found.quiet_s == pytest.approx(0.001)
    assert list(found.waits(200)) == [0.3] * 5
    assert list(found.waits(429, 503)) == [0.01] * 5
    # Two connections, a millisecond each, are twenty times a hundred a second.
    assert found.asked == pytest.approx(20.0)
    assert [each.passed for each in found.findings()] == [True, False, True, True, True]


def test_overload_results_are_written(tmp_path: Path) -> None:
    written = overloaded(GOOD).to_report().write(tmp_path)
    assert "The clients share the cores" in written.read_text()
    tables = json.loads((tmp_path / "overload.json").read_text())["tables"]
    became = {each[""]: each["requests"] for each in tables["What became of the requests"]}
    assert (became["status 200"], became["status 503"]) == (50, 950)
    assert (became["not 200, with Retry-After"], became["no answer within a minute"]) == (950, 1)


@pytest.mark.e2e
def test_an_overload_is_refused_and_over_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(overload, "_SUSTAINED_S", 1)
    monkeypatch.setattr(overload, "_AFTER_S", 5.0)
    found = overload.measure(2, 200, lambda _: None)
    statuses = found.flood.statuses
    assert statuses[200]
    assert statuses.keys() <= {200, 429, 503}
    assert found.flood.retry_after == sum(statuses.values()) - statuses[200]
    assert found.flood.lost == 0
    assert found.normal_again_s < 5


@pytest.mark.e2e
def test_no_prediction_fails_while_models_change(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEMAND_HOME", "")  # what is set meanwhile is undone
    found = resilience.measure(3, 1, lambda _: None)
    assert found.failed(PREDICT) == 0
    assert len(found.of(PREDICT)) > 100
    assert set(found.of(PREDICT)["version"]) == {"1", "2"}
    assert found.wrong == 0
