from __future__ import annotations

from pathlib import Path

import pytest

from tests.data.files import ad, csv_text, write


@pytest.fixture(name="plain")
def _plain(tmp_path: Path) -> Path:
    return write(tmp_path, csv_text([ad(), ad(item_id="2", price="", title="NA")]))
