"""Giskard 2, kept from what it does by itself, and our checks run as its suite.

Left alone it sends analytics, looks for plug-ins in a folder of the user's home, puts a
handler on the root logger, prints, and draws from numpy's global random state.
"""

from __future__ import annotations

import contextlib
import io
import logging
import os
import random
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from demand.checks.probe import Check, Finding

SEED = 42


@contextlib.contextmanager
def giskard_session() -> Iterator[Any]:
    """Yield Giskard: quiet, seeded, offline; all it touches is put back afterwards.

    Settings of Giskard are read from the environment when it is imported, so the
    variables are set around the first import.
    """
    root, own = logging.getLogger(), logging.getLogger("giskard")
    handlers, silence = list(root.handlers), logging.NullHandler()
    legacy, plain = np.random.get_state(), random.getstate()
    with (
        tempfile.TemporaryDirectory(prefix="giskard-") as folder,
        _environment(
            GSK_DISABLE_ANALYTICS="True",
            GSK_HOME=folder,
        ),
        contextlib.redirect_stdout(io.StringIO()),
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore")
        try:
            import giskard
            from giskard.settings import settings

            settings.disable_analytics = True  # also where another import came first
            root.handlers[:] = handlers
            own.addHandler(silence)
            own.propagate = False
            np.random.seed(SEED)
            random.seed(SEED)
            yield giskard
        finally:
            root.handlers[:] = handlers
            own.removeHandler(silence)
            own.propagate = True
            np.random.set_state(legacy)
            random.setstate(plain)


@contextlib.contextmanager
def _environment(**values: str) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def run_suite(
    giskard: Any, checks: Sequence[Check], critical: Sequence[str]
) -> tuple[list[Finding], str]:
    """Run our checks as a Giskard suite.

    Returns
    -------
    findings
        In the order of ``checks``.
    html
        Giskard's report of the suite, a fragment.
    """
    from giskard.core.test_result import TestMessage, TestMessageLevel, TestResult

    found: dict[str, Finding] = {}
    stopped: list[BaseException] = []

    def behaviour(check: Any) -> Any:
        if stopped:
            raise stopped[0]
        try:
            finding = found[check.name] = check.run(critical)
        except BaseException as stop:  # Ctrl-C, which the suite would swallow
            stopped.append(stop)
            raise
        message = TestMessage(type=TestMessageLevel.INFO, text=finding.detail)
        return TestResult(passed=finding.passed, metric=finding.value, messages=[message])

    suite = giskard.Suite("behaviour")
    as_test = giskard.test(behaviour)
    for check in checks:
        suite.add_test(as_test(check=check), check.name, check.name)
    result = suite.run(verbose=False)
    if stopped:
        raise stopped[0]
    # Giskard swallows what its own machinery raises; no check may get lost in there.
    findings = [found.get(check.name) or check.run(critical) for check in checks]
    return findings, str(result._repr_html_())
