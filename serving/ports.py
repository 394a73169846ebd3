"""A port that several processes of one server share, and nobody else."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def reserved(host: str, port: int) -> Iterator[int]:
    """Hold a port until the block ends, so that forked processes may listen on it together.

    Any process of the same user may listen on a port where all others set SO_REUSEPORT; a second
    server, started by accident, would take half the calls in silence. So the port is bound here
    without that option, which succeeds only where nobody else is; with it set afterwards, others
    that set it may join. Connections never reach this socket, since it does not listen.

    Args:
        host: Address to listen on.
        port: Port; 0 picks a free one.

    Yields:
        The port.

    Raises:
        OSError: the port is in use, or the address is not this machine's.
    """
    family, kind, protocol, _, address = socket.getaddrinfo(
        host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    with socket.socket(family, kind, protocol) as guard:
        # As every server does: connections of one that has ended may linger on the port.
        guard.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        guard.bind(address)
        guard.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 0)
        guard.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        yield guard.getsockname()[1]
