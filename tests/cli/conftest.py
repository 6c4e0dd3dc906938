"""A console whose words can be read by :func:`tests.cli.heard.said`."""

from __future__ import annotations

import io

import pytest
from rich.console import Console


@pytest.fixture
def out() -> Console:
    return Console(file=io.StringIO(), width=80)
