"""The HTTP server of the API, the model server and the page: Granian, with the same limits.

A master holds no connection: it forks workers, which share the memory of what was loaded
before, and replaces one that dies. The head of a request is bounded in bytes and in time by
Granian, its body by :class:`demand.serving.http.middleware.RequestLimits`.
"""

from __future__ import annotations

import contextlib
import gc
import io
import logging
import multiprocessing
import os
import resource
import select
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, TextIO

from granian import Granian
from granian.constants import HTTPModes, Interfaces, RuntimeModes
from granian.http import HTTP1Settings
from granian.log import LogLevels

from demand.errors import ServingError

if TYPE_CHECKING:
    from starlette.types import ASGIApp

LOOPBACK = "127.0.0.1"
_PORTS_TRIED, _WAY_OUT = 100, "change deploy.host or deploy.port in the config"
_BACKLOG = 2048
# Connections that a worker has at a time, idle ones among them; more wait to be accepted.
_CONNECTIONS_MAX = 2**14
# Files that a worker has open besides.
_FILES = 256
# What the first line and the headers of a request may take, and how long they may come.
_HEAD_BYTES, HEAD_S = 2**16, 30.0
# What a worker has to finish its requests when it is told to end.
GRACE_S = 10
# By itself a thread gives the interpreter on after 5 ms, at every step of a small request.
_SWITCH_S = 0.0005
_LOOK_S, _PAUSE_S = 1.0, 0.01
# Characters of a log that a pipe takes at once, if it takes any.
_PIECE = 1000
# Granian writes to the log of whoever starts it.
_LOGGING = {"formatters": {}, "handlers": {}, "loggers": {"_granian": {"propagate": True}}}


def serve(
    load: Callable[[], ASGIApp],
    host: str,
    port: int,
    *,
    workers: int = 1,
    lifespan: bool = False,
    head_s: float = HEAD_S,
    announce: str = "",
) -> None:
    """Serve until SIGTERM or SIGINT; requests in progress are finished for up to 10 s.

    Each worker loads the application; what is imported and loaded before is shared with them.
    A worker that dies is replaced; two deaths of one within some seconds end the server. Port 0
    is any that is free. With ``lifespan`` the application hears of its start and end. The head of
    a request has ``head_s`` seconds to come, for which a connection may be idle, too. What is to
    be announced is written to standard error once a worker listens, the URLs' root as ``{url}``.

    Raises
    ------
    ServingError
        The host is not one of this machine, or something else has the port. A worker ended
        again just after it had been replaced.
    """
    master, address = os.getpid(), _address(host)

    def application() -> ASGIApp:
        # Until Granian handles them here, signals would be handled as the master does.
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_DFL)
        if server.interrupt_signal:
            sys.exit()
        sys.setswitchinterval(_SWITCH_S)
        _end_with(master)
        answering = load()
        if announce:
            threading.Thread(target=tell, daemon=True).start()
        return answering

    def tell() -> None:
        """Announce once that connections are taken, by this process or another one."""
        while True:
            with contextlib.suppress(OSError), socket.create_connection((address, bound), _LOOK_S):
                break
            time.sleep(_PAUSE_S)
        with contextlib.suppress(BlockingIOError):  # another worker was faster
            os.read(turn, 1)
            told = announce.replace("{url}", root_url(host, bound))
            print(told, file=sys.stderr, flush=True)

    with reserved(host, port) as bound:
        turn, given = os.pipe()
        os.set_blocking(turn, False)
        os.write(given, b"!")
        gc.freeze()  # collecting would copy the pages that workers share
        multiprocessing.set_start_method("fork", force=True)
        server = Granian(
            "demand",
            address=address,
            port=bound,
            # In the other mode one worker in sixty misses that it has nothing left to finish.
            runtime_mode=RuntimeModes.st,
            interface=Interfaces.ASGI if lifespan else Interfaces.ASGINL,
            http=HTTPModes.http1,
            websockets=False,
            workers=workers,
            backlog=_BACKLOG,
            backpressure=_connections_max(),
            http1_settings=HTTP1Settings(
                header_read_timeout=round(head_s * 1000), max_buffer_size=_HEAD_BYTES
            ),
            log_level=LogLevels.warning,
            log_dictconfig=_LOGGING,
            respawn_failed_workers=True,
            workers_kill_timeout=GRACE_S,
        )
        try:
            server.serve(target_loader=application, wrap_loader=False)
        except SystemExit as error:
            # Ctrl-C in a terminal goes to the workers, too, whose end then is none of its own.
            if not server.interrupt_signal:
                raise ServingError(
                    "a worker ended again just after it had been replaced: the log says how"
                ) from error
        except Exception as error:  # such as that no process could be started
            for child in multiprocessing.active_children():
                child.terminate()
            raise ServingError(f"cannot serve on {host}:{bound}: {error}") from error


