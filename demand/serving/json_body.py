"""Bodies of requests as JSON, strictly: what Python adds to the format is refused."""

from __future__ import annotations

import json

from demand.errors import AdError


def decode_json(body: bytes) -> object:
    """Decode JSON, without the NaN and Infinity that Python adds to it.

    Raises
    ------
    AdError
        It is no JSON, says NaN or Infinity, or is nested too deeply.
    """

    def refuse(constant: str) -> None:
        raise AdError(f"{constant} is no JSON number: leave the field out, or send null")

    try:
        return json.loads(body, parse_constant=refuse)
    except RecursionError:
        raise AdError("the body is nested too deeply") from None
    except ValueError as error:
        raise AdError(f"the body is not valid JSON: {error}") from None
