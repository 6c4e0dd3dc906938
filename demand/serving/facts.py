"""The texts that travel with a model and tell of it: its market and its card.

They are read and encoded once, when a model is loaded, so that telling them costs
nothing. What is wrong with one of them is no reason for a model not to answer.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

# Where they lie in an MLflow model of ours.
CARD_FOLDER = "card"
CARD_FILE = Path(CARD_FOLDER) / "card.json"
MARKET_FILE = Path("market.json")

_BYTES_MAX = 16 * 2**20
_log = logging.getLogger("demand.facts")


@dataclass(frozen=True)
class Fact:
    """A JSON text, or why there is none.

    Parameters
    ----------
    body
        UTF-8; None where it cannot be told.
    why
        One line: the reason, where it cannot.
    """

    body: bytes | None = None
    why: str = "the model that answers was packaged without it"


UNTOLD = Fact()


@dataclass(frozen=True)
class Facts:
    """What can be told of the model that answers.

    Parameters
    ----------
    market
        Of the ads that it learnt from, see :func:`demand.market.market`.
    card
        See :func:`demand.evaluation.card_data.card_data`; ``model_version`` is added.
    """

    market: Fact = UNTOLD
    card: Fact = UNTOLD


NO_FACTS = Facts()


def read_facts(folder: Path, version: str) -> Facts:
    """Read what lies in the folder of an MLflow model.

    Never raises: a file that is absent, unreadable, over 16 MiB or no JSON object becomes
    a :class:`Fact` without a body, and all but the first is said in the log.

    Parameters
    ----------
    folder
        Of the model.
    version
        Of the registered model, for the card.
    """
    return Facts(
        market=_read(folder / MARKET_FILE, dict),
        card=_read(folder / CARD_FILE, lambda card: {**card, "model_version": version}),
    )


def _read(path: Path, complete: Callable[[dict[str, Any]], dict[str, Any]]) -> Fact:
    try:
        with path.open("rb") as file:
            content = file.read(_BYTES_MAX + 1)
        if len(content) > _BYTES_MAX:
            raise ValueError(f"over {_BYTES_MAX >> 20} MiB")
        found = json.loads(content, parse_constant=_refuse)
        if not isinstance(found, dict):
            raise ValueError("no JSON object")
        # Encoded anew, since what is read leniently might be no JSON for others.
        text = json.dumps(
            complete(found), ensure_ascii=False, allow_nan=False, separators=(",", ":")
        )
        return Fact(text.encode())
    except FileNotFoundError:
        return UNTOLD
    except (OSError, ValueError, RecursionError) as error:
        why = error.strerror if isinstance(error, OSError) else str(error)
        _log.warning("%s is damaged and will not be told: %s", path, why)
        return Fact(why=f"the model's {path.name} is damaged; the server's log says more")


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no JSON")
