import errno
import socket

import pytest

from serving.ports import reserved

HOST = "127.0.0.1"


def listen(port: int, *, shared: bool) -> socket.socket:
    """Listen as a server does."""
    server = socket.socket()
    server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, int(shared))
    try:
        server.bind((HOST, port))
        server.listen()
    except OSError:
        server.close()
        raise
    return server


def test_processes_of_the_server_that_reserved_a_port_share_it() -> None:
    with (
        reserved(HOST, 0) as port,
        listen(port, shared=True) as one,
        listen(port, shared=True) as another,
    ):
        assert one.getsockname() == another.getsockname() == (HOST, port)


def test_connections_reach_those_who_listen_and_never_the_reservation() -> None:
    with reserved(HOST, 0) as port:
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection((HOST, port))
        with listen(port, shared=True) as server:
            for _ in range(20):
                with socket.create_connection((HOST, port)) as client:
                    accepted, address = server.accept()
                    accepted.close()
                    assert address == client.getsockname()


@pytest.mark.parametrize("busy", [False, True])
def test_a_second_server_is_refused_whether_or_not_the_first_listens_yet(busy: bool) -> None:
    with reserved(HOST, 0) as port:
        first = listen(port, shared=True) if busy else None
        with pytest.raises(OSError, match="in use") as caught, reserved(HOST, port):
            pass
        assert caught.value.errno == errno.EADDRINUSE
        with pytest.raises(OSError, match="in use"):
            listen(port, shared=False)
        if first:
            first.close()


def test_the_port_of_another_server_is_refused() -> None:
    for shared in (False, True):
        with listen(0, shared=shared) as server:
            port = server.getsockname()[1]
            with pytest.raises(OSError, match="in use"), reserved(HOST, port):
                pass


def test_the_port_is_free_again_at_once() -> None:
    with (
        reserved(HOST, 0) as port,
        listen(port, shared=True) as server,
        socket.create_connection((HOST, port)),
    ):
        server.accept()[0].close()  # the connection lingers on the server's side
    with reserved(HOST, port) as again:
        assert again == port
