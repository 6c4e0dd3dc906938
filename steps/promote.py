"""Register the model, and make it champion if the comparison allows."""

from __future__ import annotations

from typing import Annotated

from zenml import log_metadata, step

from demand.config import GateSettings
from demand.serving.promotion import promote_challenger
from steps.common import timed


@step(enable_cache=False)
def promote(
    logged_model: dict[str, str],
    metrics: dict[str, float],
    lineage: dict[str, str],
    data_warnings: list[str],
    check_warnings: list[str],
    fingerprint: str,
    compared: str | None,
    settings: GateSettings,
) -> Annotated[str, "champion_version"]:
    """Return the version that is champion now; refuse where the old one stays.

    ``compared`` is the champion that the metrics compare with.
    """
    with timed():
        result = promote_challenger(
            logged_model["model_id"],
            data_md5=lineage["data_md5"],
            fingerprint=fingerprint,
            metrics=metrics,
            tags={
                **lineage,
                "data_warnings": "\n".join(data_warnings),
                "check_warnings": "\n".join(check_warnings),
            },
            compared=compared,
            margin=settings.champion_margin,
        )
        version = result.version.version
        log_metadata({"version": version, "promoted": result.promoted, "reason": result.reason})
    return version
