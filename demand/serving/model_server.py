"""The process that serves one model: MLflow's scoring server with ads understood.

``python -m demand.serving.model_server FOLDER --port N`` loads an MLflow model as
``mlflow models serve --env-manager local`` does and answers as it does: ``GET /ping``,
``/health``, ``/version``, ``POST /invocations``. ``GET /market`` and ``/card`` are ours: they
tell of the model, where it was packaged with them. What differs is ``/invocations``:

- bodies are read by :mod:`demand.serving.http.bodies`, which bounds every format before it is
  unpacked and names the field and the ad that are wrong, unknown columns among them (MLflow
  drops those without a word);
- an error is MLflow's ``{"error_code", "message"}`` without its ``stack_trace``, for
  which MLflow has no switch, and without the request's data in the message;
- a prediction ends when its time is over, and only so many run or wait.

MLflow's pages for people (``/docs``) load scripts from another host and are not served.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import sys
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from starlette.exceptions import HTTPException

from demand.errors import AdError, DemandError, ModelError, TooLargeError, UnsupportedFormatError
from demand.production_log.store import current_log
from demand.production_log.writer import LogWriter
from demand.registry.model_files import NO_FACTS, Facts, read_facts
from demand.registry.tracking import quiet_mlflow
from demand.serving.http.bodies import frame_from_body
from demand.serving.http.middleware import (
    PROBE_HEADER,
    REQUEST_ID_HEADER,
    VERSION_HEADER,
    Admission,
    Headers,
    Hosts,
    RequestLimits,
    probe_rows,
    request_id,
    send_answer,
    whole_body,
)
from demand.serving.http.server import DroppingHandler, serve

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from demand.model.predictor import Predictor

# One worker's end is nobody's wait.
_WORKERS = 2
# Ads between two looks at the clock.
_BLOCK = 1000
# Bodies of so many bytes take some milliseconds, and do not wait for those that take long.
_SMALL = 2**16
# What MLflow answers itself.
_MLFLOWS = ("/ping", "/health", "/version")
_CODES = {
    400: "INVALID_PARAMETER_VALUE",
    403: "PERMISSION_DENIED",
    404: "RESOURCE_DOES_NOT_EXIST",
    405: "BAD_REQUEST",
    408: "REQUEST_TIMEOUT",
    413: "REQUEST_LIMIT_EXCEEDED",
    415: "BAD_REQUEST",
    503: "TEMPORARILY_UNAVAILABLE",
    504: "TIMEOUT",
}
_ID, _PROBE = REQUEST_ID_HEADER.encode(), PROBE_HEADER.encode()
_log = logging.getLogger("demand.model_server")


@dataclass(frozen=True)
class Limits:
    """What one request may ask for.

    That is a body of so many bytes and ads, 413 beyond; and an answer within so many seconds, 504
    beyond. So many requests are computed at once, and so many may wait, 503 beyond; small ones
    are counted apart.
    """

    body_bytes: int = 64 * 2**20
    ads: int = 50_000
    seconds: float = 60.0
    at_once: int = 2
    waiting: int = 64


def error_answer(status: int, message: str) -> tuple[Headers, bytes]:
    """Return headers and body of an error as MLflow tells it."""
    told = {"error_code": _CODES.get(status, "INTERNAL_ERROR"), "message": message}
    text = json.dumps(told, ensure_ascii=False).encode("utf-8", "replace")
    return [(b"content-type", b"application/json")], text


class ModelServer:
    """ASGI application around MLflow's own.

    It answers with what ``mlflow.pyfunc.load_model`` returned, sends the version of the registered
    model with every answer, and tells the facts of the model. Predictions go to the log, if there
    is one, under the id of their request, which the answer has, too.
    """

    def __init__(
        self,
        model: Any,
        version: str,
        limits: Limits | None = None,
        facts: Facts = NO_FACTS,
        log: LogWriter | None = None,
    ) -> None:
        from mlflow.pyfunc import scoring_server

        self._predictor: Predictor = model.get_raw_model()
        self._mlflow: ASGIApp = scoring_server.init(model)
        self._version, self._log = version, log
        self._header = (VERSION_HEADER.encode(), version.encode())
        self._limits = limits = limits or Limits()
        self._known = facts.known
        self._told = {"/market": facts.market, "/card": facts.card}
        admitted = limits.at_once + limits.waiting
        self._few, self._many = (Admission(n, limits.at_once, admitted) for n in ("few", "many"))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer ``POST /invocations`` and what is told of the model; some routes are MLflow's."""

        async def send_with_version(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), self._header]
            await send(message)

        if scope["type"] != "http" or scope["path"] in _MLFLOWS:
            await self._mlflow(scope, receive, send_with_version)
            return
        asked = dict(scope["headers"])
        asked[_ID] = request_id(asked.get(_ID, b"").decode("latin-1")).encode()
        try:
            status, answer = 200, await self._answer(scope, asked, receive)
            headers = [(b"content-type", b"application/json")]
        except HTTPException as refused:
            status = refused.status_code
            headers, answer = error_answer(status, refused.detail)
        headers.append((_ID, asked[_ID]))
        await send_answer(send_with_version, status, headers, answer)

    async def _answer(self, scope: Scope, headers: dict[bytes, bytes], receive: Receive) -> bytes:
        method, path = scope["method"], scope["path"]
        if path in self._told and method in ("GET", "HEAD"):
            fact = self._told[path]
            if fact.body is None:
                raise HTTPException(404, fact.why)
            return fact.body
        if path != "/invocations":
            raise HTTPException(404, "there is POST /invocations, GET /ping, /market and /card")
        if method != "POST":
            raise HTTPException(405, "ads are sent by POST")
        body = await whole_body(receive)
        admission = self._few if len(body) <= _SMALL else self._many
        over = threading.Event()
        answer = partial(self._predictions, body, headers, over)
        try:
            async with asyncio.timeout(self._limits.seconds):
                return await admission.run(answer)
        except TimeoutError:
            raise HTTPException(504, f"no answer within {self._limits.seconds:g} s") from None
        finally:
            over.set()

    def _predictions(
        self, body: bytes, headers: dict[bytes, bytes], over: threading.Event
    ) -> bytes:
        """Answer ads; nothing more is computed once the time is over."""
        names = (b"content-type", b"content-encoding")
        kind, coding = (headers.get(name, b"").decode("latin-1") for name in names)
        if over.is_set():
            return b""
        answers: list[float] = []
        try:
            frame = frame_from_body(body, kind, ads=self._limits.ads, content_encoding=coding)
            while len(answers) < len(frame) and not over.is_set():
                block = frame.iloc[len(answers) : len(answers) + _BLOCK]
                answers += self._predictor.predict(block).tolist()
            told: dict[str, Any] = {"predictions": answers}
            columns = {field: frame[field].tolist() for field in self._known.values}
            unknown = self._known.unknown(columns)
            if named := [{"ad": row, "field": field} for row, field, _ in unknown]:
                told["unknown"] = named
            # A NaN is an error of the model (ValueError).
            said = json.dumps(told, allow_nan=False).encode()
            if self._log is not None and len(answers) == len(frame):
                ads = {str(name): column.to_numpy() for name, column in frame.items()}
                probe = headers.get(_PROBE)
                marked = None if probe is None else probe.decode("latin-1")
                name, probes = headers[_ID].decode(), probe_rows(marked, len(frame))
                self._log.add(name, self._version, ads, np.array(answers), probes)
            return said
        except (AdError, UnsupportedFormatError) as error:
            status = 400 if isinstance(error, AdError) else 415
            status = 413 if isinstance(error, TooLargeError) else status
            raise HTTPException(status, str(error)) from None
        except Exception:
            _log.exception("the model failed")
            why = "the model failed on these ads; the server's log says why"
            raise HTTPException(500, why) from None


def load_application(
    folder: Path, version: str, limits: Limits | None = None, log: LogWriter | None = None
) -> ModelServer:
    """Load the MLflow model in ``folder`` and let it answer its own input example once.

    :class:`ModelError`: it is missing, damaged, or of a format that cannot be read.
    """
    quiet_mlflow()
    import mlflow.pyfunc

    quiet_mlflow()
    try:
        model = mlflow.pyfunc.load_model(str(folder), suppress_warnings=True)
        if model.input_example is not None:
            model.predict(model.input_example)
    except DemandError:
        raise
    except Exception as error:  # whatever a damaged model makes its loader raise
        said = f"{type(error).__name__}: {error}"
        raise ModelError(f"cannot load the MLflow model in {folder}: {said}") from error
    return ModelServer(model, version, limits, read_facts(folder, version), log)


def bounded(application: ASGIApp, hosts: Hosts, limits: Limits | None = None) -> RequestLimits:
    """Return the application behind the limits that all servers have."""
    most = (limits or Limits()).body_bytes
    return RequestLimits(application, hosts, lambda _: most, error_answer, 4 * most)


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until SIGTERM; requests in progress are finished for up to 10 s."""
    parser = argparse.ArgumentParser(prog="demand-model-server", description="Serve one model.")
    parser.add_argument("folder", type=Path, help="an MLflow model")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--model-version", default="")
    named = "a name it may be asked by besides localhost; may be given more than once"
    parser.add_argument("--allow-host", action="append", default=[], metavar="NAME", help=named)
    options = parser.parse_args(arguments)
    line = "%(asctime)s %(levelname)s %(name)s: %(message)s"
    logging.basicConfig(level=logging.WARNING, format=line, handlers=[DroppingHandler()])
    try:
        # In the master: what a damaged model does is told at once, and workers share its memory.
        log = current_log()
        writer = None if log is None else log.writer()
        application = load_application(options.folder, options.model_version, log=writer)
        served = bounded(application, Hosts(options.host, tuple(options.allow_host)))
        serve(lambda: served, options.host, options.port, workers=_WORKERS)
    except DemandError as error:
        sys.stderr.write(f"error: {error}\n")
        return error.exit_status
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
