"""Alerts of pipelines: to the configured receivers, and to the alerter of the active stack.

ZenML's own alerters are Slack and Discord; the flavor here is for whatever Apprise knows.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING, cast

from zenml import get_step_context
from zenml.alerter.base_alerter import BaseAlerter, BaseAlerterConfig, BaseAlerterFlavor
from zenml.client import Client
from zenml.utils.dashboard_utils import get_run_url
from zenml.utils.secret_utils import SecretField

from demand.config import load_config
from demand.errors import GateRefusal
from demand.monitoring.alerts import (
    Alert,
    Receiver,
    configured_receivers,
    firing,
    notify,
    receivers,
)
from demand.production_log.config import MonitoringConfig
from demand.production_log.store import CONFIG
from demand.progress import only_warned

if TYPE_CHECKING:
    from zenml.alerter.base_alerter import BaseAlerterStepParameters

    from demand.monitoring.alerts import Severity

REASON_LETTERS = 300


class AppriseAlerterConfig(BaseAlerterConfig):
    """Where messages go: URLs of Apprise, with white space between; a secret of ZenML's."""

    urls: str = SecretField()


class AppriseAlerter(BaseAlerter):
    """Alerter that sends through Apprise; nobody can answer by it."""

    @property
    def config(self) -> AppriseAlerterConfig:
        """The URLs."""
        return cast(AppriseAlerterConfig, self._config)

    def post(self, message: str, params: BaseAlerterStepParameters | None = None) -> bool:
        """Send a message, whose first line is its title; say whether it reached all."""
        del params
        title, _, text = message.partition("\n")
        to = receivers(self.config.urls.split(), f"the alerter {self.name}")
        reached = [each.send(title, text or title, "watch") for each in to]
        return all(reached)

    def ask(self, question: str, params: BaseAlerterStepParameters | None = None) -> bool:
        """Refuse: what is sent by Apprise cannot be approved."""
        raise NotImplementedError("Apprise only sends: ask by ZenML's Slack or Discord alerter")


class AppriseAlerterFlavor(BaseAlerterFlavor):
    """``zenml alerter flavor register orchestration.alerter.AppriseAlerterFlavor``."""

    @property
    def name(self) -> str:
        """What ``--flavor`` takes."""
        return "apprise"

    @property
    def config_class(self) -> type[AppriseAlerterConfig]:
        """The options of ``zenml alerter register``."""
        return AppriseAlerterConfig

    @property
    def implementation_class(self) -> type[AppriseAlerter]:
        """What sends."""
        return AppriseAlerter


class StackReceiver:
    """The alerter of a stack, of any flavor."""

    def __init__(self, alerter: BaseAlerter) -> None:
        self._alerter, self.token = alerter, str(alerter.id)
        self.name = f"ZenML's alerter {alerter.name}"

    def send(self, title: str, text: str, severity: Severity | None) -> bool:
        """Post title and text, which has the severity in words."""
        del severity
        return self._alerter.post(f"{title}\n{text}")


def tell(source: str, alerts: Sequence[Alert]) -> None:
    """Tell people what fires of a source, and what is over; that this fails is only warned of."""
    with only_warned("people cannot be told"):
        settings = load_config(CONFIG, MonitoringConfig).alerts
        to: list[Receiver] = [*configured_receivers(settings)]
        if alerter := Client().active_stack.alerter:
            to.append(StackReceiver(alerter))
        notify(source, alerts, to, settings)


def run_failed(error: BaseException) -> None:
    """Tell which run failed, where, and why: ``on_failure`` of a pipeline."""
    context = get_step_context()
    run, pipeline = context.pipeline_run, context.pipeline.name
    first = (str(error).strip() or repr(error)).splitlines()[0]
    reason = textwrap.shorten(first, REASON_LETTERS, placeholder=" …")
    told = [f"{run.name} ended at {context.step_name}: {reason}"]
    if url := get_run_url(run):
        told.append(url)
    refused = isinstance(error, GateRefusal)
    severity: Severity = "watch" if refused else "alarm"
    title = f"a gate of {pipeline} said no" if refused else f"{pipeline} failed"
    tell(pipeline, [Alert("run", severity, title, "\n".join(told))])


def run_succeeded(pipeline: str) -> None:
    """Tell that a pipeline succeeds again, if people know that it did not."""
    with only_warned("people cannot be told"):
        if any(each.source == pipeline for each in firing()):
            tell(pipeline, [])
