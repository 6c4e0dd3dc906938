"""Entries and outcomes in a database, through SQLAlchemy: PostgreSQL by URL."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from sqlalchemy import (
    JSON,
    URL,
    Boolean,
    Column,
    DateTime,
    Double,
    Engine,
    Integer,
    MetaData,
    Table,
    Text,
    create_engine,
    delete,
    func,
    insert,
    make_url,
    select,
)
from sqlalchemy.exc import ArgumentError

from demand.errors import ConfigError
from demand.production_log.entries import COLUMNS, Columns, arrow_schema

if TYPE_CHECKING:
    import pyarrow as pa

_TYPES: dict[str, Any] = {
    "time": DateTime(timezone=True),
    "text": Text(),
    "integer": Integer(),
    "number": Double(),
    "texts": JSON(),
    "flag": Boolean(),
}
_TABLES = MetaData()
ENTRIES = Table(
    "demand_predictions",
    _TABLES,
    *(Column(name, _TYPES[kind], index=name == "at") for name, kind in COLUMNS.items()),
)
# One row an ad or a prediction; "" where it is named by the other.
OUTCOMES = Table(
    "demand_outcomes",
    _TABLES,
    Column("item_id", Text(), primary_key=True),
    Column("request_id", Text(), primary_key=True),
    Column("row", Integer(), primary_key=True, autoincrement=False),
    Column("deal_probability", Double(), nullable=False),
    Column("at", DateTime(timezone=True), nullable=False),
)
# Two that make the tables at once would fail; any number that is always the same.
_MAKING = 7_316_551
# A database that hangs must not keep a server from ending.
_CONNECT_S, _STATEMENT_MS = 5, 8_000
_ROWS_AT_ONCE = 10_000


def postgresql_engine(url: str) -> Engine:
    """Return the engine of a database, not yet connected to.

    ConfigError: the URL is not that of a PostgreSQL database; it is not quoted, since it may have
    a password.
    """
    try:
        parts = make_url(url)
        if parts.get_backend_name() != "postgresql":
            raise ValueError("another database")
    except (ArgumentError, ValueError):
        raise ConfigError(
            "DEMAND_LOG_URL must be like postgresql://USER:PASSWORD@HOST/DATABASE, or off"
        ) from None
    options = f"-c statement_timeout={_STATEMENT_MS}"
    settings = {"connect_timeout": _CONNECT_S, "options": options}
    return _engine(parts.set(drivername="postgresql+psycopg"), settings)


def sqlite_engine(path: str) -> Engine:
    """Return the engine of a file, which is made when it is first written to."""
    return _engine(URL.create("sqlite", database=path), {"timeout": 30})


def _engine(url: URL, settings: dict[str, Any]) -> Engine:
    # Errors with the values of a statement would bring ids of items into logs.
    return create_engine(url, connect_args=settings, pool_pre_ping=True, hide_parameters=True)


def make_tables(engine: Engine, *tables: Table) -> None:
    """Make the tables that are not there yet."""
    with engine.begin() as connection:
        if engine.dialect.name == "postgresql":
            connection.execute(select(func.pg_advisory_xact_lock(_MAKING)))
        _TABLES.create_all(connection, tables=tables)


class DatabaseSink:
    """Inserts entries, and deletes those that are too old once a day; not for several threads."""

    def __init__(self, engine: Engine, salt: Callable[[], bytes], retention_days: int) -> None:
        self._engine, self._make_salt = engine, salt
        self._retention = datetime.timedelta(days=retention_days)
        self._salt = b""
        self._tidied: datetime.date | None = None

    def salt(self) -> bytes:
        """Return what sellers are hashed with."""
        self._salt = self._salt or self._make_salt()
        return self._salt

    def write(self, entries: Columns) -> None:
        """Insert entries, all in one transaction."""
        now = datetime.datetime.now(datetime.UTC)
        if self._tidied != now.date():
            make_tables(self._engine, ENTRIES)
        times = [datetime.datetime.fromtimestamp(us / 1e6, datetime.UTC) for us in entries["at"]]
        columns = {**entries, "at": times}
        rows = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
        with self._engine.begin() as connection:
            connection.execute(insert(ENTRIES), rows)
            if self._tidied != now.date():
                connection.execute(delete(ENTRIES).where(ENTRIES.c.at < now - self._retention))
        self._tidied = now.date()

    def close(self) -> None:
        """Close the connection."""
        self._engine.dispose()


def read_entries(engine: Engine, start: datetime.datetime, end: datetime.datetime) -> pa.Table:
    """Return all entries with start <= at < end, by :func:`arrow_schema`."""
    import pyarrow as pa

    make_tables(engine, ENTRIES)
    at, order = ENTRIES.c.at, (ENTRIES.c.at, ENTRIES.c.request_id, ENTRIES.c.row)
    query = select(ENTRIES).where(at >= start, at < end).order_by(*order)
    schema = arrow_schema()
    with engine.connect().execution_options(yield_per=_ROWS_AT_ONCE) as connection:
        parts = connection.execute(query).mappings().partitions()
        tables = [pa.Table.from_pylist(list(map(dict, rows)), schema) for rows in parts]
    return pa.concat_tables([schema.empty_table(), *tables])
