"""Alerts to people, through Apprise: told once, again after a while, and when they are over.

What fires, and who has been told, is kept in ``DEMAND_HOME/alerts.json``. It is written before
anything is sent and after each message that arrived: who is killed in between sends that one
message twice, and loses none. A receiver that fails is tried again at the next call.
"""

from __future__ import annotations

import contextvars
import datetime
import hashlib
import logging
import os
import queue
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

from demand.errors import ConfigError
from demand.monitoring.rules import Decision
from demand.production_log.config import AlertSettings
from demand.progress import console
from demand.workspace.workspace import (
    Workspace,
    current_workspace,
    exclusive,
    read_json,
    write_json,
)

if TYPE_CHECKING:
    from apprise import NotifyBase

URLS = "DEMAND_ALERT_URLS"
SERVICES = "https://appriseit.com/services/"
Severity = Literal["watch", "retrain", "alarm"]
_SEVERITIES: tuple[Severity, ...] = ("watch", "retrain", "alarm")  # each worse than that before
# As Apprise calls them; None is an alert that is over.
_KINDS = {"watch": "info", "retrain": "warning", "alarm": "failure", None: "success"}


@dataclass(frozen=True)
class Alert:
    """Something that people should know, as long as it lasts."""

    key: str  # what it is about; the same while it lasts
    severity: Severity
    title: str
    text: str
    decision: str | None = None  # id of the decision that it follows from


@dataclass(frozen=True)
class Firing:
    """An alert that has not ended, and how many receivers know of it."""

    source: str
    alert: Alert
    since: str  # UTC, ISO 8601
    receivers_told: int


@dataclass(frozen=True)
class Failing:
    """A receiver that the last messages did not reach."""

    receiver: str
    since: str  # UTC, ISO 8601
    failures: int


MODEL = "model"  # the source of what monitoring finds


def alerts_of(decision: Decision) -> list[Alert]:
    """Return what monitoring found and what lasts: the rules that hold.

    Those that were told before and cannot be judged now last, too: no evidence is not the end.
    """
    unknown = {found.rule for found in decision.findings if found.state == "unknown"}
    lasting = [
        each.alert for each in firing() if each.source == MODEL and each.alert.key in unknown
    ]
    return lasting + [
        Alert(
            found.rule, found.verdict, f"{decision.subject}: {found.rule}", found.told, decision.id
        )
        for found in decision.findings
        if found.verdict != "ok"
    ]


class Receiver(Protocol):
    """Where messages go."""

    @property
    def name(self) -> str:
        """What people call it; holds no secret."""

    @property
    def token(self) -> str:
        """What tells it from others, in any process; holds no secret."""

    def send(self, title: str, text: str, severity: Severity | None) -> bool:
        """Send a message, None where something is over; say whether it arrived."""


class AppriseReceiver:
    """A service behind one of Apprise's URLs."""

    def __init__(self, service: NotifyBase, name: str) -> None:
        self._service, self.name = service, name
        url: str = service.url(privacy=False)  # type: ignore[no-untyped-call]
        self.token = hashlib.sha256(url.encode()).hexdigest()[:16]

    def send(self, title: str, text: str, severity: Severity | None) -> bool:
        """Send through Apprise."""
        kind = _KINDS[severity]
        return bool(self._service.notify(body=text, title=title, notify_type=kind))


def configured_receivers(settings: AlertSettings) -> list[AppriseReceiver]:
    """Return the receivers of ``DEMAND_ALERT_URLS`` and of the file that the settings name.

    Raises
    ------
    ConfigError
        The file cannot be read, or a URL is none of Apprise's; names its place, and not the URL,
        which may hold a secret.
    """
    found = receivers(os.environ.get(URLS, "").split(), URLS)
    if settings.urls_file is not None:
        path = Path(settings.urls_file).expanduser()
        try:
            lines = path.read_text(encoding="utf-8").split()
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"cannot read alerts.urls_file {path}: {error}") from error
        found += receivers(lines, str(path))
    return found


