"""How good the deployed model is: labelled ads through its endpoint, and the Predictor beside.

What is measured is what a caller gets, with its JSON, its server and its network. The
answers must be those of the Predictor of the version that gave them: anything else means
that what serves is not what was checked and promoted.
"""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pandas as pd

from demand.config import GateSettings
from demand.errors import ServingError
from demand.serving.api.settings import TOKEN_VARIABLE
from demand.serving.endpoint import Endpoint
from demand.serving.observation import Observed, observe
from demand.serving.production_ads import labelled_ads
from demand.serving.production_gate import Evaluation, Served, judge
from demand.serving.promotion import champion_predictor
from demand.serving.registry import Registry
from demand.serving.server import active


def evaluate_endpoint(
    path: Path,
    url: str | None,
    rows: int,
    *,
    settings: GateSettings,
    seed: int,
    max_file_gb: float,
) -> Evaluation:
    """Send labelled ads through a deployed endpoint and judge the answers.

    Parameters
    ----------
    path
        Labelled ads.
    url
        See :func:`endpoint_at`.
    rows, seed
        So many ads are drawn from the file, with that seed; all where there are fewer.
    settings
        Samples and confidence of the intervals.
    max_file_gb
        See :func:`demand.ingestion.reading.read_ads`.

    Raises
    ------
    AdsFileError
        The file cannot be read, or has no ad that can be measured on.
    ServingError
        Nothing is deployed, or it does not answer, or with an error, or wants a token.
    ModelError
        The files of the version that answered are damaged.
    """
    endpoint = endpoint_at(url)
    ads = labelled_ads(path, rows, seed, max_file_gb)
    observed = observe(
        ads.frame,
        endpoint,
        # A deployment takes another port: what is given by hand stays, all else is followed.
        where_now=deployed_url if url is None else lambda: endpoint.url,
    )
    observed, said = _with_versions(observed, url)
    served = served_versions(observed, ads.frame)
    return judge(ads, observed, served, settings=settings, seed=seed, warnings=said)


def endpoint_at(url: str | None) -> Endpoint:
    """Return what is asked.

    Parameters
    ----------
    url
        See :class:`demand.serving.endpoint.Endpoint`. Requests to it carry the token of
        the environment variable ``DEMAND_API_TOKEN``, if that is set: the environment is no
        part of what ZenML or a report keeps. None for the active deployment, which asks
        for no token.

    Raises
    ------
    ServingError
        It is no URL, the token can be none, or nothing is deployed.
    """
    if url is None:
        return Endpoint(deployed_url())
    return Endpoint(url, token=os.environ.get(TOKEN_VARIABLE) or None)


def deployed_url() -> str:
    """Return the URL of the active deployment.

    Raises
    ------
    ServingError
        There is none; says how to get one.
    """
    deployment = active()
    if deployment is None:
        raise ServingError(
            "nothing is deployed: run `demand serve`, train with `python run.py --pipeline "
            "training`, or name an endpoint with --url"
        )
    return deployment.endpoint


def served_versions(observed: Observed, ads: pd.DataFrame) -> dict[str, Served | None]:
    """Return each version that answered, in order; None where the registry has none such.

    Raises
    ------
    ModelError
        The files of a version are missing or damaged.
    """
    known = {version.version: version for version in Registry().versions()}
    found: dict[str, Served | None] = {}
    for name in dict.fromkeys(map(str, observed.versions)):
        if name not in known:
            found[name] = None
            continue
        answers = champion_predictor(name).predict(ads)
        found[name] = Served(answers, known[name].metrics, known[name].data_md5)
    return found


def _with_versions(observed: Observed, url: str | None) -> tuple[Observed, list[str]]:
    """Return every answer with a version, and warnings about them."""
    champion = Registry().champion()
    warnings = []
    versions = observed.versions
    if None in versions:
        deployment = active() if url is None else None
        silent = deployment.version if deployment else champion.version if champion else None
        if silent is None:
            raise ServingError(
                f"{observed.endpoint} does not say which version answers, and there is no "
                "champion to compare with: run `python run.py --pipeline training`"
            )
        versions = tuple(silent if version is None else version for version in versions)
        warnings.append(f"the endpoint does not say which version answers: taken for {silent}")
    if champion is not None and versions[-1] != champion.version:
        warnings.append(
            f"version {versions[-1]} serves, but the champion is version {champion.version}: "
            "run `demand serve`"
        )
    return replace(observed, versions=versions), warnings
