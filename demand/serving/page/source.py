"""How the API is just now, asked once for all who have the page open."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from demand.serving.page.client import Client, Kind, Trouble, TroubleKind

# An answer about the API's state is good for so long, in seconds.
_FRESH_S = 2.0
# A model server does not say its version: its facts are asked for anew after this time.
_FACTS_S = 60.0


@dataclass(frozen=True)
class Market:
    """Facts of the ads that the model learnt from, as ``GET /market`` tells them."""

    facts: Mapping[str, Any]

    def parents(self) -> list[str]:
        """Return the upper level of categories, the one with most ads first."""
        return list(dict.fromkeys(category["parent"] for category in self._categories()))

    def categories(self, parent: str | None) -> list[str]:
        """Return the categories of one upper level, or all of them."""
        return [
            category["name"]
            for category in self._categories()
            if not parent or category["parent"] == parent
        ]

    def category(self, name: str | None) -> Mapping[str, Any] | None:
        """Return the facts of one category; None where it is not known."""
        return next((c for c in self._categories() if c["name"] == name), None)

    def meant(self, typed: str) -> str:
        """Return the category whose beginning was typed, or what was typed."""
        names = self.categories(None)
        wanted = typed.casefold()
        same = [name for name in names if name.casefold() == wanted]
        begun = [name for name in names if name.casefold().startswith(wanted)]
        return next(iter(same or (begun if len(begun) == 1 else [])), typed)

    def regions(self) -> list[str]:
        """Return the regions, the one with most ads first."""
        return [region["name"] for region in self.facts.get("regions", ())]

    def cities(self, region: str | None) -> list[str]:
        """Return the cities of one region, or all of them."""
        regions = self.facts.get("regions", ())
        found = [r["cities"] for r in regions if not region or r["name"] == region]
        return list(dict.fromkeys(city for cities in found for city in cities))

    def params(self, category: str | None, values: list[str | None]) -> list[str]:
        """Return the values of the next param below some, of which none may be missing."""
        level = (self.category(category) or {}).get("params", [])
        for value in values:
            level = next((node["next"] for node in level if node["value"] == value), [])
        return [node["value"] for node in level]

    def _categories(self) -> list[Mapping[str, Any]]:
        return list(self.facts.get("categories", ()))


@dataclass(frozen=True)
class Snapshot:
    """The API at one moment.

    Parameters
    ----------
    trouble
        What is wrong, and in the API's words; None where it answers.
    kind, version
        What answers there: of the last time that it did.
    market, card
        Facts of its model; None where it has none.
    revision
        Grows whenever ``market`` or ``card`` change.
    """

    trouble: TroubleKind | None
    detail: str
    kind: Kind | None
    version: str | None
    market: Market | None
    card: Mapping[str, Any] | None
    revision: int


class Source:
    """The API with its facts; may be used by many threads."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self._asking = threading.Lock()
        self._last = Snapshot(None, "", None, None, None, None, 0)
        self._asked = self._told = float("-inf")

    def snapshot(self, *, fresh: bool = False) -> Snapshot:
        """Return how the API is, at most two seconds old; or, with ``fresh``, now."""
        if not fresh and time.monotonic() - self._asked < _FRESH_S:
            return self._last
        if self._asked == float("-inf") or fresh:
            self._asking.acquire()
        elif not self._asking.acquire(blocking=False):
            # Somebody is asking, perhaps for seconds: nobody else needs to wait for that.
            return self._last
        try:
            if fresh or time.monotonic() - self._asked >= _FRESH_S:
                self._last = self._look()
                self._asked = time.monotonic()
        finally:
            self._asking.release()
        return self._last

    def _look(self) -> Snapshot:
        last = self._last
        try:
            kind, version = self.client.kind()
            same = (kind, version) == (last.kind, last.version)
            if same and (kind == "flask" or time.monotonic() - self._told < _FACTS_S):
                return Snapshot(None, "", kind, version, last.market, last.card, last.revision)
            market, card = self.client.facts("/market"), self.client.facts("/card")
            self._told = time.monotonic()
        except Trouble as trouble:
            return Snapshot(
                trouble.kind,
                trouble.detail,
                last.kind,
                last.version,
                last.market,
                last.card,
                last.revision,
            )
        facts = None if market is None else Market(market)
        changed = not same or (facts, card) != (last.market, last.card)
        return Snapshot(None, "", kind, version, facts, card, last.revision + changed)


def answering(source: Source) -> Snapshot:
    """Return how the API is now, once it has said which kind it is.

    Raises
    ------
    Trouble
        It has not answered yet.
    """
    snapshot = source.snapshot(fresh=True)
    if snapshot.kind is None:
        raise Trouble(snapshot.trouble or "down", snapshot.detail)
    return snapshot