def receivers(urls: Sequence[str], origin: str) -> list[AppriseReceiver]:
    """Return what is behind Apprise's URLs; ``origin`` says in errors where they stand."""
    from apprise import Apprise, NotifyBase

    # Its lines may quote URLs, which hold secrets.
    logging.getLogger("apprise").disabled = True
    found = []
    for number, url in enumerate(urls, 1):
        service = Apprise.instantiate(url)
        if not isinstance(service, NotifyBase):
            raise ConfigError(f"URL {number} of {origin} is none of Apprise's: see {SERVICES}")
        found.append(AppriseReceiver(service, f"{service.service_name}, URL {number} of {origin}"))
    return found


def notify(
    source: str,
    alerts: Sequence[Alert],
    receivers: Sequence[Receiver],
    settings: AlertSettings,
    *,
    now: datetime.datetime | None = None,
) -> int:
    """Tell what fires, and what does not any more; return how many messages arrived.

    ``alerts`` are all that ``source`` knows to last; those it named before and not now are over.
    One that lasts is told again after ``repeat_hours``, or when it gets worse. Receivers are
    asked side by side, for ``timeout_s`` seconds in all; that one fails is said once, and counted.

    Raises
    ------
    StateError
        The file cannot be read or written.
    """
    workspace = current_workspace()
    at = now or datetime.datetime.now(datetime.UTC)
    with exclusive(workspace.locks / "alerts.lock", "telling alerts", wait=True):
        state = _State(workspace, settings, at)
        state.update(source, alerts)
        return _deliver(state, receivers, settings.timeout_s)


def firing() -> list[Firing]:
    """Return all alerts that have not ended: those that began first come first."""
    found = [
        Firing(source, Alert(**entry["alert"]), entry["since"], len(entry["told"]))
        for source, entries in _read(current_workspace())["alerts"].items()
        for entry in entries.values()
        if not entry["over"]
    ]
    return sorted(found, key=lambda each: each.since)


def failing() -> list[Failing]:
    """Return the receivers that could not be reached when they were last tried."""
    return [Failing(**each) for each in _read(current_workspace())["failing"].values()]


def send_test(receivers: Sequence[Receiver], timeout_s: float) -> list[str]:
    """Send a message that tells nothing else; return the names of those it does not reach."""
    text = "Sent by `demand alerts test`: alerts of avito-demand arrive here."
    message = _Message("", "", "avito-demand: a test", text, "watch")
    waiting = [(receiver, [message]) for receiver in receivers]
    reached = {receiver.token for receiver, _, arrived in _sent(waiting, timeout_s) if arrived}
    return [receiver.name for receiver in receivers if receiver.token not in reached]


@dataclass(frozen=True)
class _Message:
    source: str
    key: str
    title: str
    text: str
    severity: Severity | None  # None: the alert is over


class _State:
    """What fires and who knows, as the file has it."""

    def __init__(
        self, workspace: Workspace, settings: AlertSettings, now: datetime.datetime
    ) -> None:
        self._workspace, self._now = workspace, now
        self._repeat = datetime.timedelta(hours=settings.repeat_hours)
        self._kept = _read(workspace)
        self._before = repr(self._kept)

    def update(self, source: str, alerts: Sequence[Alert]) -> None:
        """Take in all that lasts of a source."""
        entries = self._kept["alerts"].setdefault(source, {})
        for key in entries.keys() - {alert.key for alert in alerts}:
            entries[key]["over"] = True
        for alert in alerts:
            entry = entries.setdefault(alert.key, {"told": {}, "over": True})
            if entry["over"]:
                entry |= {"over": False, "since": self._stamp()}
            entry["alert"] = asdict(alert)

    def due(self, receiver: Receiver) -> list[_Message]:
        """Return what a receiver is to be told."""
        return [
            _message(source, key, entry)
            for source, entries in self._kept["alerts"].items()
            for key, entry in entries.items()
            if self._is_due(entry, entry["told"].get(receiver.token))
        ]

    def _is_due(self, entry: dict[str, Any], told: dict[str, Any] | None) -> bool:
        if told is None:
            return not entry["over"]
        severity = _SEVERITIES.index(entry["alert"]["severity"])
        last = datetime.datetime.fromisoformat(told["at"])
        worse = severity > _SEVERITIES.index(told["severity"])
        return bool(entry["over"]) or worse or self._now - last >= self._repeat

    def arrived(self, receiver: Receiver, message: _Message) -> None:
        """Note that a receiver knows."""
        told = self._kept["alerts"][message.source][message.key]["told"]
        if message.severity is None:
            del told[receiver.token]
        else:
            told[receiver.token] = {"at": self._stamp(), "severity": message.severity}
        self._kept["failing"].pop(receiver.token, None)

    def failed(self, receiver: Receiver) -> None:
        """Count a failure; the first one is said."""
        new = {"receiver": receiver.name, "since": self._stamp(), "failures": 0}
        count = self._kept["failing"].setdefault(receiver.token, new)
        count["failures"] += 1
        if count["failures"] == 1:
            told = f"warning: an alert did not reach {receiver.name}: it is tried again next time"
            console().print(told, markup=False, soft_wrap=True)

    def forget(self, receivers: Sequence[Receiver]) -> None:
        """Drop what is over and known to be, and receivers that are none any more."""
        here = {receiver.token for receiver in receivers}
        for entries in self._kept["alerts"].values():
            for key, entry in list(entries.items()):
                if entry["over"] and not here & entry["told"].keys():
                    del entries[key]
        for token in self._kept["failing"].keys() - here:
            del self._kept["failing"][token]

    def write(self) -> None:
        """Write the file, if there is anything new."""
        if (now := repr(self._kept)) != self._before:
            write_json(_file(self._workspace), self._kept)
            self._before = now

    def _stamp(self) -> str:
        return self._now.isoformat(timespec="seconds")


