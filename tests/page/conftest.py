"""What the tests of the page share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.page.test_client import Fake


@pytest.fixture
def fake() -> Iterator[Fake]:
    made = Fake()
    yield made
    made.http.shutdown()
    made.http.server_close()
