"""What became of ads: reported days later, kept once each, and joined to what was answered."""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Self

import numpy as np
from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    TypeAdapter,
    ValidationError,
    model_validator,
)
from pydantic_core import PydanticCustomError

from demand.errors import OutcomeError
from demand.production_log.entries import REQUEST_ID
from demand.schema.cells import parser_of
from demand.schema.columns import COLUMN, TARGET

if TYPE_CHECKING:
    import pandas as pd
    from sqlalchemy import Engine

_FIRST = datetime.datetime(2000, 1, 1, tzinfo=datetime.UTC)
_LAST = datetime.datetime(2100, 1, 1, tzinfo=datetime.UTC)
_ROW_MAX = 2**31 - 1
_ROWS_AT_ONCE = 10_000
_read_id = parser_of(COLUMN["item_id"])


def _item_id(text: str) -> str:
    value, reason = _read_id(text)
    if value is None or reason is not None:
        raise PydanticCustomError("item_id", "must be the id of an ad")
    return str(value)


def _only_text(value: object) -> object:
    if not isinstance(value, str):
        raise PydanticCustomError("time", "must be a time such as 2026-03-28T12:00:00Z")
    return value


Time = Annotated[
    AwareDatetime,
    BeforeValidator(_only_text, json_schema_input_type=datetime.datetime),
    Field(strict=False, ge=_FIRST, lt=_LAST),
]


class Outcome(BaseModel):
    """Whether an ad ended in a deal, or how likely that is known to have been.

    It names the ad by ``item_id``, or one answer by ``request_id`` and, in a list, ``row``.
    """

    model_config = ConfigDict(
        extra="forbid",
        strict=True,
        frozen=True,
        json_schema_extra={"oneOf": [{"required": ["item_id"]}, {"required": ["request_id"]}]},
    )

    item_id: Annotated[str, Field(min_length=1, max_length=64), AfterValidator(_item_id)] = ""
    request_id: Annotated[str, Field(pattern=f"^{REQUEST_ID}$")] = ""
    row: Annotated[int, Field(ge=0, le=_ROW_MAX, description="of the ad in its request")] = 0
    deal_probability: Annotated[float, Field(ge=0.0, le=1.0, allow_inf_nan=False)]
    time: Annotated[Time | None, Field(description="when it was known; now by default")] = None

    @model_validator(mode="after")
    def _one_name(self) -> Self:
        if bool(self.item_id) == bool(self.request_id):
            raise PydanticCustomError("name", "needs either item_id or request_id")
        return self


_OUTCOME = TypeAdapter(Outcome)


def outcomes_from_json(reported: Sequence[object]) -> list[Outcome]:
    """Read decoded JSON, at least one outcome.

    :class:`demand.errors.OutcomeError`: there is none, or one is wrong; the first such is named.
    """
    if not reported:
        raise OutcomeError("there is no outcome in the request")
    return [_read(each, row) for row, each in enumerate(reported)]


def _read(reported: object, row: int) -> Outcome:
    try:
        return _OUTCOME.validate_python(reported)
    except ValidationError as error:
        found = error.errors(include_url=False, include_input=False)[0]
        field = str(found["loc"][0])[:100] if found["loc"] else None
        problem = f"{field}: {found['msg']}" if field else found["msg"]
        raise OutcomeError(problem, field=field, row=row) from None


def outcomes_from_file(path: Path, max_file_gb: float) -> Iterator[Outcome]:
    """Yield the outcomes of labelled ads, as training reads them, that have an id and a target.

    AdsFileError: the file cannot be read as labelled ads.
    """
    from demand.data.reading import stream_ads

    for part in stream_ads(path, labelled=True, max_file_gb=max_file_gb):
        for item_id, target in zip(part.frame["item_id"], part.frame[TARGET], strict=True):
            if item_id is not None and 0.0 <= target <= 1.0:
                yield Outcome.model_construct(item_id=item_id, deal_probability=float(target))


class OutcomeStore:
    """One outcome an ad or answer; the latest counts, and the same one again changes nothing."""

    def __init__(self, engine: Engine) -> None:
        from demand.production_log.database import OUTCOMES, make_tables

        self._engine, self._table = engine, OUTCOMES
        make_tables(engine, OUTCOMES)

    def add(self, outcomes: Iterable[Outcome]) -> int:
        """Keep all outcomes, and return how many; some thousands a transaction."""
        from sqlalchemy.dialects import postgresql, sqlite

        now = datetime.datetime.now(datetime.UTC)
        made = postgresql.insert if self._engine.dialect.name == "postgresql" else sqlite.insert
        statement: Any = made(self._table)
        new, keys = statement.excluded, [column.name for column in self._table.primary_key]
        statement = statement.on_conflict_do_update(
            index_elements=keys,
            set_={"deal_probability": new.deal_probability, "at": new.at},
            where=self._table.c.at <= new.at,
        )
        added, left = 0, iter(outcomes)
        while rows := [_row(each, now) for each in islice(left, _ROWS_AT_ONCE)]:
            with self._engine.begin() as connection:
                connection.execute(statement, rows)
            added += len(rows)
        return added

    def read(self) -> pd.DataFrame:
        """Return all outcomes: item_id, request_id, row, deal_probability, at."""
        import pandas as pd
        from sqlalchemy import select

        with self._engine.connect() as connection:
            rows = connection.execute(select(self._table)).all()
        return pd.DataFrame(rows, columns=[column.name for column in self._table.columns])


def _row(outcome: Outcome, now: datetime.datetime) -> dict[str, Any]:
    row = outcome.model_dump(include={"item_id", "request_id", "row", "deal_probability"})
    return {**row, "at": (outcome.time or now).astimezone(datetime.UTC)}


def join_outcomes(entries: pd.DataFrame, outcomes: pd.DataFrame) -> pd.DataFrame:
    """Return n entries with a column ``outcome``, NaN where none was reported.

    One of the answer itself comes before one of the ad.
    """
    target = outcomes[TARGET].astype("float64").rename("outcome")
    found = np.full(len(entries), np.nan)
    keys: Sequence[list[str]] = (["request_id", "row"], ["item_id"])
    for key in keys:
        named = outcomes[outcomes[key[0]] != ""]
        known = named[key].assign(outcome=target)
        joined = entries[key].merge(known, on=key, how="left")["outcome"].to_numpy()
        found = np.where(np.isnan(found), joined, found)
    return entries.assign(outcome=found)
