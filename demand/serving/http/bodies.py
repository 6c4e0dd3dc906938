"""The ads of a request, in any of its formats, before they cost much.

JSON is read strictly: what Python adds to the format is refused. For the API it is one ad or a
list; for the model server one of the four forms of MLflow's protocol, which are read here rather
than by MLflow: its schema enforcement drops unknown columns without a word, mixes up rows of
``instances`` that leave out different optional columns, and takes longer for one ad than the
prediction. A CSV or Parquet body is read as a file of that format is, so an ad gives the same
typed row in both; but as in JSON, what is wrong with an ad is an error that names it.

Each format says how much it holds before it is unpacked: CSV by its line feeds, Parquet by its
footer and its dictionaries, JSON by its separators. Decoded, it takes up to a hundred times its
size, since each ``[]`` or ``1,`` of it becomes an object; so a body with more separators than
its ads could have is refused before.
"""

from __future__ import annotations

import io
import json
import re
from email.message import Message
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, cast

from demand.data.archives import OpenedAds
from demand.data.tables import Bounds, Table, open_table
from demand.errors import AdError, AdsBombError, AdsFileError, TooLargeError, UnsupportedFormatError
from demand.schema.columns import COLUMN, INPUT_COLUMNS
from demand.schema.error_text import json_kind, quote_json
from demand.schema.records import check_names, frame_from_columns, frame_from_records

if TYPE_CHECKING:
    import pandas as pd

JSON, CSV, PARQUET = "application/json", "text/csv", "application/vnd.apache.parquet"
# As MLflow's scoring server names them.
CONTENT_TYPES = (JSON, CSV, PARQUET)
FORMS = ("dataframe_records", "dataframe_split", "instances", "inputs")
UNPACKED_BYTES_MAX = 64 * 2**20

# Known columns, an index, and some that only need to be named in an error.
_COLUMNS_MAX = 1_000
# Strange keys that a message names: a body may have a million.
_NAMED_MAX = 5
# Descriptions have line feeds, on average fewer than this; one may have 20,000.
_LINES_PER_AD, _LINES_MAX = 40, 20_000
_UTF_8 = ("utf-8", "utf8", "us-ascii")
_CHARSETS = {JSON: (*_UTF_8, "utf-16", "utf-32"), CSV: _UTF_8}
_PACKED = (b"\x1f\x8b", b"PK\x03\x04", b"\x28\xb5\x2f\xfd", b"BZh", b"\xfd7zXZ")
_NAME = "the body"

# Separators that an ad takes in any form of JSON, between its fields and its own; what stands
# around the ads; and the blocks in which they are counted.
_PER_AD, _AROUND, _BLOCK = len(INPUT_COLUMNS) + 1, 1_000, 1_000
# So many separators, whatever lies between them; those in texts are none. Possessive, so
# that nothing is read twice, and a text without an end goes to the end.
_SEPARATOR = r'(?:(?:[^"\[{,]++|"(?:[^"\\]++|\\.)*+"?)*+[\[{,])'
_SEPARATORS = re.compile(f"{_SEPARATOR}{{{_BLOCK}}}+", re.DOTALL)


def _refuse(constant: str) -> None:
    raise AdError(f"{constant} is no JSON number: leave the field out, or send null")


# Made once: json.loads would make one a body, which takes as long as reading an ad.
_DECODER = json.JSONDecoder(parse_constant=_refuse)


def frame_from_body(
    body: bytes, content_type: str, *, ads: int, content_encoding: str = ""
) -> pd.DataFrame:
    """Read the body of a request to the model server, whose size was bounded by the caller.

    Content type and encoding are the headers of these names, "" where there are none. The frame
    is that of :func:`demand.schema.records.frame_from_columns`, 1 <= n <= ads.

    Raises
    ------
    UnsupportedFormatError
        Another content type, charset or encoding, or a compressed body. HTTP status 415.
    TooLargeError
        More ads or columns, or Parquet that unpacks to more than 64 MB. HTTP status 413.
    AdError
        Names the field and, where there is one, the ad. HTTP status 400.
    """
    kind = _format(body, content_type, content_encoding)
    if kind == JSON:
        return frame_from_payload(_decode(body, ads), ads)
    if not body:
        raise AdError("the body is empty: it has no header and no ads")
    if kind == CSV and body.count(b"\n") > ads * _LINES_PER_AD + _LINES_MAX:
        raise TooLargeError(f"more lines in one request than {ads:,} ads have")
    stream = io.BufferedReader(cast(io.RawIOBase, io.BytesIO(body)))
    opened = OpenedAds(stream, _NAME, _NAME, kind == PARQUET, len(body))
    try:
        table = open_table(opened, Bounds(UNPACKED_BYTES_MAX, ads, _COLUMNS_MAX))
        return frame_from_columns(_columns(table, ads))
    except AdsBombError as error:
        raise TooLargeError(error.what) from error
    except AdsFileError as error:
        raise AdError(str(error), row=getattr(error, "row", None)) from error


def ads_from_json(body: bytes, ads_max: int, what: str = "ads") -> tuple[list[object], bool]:
    """Decode one ad or a list of ads, not yet looked at, and say whether it was a list.

    What else has no more values than an ad may come so, too, and has its name in errors.
    TooLargeError: more ads, or more values than these have. AdError: it is no JSON, says NaN or
    Infinity, or is nested too deeply.
    """
    asked = _decode(body, ads_max)
    if not isinstance(asked, list):
        return [asked], False
    _refuse_many_ads(len(asked), ads_max, what)
    return asked, True


