"""The file of ads that a pipeline works on, and whether it is the demo ads."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from demand.config import DataSettings

if TYPE_CHECKING:
    from rich.console import Console


def find_ads(given: Path | None, settings: DataSettings, out: Console) -> Path:
    """Return the file to train on; the demo ads are generated where they are absent."""
    from demand.versioning import demo_file, ensure_demo_ads

    path = given or (Path(settings.file) if settings.file else None)
    if path is not None:
        return path
    demo = (settings.demo_rows, settings.demo_seed)
    return ensure_demo_ads(demo_file(*demo), *demo, out.print)


def demo_origin(path: Path, md5: str, settings: DataSettings) -> tuple[int, int] | None:
    """Return rows and seed of the demo ads if the file is those, so that the floor is known."""
    from demand.demo import DEFAULT_MD5
    from demand.versioning import demo_file

    default = DataSettings()
    if md5 == DEFAULT_MD5:
        return default.demo_rows, default.demo_seed
    asked = (settings.demo_rows, settings.demo_seed)
    is_asked = asked != (default.demo_rows, default.demo_seed) and path == demo_file(*asked)
    return asked if is_asked else None