def _message(source: str, key: str, entry: dict[str, Any]) -> _Message:
    alert = Alert(**entry["alert"])
    if entry["over"]:
        text = f"{source}: lasted since {entry['since']}"
        return _Message(source, key, f"over: {alert.title}", text, None)
    title = f"{alert.severity}: {alert.title}"
    decision = f"\ndecision {alert.decision}" if alert.decision else ""
    return _Message(source, key, title, f"{source}: {alert.text}{decision}", alert.severity)


def _deliver(state: _State, receivers: Sequence[Receiver], timeout_s: float) -> int:
    state.forget(receivers)
    state.write()
    sent = 0
    waiting = [(receiver, state.due(receiver)) for receiver in receivers]
    for receiver, message, arrived in _sent(waiting, timeout_s):
        if arrived:
            state.arrived(receiver, message)
            sent += 1
        else:
            state.failed(receiver)
        state.write()
    state.forget(receivers)
    state.write()
    return sent


_Outcome = tuple[Receiver, _Message, bool]


def _sent(
    waiting: Sequence[tuple[Receiver, list[_Message]]], timeout_s: float
) -> Iterator[_Outcome]:
    """Send to all side by side; yield each message that arrived, and the first that did not.

    After a failure nothing more is sent to a receiver. One that has not ended in time has failed;
    its thread keeps no process from ending.
    """
    outcomes = queue.Queue[_Outcome]()
    left = {receiver.token: (receiver, list(messages)) for receiver, messages in waiting}
    left = {token: both for token, both in left.items() if both[1]}
    for receiver, messages in left.values():
        work = (_send_all, receiver, tuple(messages), outcomes)
        target = contextvars.copy_context().run
        threading.Thread(target=target, args=work, daemon=True).start()
    deadline = time.monotonic() + timeout_s
    while left:
        try:
            outcome = outcomes.get(timeout=max(0.0, deadline - time.monotonic()))
        except queue.Empty:
            yield from ((receiver, messages[0], False) for receiver, messages in left.values())
            return
        receiver, message, arrived = outcome
        left[receiver.token][1].remove(message)
        if not arrived or not left[receiver.token][1]:
            del left[receiver.token]
        yield outcome


def _send_all(
    receiver: Receiver, messages: Sequence[_Message], outcomes: queue.Queue[_Outcome]
) -> None:
    for message in messages:
        try:
            arrived = receiver.send(message.title, message.text, message.severity)
        except Exception:  # of whatever kind a service's own code raises
            arrived = False
        outcomes.put((receiver, message, arrived))
        if not arrived:
            return


def _file(workspace: Workspace) -> Path:
    return workspace.root / "alerts.json"


def _read(workspace: Workspace) -> dict[str, Any]:
    path = _file(workspace)
    return dict(read_json(path)) if path.exists() else {"alerts": {}, "failing": {}}
