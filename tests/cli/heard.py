"""What a door has printed."""

from __future__ import annotations

import io

from rich.console import Console


def said(out: Console) -> str:
    assert isinstance(out.file, io.StringIO)
    return out.file.getvalue()
