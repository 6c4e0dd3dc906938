"""One version of the registered model, and the tags that keep its lineage."""

from __future__ import annotations

import datetime
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from demand.serving.model_files import local_folder

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion

SERVED = "served"


@dataclass(frozen=True)
class RegisteredVersion:
    """One version of the registered model.

    Parameters
    ----------
    version
        Its number in the registry, as text.
    run_id, model_id
        MLflow's run and logged model.
    data_md5
        The bytes it was trained on.
    fingerprint
        The same for the same data, code and config.
    metrics
        Figures of its evaluation.
    source
        Folder of the MLflow model in the artifact store.
    files_sha256
        Digest of that folder when it was registered.
    created_at
        ISO time in UTC.
    tags
        All tags, further lineage among them.
    """

    version: str
    run_id: str
    model_id: str
    data_md5: str
    fingerprint: str
    metrics: dict[str, float]
    source: Path
    files_sha256: str
    created_at: str
    tags: dict[str, str]

    @property
    def has_served(self) -> bool:
        """Whether it has ever answered as a deployed server."""
        return SERVED in self.tags


def lineage_tags(
    data_md5: str,
    fingerprint: str,
    metrics: Mapping[str, float],
    further: Mapping[str, str | None],
) -> dict[str, str]:
    """Return the tags from which :func:`registered_version` reads a version's lineage.

    Figures that are not finite are left out: JSON has no word for them.
    """
    tags = {name: value for name, value in further.items() if value is not None}
    return tags | {
        "data_md5": data_md5,
        "fingerprint": fingerprint,
        "metrics": json.dumps({name: m for name, m in metrics.items() if math.isfinite(m)}),
    }


def registered_version(found: ModelVersion) -> RegisteredVersion:
    """Read MLflow's model version; what a version made by hand lacks is empty."""
    tags = {str(name): str(value) for name, value in found.tags.items()}
    created = datetime.datetime.fromtimestamp(found.creation_timestamp / 1000, datetime.UTC)
    return RegisteredVersion(
        version=str(found.version),
        run_id=str(found.run_id or ""),
        model_id=str(found.model_id or ""),
        data_md5=tags.get("data_md5", ""),
        fingerprint=tags.get("fingerprint", ""),
        metrics=json.loads(tags.get("metrics", "{}")),
        source=local_folder(str(found.source)),
        files_sha256=tags.get("files_sha256", ""),
        created_at=created.isoformat(timespec="seconds"),
        tags=tags,
    )
