"""Sockets that listen before the server behind them is ready.

A port that was only found to be free may be another's a moment later, and on Linux two
sockets that are bound but do not listen yet may even share it. So whoever chooses a port
listens on it at once, and hands the socket over.
"""

from __future__ import annotations

import socket
from typing import Any

from demand.errors import ServingError

_PORTS_TRIED = 100
_BACKLOG = 2048  # as uvicorn's and gunicorn's


def listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens.

    Raises
    ------
    ServingError
        The host is not one of this machine, or something else has the port.
    """
    listener = socket.socket(_family(host), socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen(_BACKLOG)
    except OSError as error:
        listener.close()
        raise ServingError(f"cannot listen on {host}:{port}: {error.strerror}") from error
    return listener


def listen_near(host: str, wanted: int) -> socket.socket:
    """Return a socket that listens on ``wanted``, or on the next port after it that is free.

    Raises
    ------
    ServingError
        The host is not one of this machine, or no port is free.
    """
    problems: list[str] = []
    for port in range(wanted, min(wanted + _PORTS_TRIED, 65536)):
        try:
            return listen(host, port)
        except ServingError as error:
            problems.append(str(error))
    raise ServingError(
        f"{problems[0]}, nor on the {len(problems) - 1} ports after it: change deploy.host or "
        "deploy.port in the config"
    )


def listen_beside(shared: Any) -> socket.socket:
    """Return another socket at the same address: the kernel deals connections out to both.

    Only Linux does. From now on others may share the address, which they could not before:
    a port that was taken had to show.
    """
    shared.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    own = socket.socket(shared.family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    for option in (socket.SO_REUSEADDR, socket.SO_REUSEPORT):
        own.setsockopt(socket.SOL_SOCKET, option, 1)
    own.bind(shared.getsockname())
    own.listen(_BACKLOG)
    return own


def inherited(descriptor: int) -> socket.socket:
    """Return the listening socket that the process which started this one handed over.

    Raises
    ------
    ServingError
        The descriptor is no socket.
    """
    try:
        return socket.socket(fileno=descriptor)
    except OSError as error:
        raise ServingError(f"descriptor {descriptor} is no socket: {error.strerror}") from error


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET
