"""The serving benchmarks measure what they say, and no answer fails while models change."""

from __future__ import annotations

import json
import socket
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from benchmarks import overload, overload_client, resilience, serving
from benchmarks.overload_client import FAILED, Flood, OpenLoop, Outcome, seconds_until_normal
from benchmarks.overload_report import Memory, Overload, write_overload
from benchmarks.resilience import Plan
from benchmarks.serving import Questions, interleaved
from benchmarks.serving_client import Incoming, Target, latencies, post, requests_per_second
from benchmarks.serving_installation import as_json, new_ads, own_home
from benchmarks.serving_journal import (
    INVOCATIONS,
    KILL,
    LOCK,
    PREDICT,
    ROLLBACK,
    SWITCH,
    Happened,
    Journal,
    write_journal,
)
from benchmarks.serving_load import Answered
from benchmarks.serving_report import (
    EMPTY,
    FLASK,
    MODEL_SERVER,
    PREDICTOR,
    Finding,
    Measured,
    Running,
    latency_cells,
    write_serving,
)
from demand.errors import ServingError
from demand.state import home

BUSY = b"HTTP/1.1 503 NO\r\nContent-Length: 2\r\nRetry-After: 1\r\n\r\nno"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX: y\r\n\r\nok"


def answered(
    path: str, ended: float, failure: str | None = None, version: str = "1", begun: float = 0.0
) -> Answered:
    said = (None, None) if failure else (version, 0.5)
    return Answered(path, begun, begun, ended, 0, *said, failure)


def journal(requests: list[Answered], events: list[Happened] | None = None) -> Journal:
    return Journal({"date": "today"}, 0.0, requests, events or [])


def measured(flask_ms: float = 0.5) -> Measured:
    milliseconds = {MODEL_SERVER: 1.0, FLASK: flask_ms, EMPTY: 2.0}
    return Measured(
        about={"date": "today"},
        single={name: [[ms / 1e3] * 4] * 3 for name, ms in milliseconds.items()},
        load={MODEL_SERVER: [100.0] * 3, FLASK: [300.0] * 3, EMPTY: [50.0] * 3},
        batches={PREDICTOR: [30e3] * 3, MODEL_SERVER: [15e3] * 3, FLASK: [14e3] * 3},
        one=[[3e-4]] * 3,
        running={
            MODEL_SERVER: Running([2.0, 2.5, 3.0], 315.0),
            FLASK: Running([1.0, 1.5, 2.0], 200.0),
            EMPTY: Running([], 400.0),
        },
    )


@pytest.fixture
def answers() -> list[bytes]:
    """What :func:`echo` answers, in turn; the last one again and again."""
    return [OK]


