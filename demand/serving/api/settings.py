"""What an operator of the API may choose."""

from __future__ import annotations

from dataclasses import dataclass

TOKEN_VARIABLE = "DEMAND_API_TOKEN"  # noqa: S105 - a name


def why_no_token(token: str) -> str | None:
    """Return why a token cannot be sent, without quoting it, or None where it can.

    What sends it would refuse it with a message that has it, and a message may end up in a log.
    """
    if token.isascii() and token.isprintable() and token == token.strip():
        return None
    return (
        f"the token in {TOKEN_VARIABLE} has letters that no header may have, or white space at an "
        "end: set it to what the API was started with, without line breaks"
    )


@dataclass(frozen=True)
class ApiSettings:
    """Limits and doors of the API.

    Parameters
    ----------
    body_bytes
        Largest body; 413 beyond.
    ads
        Most ads in a request; 413 beyond. This bounds the time of an answer, too.
    in_flight
        Requests of a few ads that a worker has at a time, all but one waiting some
        milliseconds for their turn; 503 beyond.
    batches
        Larger requests that a worker has at a time; 503 beyond.
    passed_on
        Requests that a worker has with the model server at a time, those included that
        wait until one that was killed is back; 503 beyond.
    workers
        Processes that answer: one interpreter keeps one core busy. They share the pages of
        memory that they were forked with.
    token
        Bearer token that requests must carry; None: none is needed.
    origins
        Origins whose pages may ask (CORS); none by default.
    access_log
        One line of JSON a request on standard error.
    """

    body_bytes: int = 16 * 2**20
    ads: int = 10_000
    in_flight: int = 64
    batches: int = 16
    passed_on: int = 128
    workers: int = 1
    token: str | None = None
    origins: tuple[str, ...] = ()
    access_log: bool = True
