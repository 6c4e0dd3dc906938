"""Bodies of requests as JSON, strictly: what Python adds to the format is refused."""

from __future__ import annotations

import json

from demand.errors import AdError


def _refuse(constant: str) -> None:
    raise AdError(f"{constant} is no JSON number: leave the field out, or send null")


# Made once: json.loads would make one a body, which takes as long as reading an ad.
_DECODER = json.JSONDecoder(parse_constant=_refuse)


def decode_json(body: bytes) -> object:
    """Decode JSON, without the NaN and Infinity that Python adds to it.

    Raises
    ------
    AdError
        It is no JSON, says NaN or Infinity, or is nested too deeply.
    """
    try:
        # As json.loads, which knows UTF-16 by its zeros, and keeps halves of surrogate pairs.
        text = body.decode(json.detect_encoding(body), "surrogatepass")
        return _DECODER.decode(text)
    except RecursionError:
        raise AdError("the body is nested too deeply") from None
    except ValueError as error:
        raise AdError(f"the body is not valid JSON: {error}") from None
