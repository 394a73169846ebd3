"""What a server process serves."""

from typing import Protocol, runtime_checkable

import grpc
from google.protobuf.descriptor import ServiceDescriptor


class StartError(Exception):
    """The server cannot start; the message says why, in one sentence."""


class Service(Protocol):
    """What a process serves. It is made before the process forks, and started after."""

    descriptor: ServiceDescriptor
    """The service's description in the contract."""

    def register(self, server: grpc.aio.Server) -> None:
        """Add the service's methods to a server."""

    async def start(self) -> None:
        """Load what the service needs; health turns to SERVING when this returns.

        Raises StartError when it cannot.
        """

    async def close(self) -> None:
        """Release what `start` took; called once, after the last RPC has ended."""


@runtime_checkable
class HasHealthDetail(Protocol):
    """A service that may serve otherwise than it should, and says so."""

    def health_detail(self) -> str:
        """What an operator should look at, in one line; empty when there is nothing."""
