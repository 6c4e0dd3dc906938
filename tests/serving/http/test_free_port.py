import socket

import pytest

from demand.errors import ServingError
from demand.serving.http.server import LOOPBACK, free_port, reserved

PORT = 23900


def test_a_port_that_is_free_is_taken_as_it_is() -> None:
    port = free_port(PORT)

    assert free_port(port) == port


def test_a_taken_port_gives_the_next_free_one() -> None:
    with socket.socket() as taken:
        taken.bind((LOOPBACK, free_port(PORT)))
        taken.listen()
        port = taken.getsockname()[1]

        assert free_port(port) > port


def test_a_port_that_a_server_of_ours_shares_with_its_workers_is_taken() -> None:
    with reserved(LOOPBACK, free_port(PORT)) as port:
        assert free_port(port) > port


def test_where_no_port_is_free_the_way_out_is_told() -> None:
    with pytest.raises(ServingError, match=r"nor on the 99 ports after it: name another host"):
        free_port(PORT, "192.0.2.1", way_out="name another host")