def frame_from_payload(payload: object, ads_max: int) -> pd.DataFrame:
    """Read decoded JSON in any of :data:`FORMS`, as :func:`frame_from_body`."""
    known = ", ".join(FORMS)
    if not isinstance(payload, dict):
        raise AdError(f"the body must be an object with one of {known}")
    forms = [key for key in payload if key != "params" or payload[key]]
    if len(forms) != 1 or forms[0] not in FORMS:
        named = ", ".join(map(quote_json, forms[:_NAMED_MAX])) or "none"
        raise AdError(f"the body must have exactly one of {known}, but it has {named}")
    form, ads = forms[0], payload[forms[0]]
    if form == "dataframe_split":
        ads = _columns_of_split(ads)
    elif form == "dataframe_records" or isinstance(ads, list):
        _refuse_many_ads(len(ads) if isinstance(ads, list) else 0, ads_max)
        return frame_from_records(ads)
    elif not isinstance(ads, dict):
        raise AdError(f"{form} must be a list of ads, or an object of columns")
    elif not any(isinstance(values, list) for values in ads.values()):
        return frame_from_records([ads])
    elif not all(isinstance(values, list) for values in ads.values()):
        raise AdError(f"{form} mixes lists and single values: give each column a list")
    _refuse_many_ads(max(map(len, ads.values()), default=0), ads_max)
    return frame_from_columns(ads)


def _columns_of_split(table: object) -> dict[str, list[Any]]:
    if not isinstance(table, dict):
        raise AdError(f"dataframe_split must be an object, not {json_kind(table)}")
    columns, data = table.get("columns"), table.get("data")
    if not isinstance(columns, list) or not isinstance(data, list):
        raise AdError("dataframe_split must have the lists columns and data")
    if other := sorted(set(table) - {"columns", "data", "index"}):
        raise AdError(f"dataframe_split has no {', '.join(map(quote_json, other[:_NAMED_MAX]))}")
    if not all(isinstance(name, str) for name in columns):
        raise AdError("dataframe_split: the columns must be named by texts")
    if len(set(columns)) < len(columns):
        raise AdError("dataframe_split names a column twice")
    for row, values in enumerate(data):
        if not isinstance(values, list) or len(values) != len(columns):
            raise AdError(f"must be a list of {len(columns)} values", row=row)
    return {name: [values[i] for values in data] for i, name in enumerate(columns)}


def _decode(body: bytes, ads_max: int) -> object:
    """Decode JSON in UTF-8, or in UTF-16 or UTF-32 as RFC 4627 tells them apart."""
    try:
        # As json.loads, which knows UTF-16 by its zeros, and keeps halves of surrogate pairs.
        text = body.decode(json.detect_encoding(body), "surrogatepass")
        _refuse_many_values(text, ads_max)
        return _DECODER.decode(text)
    except RecursionError:
        raise AdError("the body is nested too deeply") from None
    except ValueError as error:
        raise AdError(f"the body is not valid JSON: {error}") from None


def _refuse_many_ads(ads: int, ads_max: int, what: str = "ads") -> None:
    if ads > ads_max:
        raise TooLargeError(f"{ads:,} {what} in one request; at most {ads_max:,}")


def _refuse_many_values(text: str, ads_max: int) -> None:
    most = ads_max * _PER_AD + _AROUND
    # Nearly all requests have fewer, those in their texts included.
    if text.count(",") + text.count("[") + text.count("{") <= most:
        return
    at = found = 0
    while found <= most and (block := _SEPARATORS.match(text, at)):
        at, found = block.end(), found + _BLOCK
    if found > most:
        raise TooLargeError(
            f"the request has more values than {ads_max:,} ads, the most that may come in one"
        )


def _format(body: bytes, content_type: str, content_encoding: str) -> str:
    """Return the content type of what can be read."""
    header = Message()
    header["content-type"] = content_type
    kind, known = header.get_content_type(), ", ".join(CONTENT_TYPES)
    if kind not in CONTENT_TYPES:
        raise UnsupportedFormatError(
            f"{quote_json(content_type)} is none of the content types {known}"
        )
    charset = str(header.get_param("charset", "utf-8")).lower()
    if charset not in _CHARSETS.get(kind, (charset,)):
        raise UnsupportedFormatError(f"{kind} in {quote_json(charset)} is not read: send UTF-8")
    if header.get_param("header") == "absent":
        raise UnsupportedFormatError("text/csv without a header is not read: name the columns")
    if kind == PARQUET and find_spec("pyarrow") is None:  # as in the image
        raise UnsupportedFormatError(f"{PARQUET} is not read here: send {JSON} or {CSV}")
    if content_encoding.strip().lower() not in ("", "identity") or body.startswith(_PACKED):
        raise UnsupportedFormatError("send the body as it is, not compressed")
    return kind


def _columns(table: Table, ads: int) -> dict[str, list[Any]]:
    """Return the values of all ads by column; the first that is not understood is an error."""
    from demand.data.reading import ColumnParser

    check_names(dict.fromkeys(table.header))
    parsers = {name: ColumnParser(COLUMN[name]) for name in table.header}
    values: dict[str, list[Any]] = {name: [] for name in table.header}
    rows = 0
    for chunk in table.read(table.header):
        if chunk.headers:
            raise AdError(f"line {chunk.headers[0]} says the header again: send ads alone")
        _refuse_many_ads(rows + chunk.rows, ads)
        flaws = []
        for name, parser in parsers.items():
            typed, flawed = parser.parse(chunk.columns[name])
            values[name] += list(typed)
            flaws += [(row, name, reason) for row, reason in flawed]
        if flaws:
            row, name, reason = min(flaws)
            value = quote_json(chunk.columns[name][row])
            raise AdError(f"{name}: {reason}, but it is {value}", field=name, row=rows + row)
        rows += chunk.rows
    return values
