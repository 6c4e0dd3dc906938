"""The process that serves one model: MLflow's scoring server with ads understood.

``python -m demand.serving.model_server FOLDER --port N`` loads an MLflow model as
``mlflow models serve --env-manager local`` does and answers as it does: ``GET /ping``,
``/health``, ``/version``, ``POST /invocations``. ``GET /market`` and ``/card`` are ours: they
tell of the model, where it was packaged with them. What differs is ``/invocations``:

- JSON is read by :mod:`demand.serving.payload`, which names the field and the ad that
  are wrong, unknown columns among them (MLflow drops those without a word);
- an error is MLflow's ``{"error_code", "message"}`` without its ``stack_trace``, for
  which MLflow has no switch, and without the request's data in the message;
- the body and the number of ads are bounded, and so is the time of an answer.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from demand.errors import AdError, DemandError, ModelError
from demand.serving.facts import NO_FACTS, Facts, read_facts
from demand.serving.json_body import decode_json
from demand.serving.listening import inherited, listen
from demand.serving.loader import Predicts, ServedPredictor
from demand.serving.payload import frame_from_payload
from demand.serving.supervisor import end_with_supervisor, tell_ready
from demand.serving.tracking import quiet_mlflow

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

VERSION_HEADER = "demand-model-version"


_GRACE_S = 10
_log = logging.getLogger("demand.model_server")


@dataclass(frozen=True)
class Limits:
    """What one request may ask for.

    Parameters
    ----------
    body_bytes
        Size of the body; 413 beyond.
    ads
        Ads in it; 413 beyond.
    seconds
        Time until the answer; 504 beyond.
    """

    body_bytes: int = 64 * 2**20
    ads: int = 50_000
    seconds: float = 60.0


class _RefusedError(Exception):
    """An answer other than 200."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.body = json.dumps({"error_code": code, "message": message}, ensure_ascii=False).encode(
            "utf-8", "replace"
        )


