from __future__ import annotations

import pytest

from demand.reports.card import ModelFacts
from tests.reports.card_facts import all_facts, bare_facts


@pytest.fixture(scope="session")
def facts() -> ModelFacts:
    return all_facts()


@pytest.fixture(scope="session")
def bare() -> ModelFacts:
    return bare_facts()