@pytest.fixture
def echo(answers: list[bytes]):
    """A server that answers every request, over kept connections."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve(connection: socket.socket) -> None:
        with connection:
            while connection.recv(1 << 16):
                connection.sendall(answers.pop(0) if len(answers) > 1 else answers[0])

    def accept() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=serve, args=(connection,), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()


@pytest.mark.parametrize("cut", range(1, len(OK)))
def test_an_answer_is_whole_wherever_its_parts_are_cut(cut: int) -> None:
    incoming = Incoming()
    assert incoming.take(OK[:cut]) is None
    assert incoming.take(OK[cut:]) == b"ok"


def test_the_next_answer_of_a_connection_begins_afresh() -> None:
    incoming = Incoming()
    assert [incoming.take(OK), incoming.take(OK)] == [b"ok", b"ok"]


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (OK.replace(b"200 OK", b"503 NO"), "503"),
        (OK.replace(b"Content-Length: 2", b"Transfer-Encoding: chunked"), "length"),
        (b"", "closed"),
    ],
)
def test_an_answer_that_is_none_stops_the_measurement(answer: bytes, said: str) -> None:
    with pytest.raises(ServingError, match=said):
        Incoming().take(answer)


def test_a_request_is_one_of_http() -> None:
    head, _, body = post("http://127.0.0.1:80", "/predict", {"title": "ё"}).partition(b"\r\n\r\n")
    assert head.startswith(b"POST /predict HTTP/1.1\r\nHost: 127.0.0.1:80\r\n")
    assert f"Content-Length: {len(body)}".encode() in head
    assert json.loads(body) == {"title": "ё"}


def test_every_request_is_timed(echo: str) -> None:
    target = Target("echo", echo, [post(echo, "/", 1)])
    taken = latencies(target, 0.05)
    assert len(taken) > 1
    assert 0 < sum(taken) <= 0.5


def test_all_connections_are_answered(echo: str) -> None:
    target = Target("echo", echo, [post(echo, "/", 1)])
    assert requests_per_second(target, 4, 0.05) > 20


def test_nobody_always_comes_first() -> None:
    order: list[str] = []
    found = interleaved(
        {name: lambda seconds, name=name: order.append(name) or seconds for name in "abc"}, 6.0, 3
    )
    assert "".join(order) == "abcbcacab"
    assert found == {name: [2.0] * 3 for name in "abc"}


def test_questions_cover_all_ads() -> None:
    ads = new_ads(20)
    singles, batches = Questions.of(ads).targets(FLASK, "http://127.0.0.1:1")
    assert len(singles.requests) == 20
    assert len(batches.requests) == 1
    assert all(None not in ad.values() for ad in as_json(ads))


def test_latencies_of_all_rounds_are_one_distribution() -> None:
    rounds = [[0.001] * 50, [0.002] * 49 + [0.1]]
    assert latency_cells(rounds) == (
        "100",
        "1.50",
        f"{np.percentile([*rounds[0], *rounds[1]], 99) * 1e3:.2f}",
    )


@pytest.mark.parametrize(
    ("found", "at_most", "passed"),
    [(1.0, True, True), (1.1, True, False), (1.0, False, True), (0.9, False, False)],
)
def test_a_figure_passes_in_its_direction(found: float, at_most: bool, passed: bool) -> None:
    finding = Finding("latency", found, 1.0, at_most)
    assert finding.passed is passed
    assert finding.row()[-1] == ("pass" if passed else "MISSED")


@pytest.mark.parametrize("at_most", [True, False])
def test_what_is_no_number_passes_nothing(at_most: bool) -> None:
    assert not Finding("latency", float("nan"), 1.0, at_most).passed


def test_all_that_was_asked_is_judged() -> None:
    assert [finding.passed for finding in measured().findings()] == [True] * 9
    slow = [finding.figure for finding in measured(flask_ms=0.6).findings() if not finding.passed]
    assert slow == ["median latency of a single ad: Flask / our MLflow server"]


def test_serving_results_are_written(tmp_path: Path) -> None:
    written = write_serving(measured(flask_ms=0.6), tmp_path)
    assert "MISSED" in written.read_text()
    kept = json.loads((tmp_path / "serving.json").read_text())
    assert [each["passed"] for each in kept["findings"]].count(False) == 1
    assert (tmp_path / "serving.png").read_bytes().startswith(b"\x89PNG")


def test_a_gap_lies_between_answers_of_one_route() -> None:
    times = {PREDICT: (1.0, 1.1, 1.6, 1.7), INVOCATIONS: (1.0, 3.0, 3.5)}
    found = journal([answered(path, time) for path in times for time in times[path]])
    assert found.gap_s(PREDICT) == pytest.approx(0.5)
    assert found.gap_s(INVOCATIONS) == pytest.approx(2.0)


def test_a_failure_fills_no_gap() -> None:
    requests = [
        answered(PREDICT, 1.0),
        answered(PREDICT, 2.0, "status 503"),
        answered(PREDICT, 4.0),
    ]
    assert journal(requests).gap_s(PREDICT) == pytest.approx(3.0)


def test_a_gap_is_of_the_event_in_which_it_mostly_lay() -> None:
    found = journal([answered(PREDICT, time) for time in (1.0, 1.9, 4.1, 4.2)])
    assert found.gap_s(PREDICT, 2.0, 4.0) == pytest.approx(2.2)
    assert found.gap_s(PREDICT, 4.0, 9.0) == pytest.approx(0.1)
    assert np.isnan(found.gap_s(PREDICT, 5.0, 9.0))


def test_failures_are_told_by_cause_and_event() -> None:
    events = [Happened(KILL, "killed", 1.0, 2.0), Happened(SWITCH, "switched", 3.0, 4.0, "2")]
    requests = [
        answered(PREDICT, 0.5),
        answered(INVOCATIONS, 1.5, "status 503"),
        answered(INVOCATIONS, 3.5, "status 503"),
        answered(INVOCATIONS, 3.6),
    ]
    found = journal(requests, events)
    (only,) = found.failures()
    assert (only.requests, only.first_s, only.last_s, only.during) == (2, 1.5, 3.5, "killed")
    assert [found.failed(PREDICT), found.failed(INVOCATIONS)] == [0, 2]
    assert found.failed(INVOCATIONS, (SWITCH, ROLLBACK)) == 1
    assert [row[-1] for row in found.asked()] == ["pass", "MISSED", "pass"]


def test_a_route_without_answers_passes_nothing() -> None:
    assert [row[-1] for row in journal([answered(PREDICT, 1.0)]).asked()] == ["MISSED"] * 3


def test_a_version_is_followed_from_its_event_on() -> None:
    event = Happened(SWITCH, "switch", 2.0, 4.0, "2")
    requests = [
        answered(PREDICT, 1.0, version="2", begun=0.9),
        answered(PREDICT, 3.0, version="1", begun=2.9),
        answered(PREDICT, 3.5, version="2", begun=3.4),
    ]
    found = journal(requests, [event])
    assert found.follows_s(event, PREDICT) == pytest.approx(1.5)
    assert np.isnan(found.follows_s(event, INVOCATIONS))


def test_resilience_results_are_written(tmp_path: Path) -> None:
    requests = [answered(PREDICT, 1.0), answered(INVOCATIONS, 2.0, "status 503")]
    written = write_journal(journal(requests, [Happened(KILL, "killed", 1.5, 2.5)]), tmp_path)
    assert "/invocations: status 503" in written.read_text()
    kept = json.loads((tmp_path / "resilience.json").read_text())
    assert kept["routes"][INVOCATIONS]["failed"] == 1
    assert (tmp_path / "resilience.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("switches", [1, 2, 10])
def test_a_plan_mixes_all_events(switches: int) -> None:
    events = Plan(switches=switches).events()
    counts = {kind: events.count(kind) for kind in (SWITCH, ROLLBACK, KILL, LOCK)}
    assert counts == {SWITCH: switches, ROLLBACK: 2, KILL: 2, LOCK: 1}
    # A rollback needs a champion before the present one.
    assert SWITCH in events[: events.index(ROLLBACK)]


def test_a_shorter_run_locks_for_a_shorter_time() -> None:
    assert [Plan(seconds=s).lock_s for s in (15.0, 60.0, 120.0)] == [1.25, 5.0, 5.0]


def test_a_benchmark_has_a_home_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DEMAND_HOME", raising=False)
    before = home()
    with own_home("demand-test-") as place:
        assert home() == place != before
    assert home() == before
    assert not place.root.exists()


@pytest.mark.parametrize("program", [serving, resilience, overload])
def test_help_has_examples(program, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        program.main(["--help"])
    assert ended.value.code == 0
    said = capsys.readouterr().out
    assert f"{program.__name__} --seconds" in said


@pytest.mark.parametrize("seconds", ["0", "-1", "nan", "1e9"])
def test_seconds_are_bounded(seconds: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        serving.main(["--seconds", seconds])
    assert "--seconds" in capsys.readouterr().err


def flood(target: Target, rate: float, connections: int = 8) -> Flood:
    with OpenLoop(target, rate, connections) as load:
        return load.run(0.3, 1.0)


def test_requests_are_sent_when_they_are_due(echo: str) -> None:
    found = flood(Target("echo", echo, [post(echo, "/", 1)]), 100.0)
    assert 25 <= len(found.outcomes) + found.unsent <= 31
    assert {each.status for each in found.outcomes} == {200}
    assert all(0 <= each.seconds < 5 for each in found.outcomes)
    assert (found.silent, found.normal_again_s < 5) == (0, True)


def test_refusals_are_counted_and_say_when_to_come_again(echo: str, answers: list[bytes]) -> None:
    answers[:] = [BUSY] * 5 + [OK]
    found = flood(Target("echo", echo, [post(echo, "/", 1)]), 100.0)
    assert [each.retry_after for each in found.outcomes if each.status == 503] == [True] * 5


def test_requests_beyond_the_connections_are_never_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(overload_client, "_PATIENCE_S", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as mute:
        address = f"http://127.0.0.1:{mute.getsockname()[1]}"
        with OpenLoop(Target("mute", address, [post(address, "/", 1)]), 100.0, 2) as load:
            threading.Timer(0.2, mute.shutdown, (socket.SHUT_RDWR,)).start()
            found = load.run(0.1, 1.0)
    assert found.unsent >= 5
    assert {each.status for each in found.outcomes} <= {FAILED}
    assert np.isnan(found.normal_again_s)


def test_a_server_that_is_not_there_fails_every_request(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(overload_client, "_PATIENCE_S", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = f"http://127.0.0.1:{listener.getsockname()[1]}"
    found = flood(Target("none", address, [post(address, "/", 1)]), 100.0)
    assert {each.status for each in found.outcomes} == {FAILED}
    assert (len(found.outcomes) > 10, found.silent) == (True, 0)


def test_all_is_normal_again_after_five_good_answers_in_a_row(
    echo: str, answers: list[bytes]
) -> None:
    answers[:] = [BUSY, OK, OK, BUSY, OK]
    target = Target("echo", echo, [post(echo, "/", 1)])
    assert 0 < seconds_until_normal(target, 5.0, time.perf_counter()) < 5
    assert answers == [OK]


def overloaded() -> Overload:
    outcomes = [Outcome(0.1 * n, 0.1 * n + 0.01, 200 if n % 4 else 503, True) for n in range(8)]
    outcomes.append(Outcome(0.9, 1.4, 200, False))
    lost = Outcome(0.5, 0.6, FAILED, False)
    load = Flood(0.0, 1.0, [*outcomes, lost], unsent=3, silent=1, normal_again_s=0.25)
    memory = Memory(200.0, 205.0, [(0.5, 230.0)])
    return Overload({"cores": 2}, 100.0, 0.001, 1000.0, load, memory)


def test_rates_of_an_overload_are_those_of_its_own_time() -> None:
    found = overloaded()
    # One answer came after the load had ended, one request was lost, one never answered.
    assert (found.offered, found.answered, found.accepted) == (11.0, 8.0, 6.0)
    assert found.memory.peak == 230.0


def test_overload_results_are_written(tmp_path: Path) -> None:
    written = write_overload(overloaded(), tmp_path)
    assert "The client shares the cores" in written.read_text()
    kept = json.loads((tmp_path / "overload.json").read_text())
    assert kept["statuses"] == {"200": 7, "503": 2, "0": 1}
    assert (kept["refused_with_retry_after"], kept["never_sent"], kept["normal_again_s"]) == (
        (2, 3, 0.25)
    )
    assert kept["latency_ms"]["refused"]["p50"] == pytest.approx(10.0)
    assert (tmp_path / "overload.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.e2e
def test_an_overload_is_refused_and_over_soon() -> None:
    plan = overload.Plan(seconds=2.0, connections=200, sustained_s=1.0)
    found = overload.run(plan, None, quiet=True)
    assert found.of(200)
    assert all(each.retry_after for each in found.of(429, 503))
    assert {each.status for each in found.flood.outcomes} <= {200, 429, 503, FAILED}
    assert found.flood.silent == 0
    assert found.flood.normal_again_s < 30


@pytest.mark.e2e
def test_no_prediction_fails_while_models_change() -> None:
    plan = Plan(seconds=15.0, switches=2, callers=64)
    found = resilience.run(plan, None, quiet=True)
    assert [each for each in found.failures() if each.path == PREDICT] == []
    assert len(found.of(PREDICT)) > 100
    assert {each.version for each in found.of(PREDICT)} == {"1", "2"}
    assert found.wrong == 0
