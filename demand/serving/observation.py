"""What an endpoint answers to a table of ads, and how fast."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd

from demand.batch import ID
from demand.errors import ServingError
from demand.metrics import Floats
from demand.progress import rows_shown
from demand.serving.endpoint import Endpoint
from demand.serving.mlflow_model import records

ADS_PER_REQUEST = 500


@dataclass(frozen=True)
class Observed:
    """What the endpoint answered.

    Parameters
    ----------
    answers
        Probabilities, shape (n,).
    versions
        The version that gave each answer, n of them; None where it did not say.
    seconds
        Each request took, shape (requests,).
    endpoint
        URL of the last answer.
    """

    answers: Floats
    versions: tuple[str | None, ...]
    seconds: Floats
    endpoint: str


def observe(
    ads: pd.DataFrame,
    endpoint: Endpoint,
    *,
    where_now: Callable[[], str],
    ads_per_request: int = ADS_PER_REQUEST,
) -> Observed:
    """Send ads through an endpoint, one request after the other.

    Parameters
    ----------
    ads
        Typed ads, shape (n, columns); their target and ``item_id`` are not sent.
    endpoint
        It is closed afterwards.
    where_now
        URL of what serves now, asked when a request fails: where another server took
        over meanwhile, the request goes to that one.
    ads_per_request
        At most.

    Raises
    ------
    ServingError
        See :meth:`demand.serving.endpoint.Endpoint.ask`.
    """
    answers: list[float] = []
    versions: list[str | None] = []
    seconds: list[float] = []
    with contextlib.ExitStack() as stack:
        stack.enter_context(endpoint)
        show = stack.enter_context(rows_shown("ads answered", len(ads)))
        for first in range(0, len(ads), ads_per_request):
            sent = records(ads.iloc[first : first + ads_per_request].drop(columns=ID))
            try:
                reply = endpoint.ask(sent)
            except ServingError:
                now = where_now()
                if now == endpoint.url:
                    raise
                endpoint = stack.enter_context(Endpoint(now))
                reply = endpoint.ask(sent)
            answers += reply.answers
            versions += reply.versions
            seconds.append(reply.seconds)
            show(len(answers))
    return Observed(np.array(answers), tuple(versions), np.array(seconds), endpoint.url)