def root_url(host: str, port: int) -> str:
    """Return the root of a server's URLs."""
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"


def _address(host: str) -> str:
    """Return the address of a host, which Granian wants; that it has none is a ServingError."""
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError) as error:
        raise ServingError(f"cannot listen on {host}: it has no address ({error})") from error
    return str(found[0][4][0])


def _connections_max() -> int:
    """Allow a worker the files that it needs, as far as that goes; return its connections."""
    wanted, (soft, hard) = _CONNECTIONS_MAX + _FILES, resource.getrlimit(resource.RLIMIT_NOFILE)
    if resource.RLIM_INFINITY != soft < wanted:
        soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return max(1, (wanted if soft == resource.RLIM_INFINITY else min(wanted, soft)) - _FILES)


@contextlib.contextmanager
def reserved(host: str, port: int) -> Iterator[int]:
    """Keep a port from other servers of ours, see that nobody listens on it, and yield it.

    The workers of a server share its port (SO_REUSEPORT), and so would those of another
    one, unnoticed. So whoever serves holds the UDP port of the same number, too. ServingError:
    the host is not one of this machine, or something else has the port.
    """
    address = _address(host)
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with (
        socket.socket(family, socket.SOCK_DGRAM) as mark,
        socket.socket(family, socket.SOCK_STREAM) as tried,
    ):
        tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            tried.bind((address, port))
            port = tried.getsockname()[1]
            mark.bind((address, port))
            # Not before: it would keep a worker that is just starting from the port.
            tried.listen(1)
        except OSError as error:
            raise ServingError(f"cannot listen on {host}:{port}: {error.strerror}") from error
        tried.close()
        yield port


def free_port(wanted: int, host: str = LOOPBACK, *, way_out: str = _WAY_OUT) -> int:
    """Return ``wanted``, or the next port of a host after it that is free.

    ServingError, with the user's way out: the host is not one of this machine, or none is free.
    """
    problems: list[str] = []
    for port in range(wanted, min(wanted + _PORTS_TRIED, 65536)):
        try:
            with reserved(host, port) as free:
                return free
        except ServingError as error:
            problems.append(str(error))
    raise ServingError(f"{problems[0]}, nor on the {len(problems) - 1} ports after it: {way_out}")


def _end_with(master: int) -> None:
    """End this worker when its master is gone, which cannot tell it if it was killed."""

    def watch() -> None:
        while os.getppid() == master:
            time.sleep(_LOOK_S)
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(GRACE_S)
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=watch, daemon=True).start()


class DroppingHandler(logging.StreamHandler[TextIO]):
    """Logging handler that stops nobody: it drops what there is no room for.

    A pipe that nobody reads takes 64 KB, and then whoever writes to it waits for ever.
    """

    def emit(self, record: logging.LogRecord) -> None:
        """Write a line, in pieces of which each fits where there is any room."""
        line = f"{self.format(record)}\n"
        with contextlib.suppress(OSError, ValueError):
            for first in range(0, len(line), _PIECE):
                with contextlib.suppress(io.UnsupportedOperation):  # in memory there always is
                    if not select.select([], [self.stream], [], 0)[1]:
                        return
                self.stream.write(line[first : first + _PIECE])
                self.flush()
