"""An entry of the prediction log: what was answered to one ad, without its texts.

Entries are kept as columns, since a request may have thousands of ads.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import cache
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from demand.schema.arrays import Floats
from demand.schema.columns import INPUT_COLUMNS
from demand.schema.records import Typed

if TYPE_CHECKING:
    import pyarrow as pa

# What may name a request: letters that are harmless in logs, headers and databases.
REQUEST_ID = r"[A-Za-z0-9._-]{1,64}"
Kind = Literal["time", "text", "integer", "number", "texts", "flag"]
COLUMNS: dict[str, Kind] = {
    "at": "time",  # of the answer, UTC; microseconds since 1970 before it is stored
    "request_id": "text",
    "row": "integer",  # position of the ad in its request, from 0
    "item_id": "text",  # None where the request had none
    "seller": "text",  # salted hash of user_id, 16 hexadecimal digits
    "model_version": "text",
    "deal_probability": "number",
    "low": "number",  # of the interval that was told, None where none was
    "high": "number",
    "category_name": "text",
    "region": "text",
    "user_type": "text",
    "price": "number",
    "title_length": "integer",  # in characters, 0 where missing
    "description_length": "integer",
    "missing": "texts",  # columns of the ad without a value
    "unknown": "texts",  # columns with a value that the model has not learnt from
    "probe": "flag",  # asked by a check, or a variant of an ad: not for a seller
    "shadow": "flag",  # the answer of a second model, which nobody got
}
Columns = dict[str, list[Any]]

_NAMES = tuple(column.name for column in INPUT_COLUMNS)
_HASH_BYTES = 8


class Answered(NamedTuple):
    """A request with n ads as it was answered; holds what the answer was made of, no copies."""

    at: float  # seconds since 1970
    request_id: str
    model_version: str
    ads: Typed  # as demand.schema.records.typed_records returns it, shape (n,) each
    probabilities: Floats  # shape (n,)
    probes: Collection[int]  # rows that no seller asked about
    interval: tuple[Floats, Floats] | None = None  # low and high, shape (n,) each
    unknown: Mapping[int, list[str]] = {}  # by row: columns whose values are not known
    rows: Sequence[int] | None = None  # of the n ads in the request; None: all of it
    shadow: bool = False


def entries_of(answered: Iterable[Answered], salt: bytes) -> Columns:
    """Return an entry for each ad, in their order, as :data:`COLUMNS`."""
    entries: Columns = {name: [] for name in COLUMNS}
    for request in answered:
        ads = {name: request.ads[name].tolist() for name in _NAMES}
        count = len(request.probabilities)
        entries["at"] += [int(request.at * 1e6)] * count
        entries["request_id"] += [request.request_id] * count
        entries["row"] += range(count) if request.rows is None else request.rows
        entries["item_id"] += ads["item_id"]
        entries["seller"] += [_hash(seller, salt) for seller in ads["user_id"]]
        entries["model_version"] += [request.model_version] * count
        entries["deal_probability"] += request.probabilities.tolist()
        for name, side in zip(("low", "high"), request.interval or (None, None), strict=True):
            entries[name] += [None] * count if side is None else side.tolist()
        for name in ("category_name", "region", "user_type"):
            entries[name] += ads[name]
        entries["price"] += [None if price != price else price for price in ads["price"]]
        entries["title_length"] += [len(text or "") for text in ads["title"]]
        entries["description_length"] += [len(text or "") for text in ads["description"]]
        entries["missing"] += [
            # NaN alone differs from itself.
            [name for name, cell in zip(_NAMES, ad, strict=True) if cell is None or cell != cell]
            for ad in zip(*ads.values(), strict=True)
        ]
        entries["unknown"] += [request.unknown.get(row, []) for row in range(count)]
        entries["probe"] += [row in request.probes for row in range(count)]
        entries["shadow"] += [request.shadow] * count
    return entries


def _hash(seller: str | None, salt: bytes) -> str | None:
    if seller is None:
        return None
    return blake2b(seller.encode(), digest_size=_HASH_BYTES, key=salt).hexdigest()


@cache
def arrow_schema() -> pa.Schema:
    """Return :data:`COLUMNS` as Arrow's types."""
    import pyarrow as pa

    types = {
        "time": pa.timestamp("us", "UTC"),
        "text": pa.string(),
        "integer": pa.int32(),
        "number": pa.float64(),
        "texts": pa.list_(pa.string()),
        "flag": pa.bool_(),
    }
    return pa.schema([(name, types[kind]) for name, kind in COLUMNS.items()])
