"""Connections, taken from those that wait as many at a time as there are."""

from __future__ import annotations

import asyncio
import errno
import logging
from typing import Any

import uvicorn

_AT_ONCE = 256
_PAUSE_S = 1.0
# What a client did, or that another process was faster; the next one may be there all the same.
_OF_ONE = (errno.ECONNABORTED, errno.EINTR, errno.EPROTO)
_log = logging.getLogger("demand.api")


class Server(uvicorn.Server):
    """uvicorn's server, where new connections do not stand back behind old ones.

    uvloop takes one a turn of the loop, and a turn with a thousand requests is long: under
    a flood some clients waited 18 s to be heard at all. asyncio's own loop takes all, but a
    tenth more time for a request, and where no descriptor is left it writes a traceback for
    each that waits, thousands of times a second.
    """

    async def startup(self, sockets: Any = None) -> None:
        """Begin to listen on these sockets."""
        await super().startup(sockets=[])
        self._joining: set[asyncio.Task[Any]] = set()
        for listener in sockets:
            listener.setblocking(False)
            self._listen(listener)

    async def shutdown(self, sockets: Any = None) -> None:
        """End: what came is answered, and nothing more is taken."""
        loop = asyncio.get_running_loop()
        for listener in sockets:
            loop.remove_reader(listener.fileno())
        await super().shutdown(sockets)

    def _listen(self, listener: Any) -> None:
        if not self.should_exit:
            asyncio.get_running_loop().add_reader(listener.fileno(), self._accept, listener)

    def _accept(self, listener: Any) -> None:
        loop = asyncio.get_running_loop()
        for _ in range(_AT_ONCE):
            try:
                connection, _ = listener.accept()
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno in _OF_ONE:
                    continue
                _log.warning("no connection can be taken for %g s: %s", _PAUSE_S, error.strerror)
                loop.remove_reader(listener.fileno())
                loop.call_later(_PAUSE_S, self._listen, listener)
                return
            connection.setblocking(False)
            joining = loop.create_task(loop.connect_accepted_socket(self._protocol, connection))
            self._joining.add(joining)
            joining.add_done_callback(self._joining.discard)

    def _protocol(self) -> asyncio.Protocol:
        made: asyncio.Protocol = self.config.http_protocol_class(  # type: ignore[call-arg]
            config=self.config, server_state=self.server_state, app_state=self.lifespan.state
        )
        return made
