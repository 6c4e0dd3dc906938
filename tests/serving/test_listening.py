from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile

import pytest

from demand.errors import ServingError
from demand.serving.listening import inherited, listen, listen_near

LOOPBACK = "127.0.0.1"
ANY = 0


def test_a_listening_socket_takes_connections_before_anybody_answers() -> None:
    with listen(LOOPBACK, ANY) as listener, socket.create_connection(listener.getsockname(), 5):
        pass


def test_a_port_that_something_listens_on_is_taken() -> None:
    with listen(LOOPBACK, ANY) as listener:
        port = listener.getsockname()[1]
        with pytest.raises(ServingError, match=f"cannot listen on {LOOPBACK}:{port}: Address alr"):
            listen(LOOPBACK, port)


def test_a_taken_port_is_passed_over() -> None:
    with listen(LOOPBACK, ANY) as first:
        taken = first.getsockname()[1]
        with listen_near(LOOPBACK, taken) as second:
            assert second.getsockname()[1] > taken


def test_a_host_of_another_machine_is_named_with_the_way_out() -> None:
    with pytest.raises(ServingError, match=r"192\.0\.2\.1:80.*change deploy\.host"):
        listen_near("192.0.2.1", 80)


def test_a_socket_outlives_the_process_that_chose_its_port() -> None:
    code = (
        "import sys\n"
        "from demand.serving.listening import inherited\n"
        "connection, _ = inherited(int(sys.argv[1])).accept()\n"
        "connection.sendall(b'here')\n"
    )
    with listen(LOOPBACK, ANY) as listener:
        where = listener.getsockname()
        child = subprocess.Popen(
            [sys.executable, "-c", code, str(listener.fileno())], pass_fds=[listener.fileno()]
        )
    with child, socket.create_connection(where, 5) as connection:
        connection.settimeout(30)
        assert connection.recv(4) == b"here"


def test_a_descriptor_of_no_socket_is_an_error() -> None:
    with tempfile.TemporaryFile() as file, pytest.raises(ServingError, match="is no socket"):
        inherited(os.dup(file.fileno()))