class ModelServer:
    """ASGI application around MLflow's own.

    Parameters
    ----------
    model
        What ``mlflow.pyfunc.load_model`` returned.
    version
        Of the registered model; sent with every answer.
    limits
        See :class:`Limits`.
    facts
        What can be told of the model.
    """

    def __init__(
        self,
        model: Any,
        version: str,
        limits: Limits | None = None,
        facts: Facts = NO_FACTS,
    ) -> None:
        from mlflow.pyfunc import scoring_server

        self._model = model
        self._predictor: Predicts = model.get_raw_model()
        self._mlflow: ASGIApp = scoring_server.init(model)
        self._header = (VERSION_HEADER.encode(), version.encode())
        self._limits = limits or Limits()
        self._told = {"/market": facts.market, "/card": facts.card}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer ``POST /invocations`` and what is told of the model; all else is MLflow's."""

        async def send_with_version(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), self._header]
            await send(message)

        asked = (scope["method"], scope["path"]) if scope["type"] == "http" else ("", "")
        invoked = asked == ("POST", "/invocations")
        if not invoked and not (asked[0] in ("GET", "HEAD") and asked[1] in self._told):
            await self._mlflow(scope, receive, send_with_version)
            return
        try:
            if invoked:
                status, answer = 200, await self._invoked(scope, receive)
            else:
                status, answer = 200, self._tell(asked[1])
        except _RefusedError as refused:
            status, answer = refused.status, refused.body
        except TimeoutError:
            timeout = _RefusedError(504, "TIMEOUT", f"no answer within {self._limits.seconds:g} s")
            status, answer = timeout.status, timeout.body
        headers = [
            (b"content-type", b"application/json"),
            (b"content-length", str(len(answer)).encode()),
        ]
        await send_with_version(
            {"type": "http.response.start", "status": status, "headers": headers}
        )
        await send({"type": "http.response.body", "body": answer})

    async def _invoked(self, scope: Scope, receive: Receive) -> bytes:
        body = await self._body(receive)
        content_type = dict(scope["headers"]).get(b"content-type", b"").decode("latin-1")
        answering = asyncio.to_thread(self._answer, body, content_type)
        return await asyncio.wait_for(answering, self._limits.seconds)

    def _tell(self, path: str) -> bytes:
        fact = self._told[path]
        if fact.body is None:
            raise _RefusedError(404, "RESOURCE_DOES_NOT_EXIST", fact.why)
        return fact.body

    async def _body(self, receive: Receive) -> bytes:
        limit = self._limits.body_bytes
        parts: list[bytes] = []
        size = 0
        more = True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise _RefusedError(400, "BAD_REQUEST", "the request ended before its body did")
            parts.append(message.get("body", b""))
            size += len(parts[-1])
            if size > limit:
                raise _RefusedError(
                    413, "REQUEST_LIMIT_EXCEEDED", f"the body is over {limit:,} bytes"
                )
            more = message.get("more_body", False)
        return b"".join(parts)

    def _answer(self, body: bytes, content_type: str) -> bytes:
        try:
            if content_type.partition(";")[0].strip().lower() != "application/json":
                return self._answer_as_mlflow(body, content_type)
            frame = frame_from_payload(decode_json(body))
            if len(frame) > self._limits.ads:
                raise _RefusedError(
                    413,
                    "REQUEST_LIMIT_EXCEEDED",
                    f"{len(frame)} ads in one request; at most {self._limits.ads}",
                )
            return _predictions(self._predictor.predict(frame))
        except AdError as error:
            raise _RefusedError(400, "INVALID_PARAMETER_VALUE", str(error)) from None
        except _RefusedError:
            raise
        except Exception:
            _log.exception("the model failed")
            raise _RefusedError(
                500, "INTERNAL_ERROR", "the model failed on these ads; the server's log says why"
            ) from None

    def _answer_as_mlflow(self, body: bytes, content_type: str) -> bytes:
        """Answer CSV and parquet, or refuse other types, through MLflow's own parsing."""
        from mlflow.exceptions import MlflowException
        from mlflow.pyfunc import scoring_server

        schema = self._model.metadata.get_input_schema()
        served = ServedPredictor(self._predictor)
        try:
            result = scoring_server.invocations(body, content_type, served, schema)
        except MlflowException as error:
            # MLflow puts the data itself in front of what is wrong with it.
            message = str(error.message).rpartition("\nError: ")[2]
            raise _RefusedError(
                int(error.get_http_status_code()), str(error.error_code), message
            ) from None
        if result.status != 200:
            raise _RefusedError(int(result.status), "BAD_REQUEST", str(result.response))
        return str(result.response).encode()


def _predictions(answers: npt.NDArray[np.float64]) -> bytes:
    """Encode probabilities; a NaN among them is an error of the model (ValueError)."""
    return json.dumps({"predictions": answers.tolist()}, allow_nan=False).encode()


def load_application(folder: Path, version: str) -> ModelServer:
    """Load the MLflow model in ``folder`` and let it answer its own input example once.

    Raises
    ------
    ModelError
        The model is missing, damaged, or of a format that cannot be read.
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
    return ModelServer(model, version, facts=read_facts(folder, version))


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until SIGTERM; requests in progress are finished for up to 10 s."""
    parser = argparse.ArgumentParser(prog="demand-model-server", description="Serve one model.")
    parser.add_argument("folder", type=Path, help="an MLflow model")
    parser.add_argument("--host", default="127.0.0.1")
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--port", type=int)
    where.add_argument("--fd", type=int, help="a listening socket, inherited")
    parser.add_argument("--model-version", default="")
    parser.add_argument("--ready-fd", type=int, help="the supervisor's pipe, inherited")
    options = parser.parse_args(arguments)
    logging.basicConfig(format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    supervised = options.ready_fd is not None
    if supervised:
        end_with_supervisor()
    try:
        # Before anything heavy is imported, so that a taken port is known at once.
        listener = listen(options.host, options.port) if options.port else inherited(options.fd)
        application = load_application(options.folder, options.model_version)
        if supervised:
            tell_ready(options.ready_fd)
    except DemandError as error:
        sys.stderr.write(f"error: {error}\n")
        return error.exit_status
    import uvicorn

    config = uvicorn.Config(
        application,
        lifespan="off",
        access_log=False,
        log_level="info",
        timeout_graceful_shutdown=_GRACE_S,
    )
    with listener:
        uvicorn.Server(config).run(sockets=[listener])
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
