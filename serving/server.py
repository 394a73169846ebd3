"""The life of a server process: start, serve, drain, stop."""

import asyncio
import logging
import signal
from collections.abc import Sequence
from typing import Protocol

import grpc
import prometheus_client
import uvloop
from google.protobuf.descriptor import ServiceDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from serving.interceptor import RequestInterceptor
from serving.logs import configure_logs
from serving.settings import ServerSettings

_log = logging.getLogger("segue.server")


class StartError(Exception):
    """The server cannot start; the message says why, in one sentence."""


class Service(Protocol):
    """What a process serves."""

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


class Server:
    """One gRPC server with one service, health, reflection and metrics."""

    def __init__(self, service: Service, settings: ServerSettings) -> None:
        self._service = service
        self._settings = settings
        self._health = health.aio.HealthServicer()
        self._names = (service.descriptor.full_name, health.OVERALL_HEALTH)
        self._server = grpc.aio.server(
            interceptors=[RequestInterceptor(_message_classes(service.descriptor))],
            options=_options(settings),
            maximum_concurrent_rpcs=settings.max_concurrent_rpcs,
        )
        service.register(self._server)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        reflection.enable_server_reflection(
            (service.descriptor.full_name, health.SERVICE_NAME, reflection.SERVICE_NAME),
            self._server,
        )
        self.port = 0

    async def start(self) -> None:
        """Listen, load, then turn health to SERVING.

        Raises:
            StartError: the port is taken, or the service cannot load.
        """
        await self._set_health(health_pb2.HealthCheckResponse.NOT_SERVING)
        self.port = self._bind()
        await self._server.start()
        await self._service.start()
        await self._set_health(health_pb2.HealthCheckResponse.SERVING)
        _log.info("serving", extra={"host": self._settings.host, "port": self.port})

    async def stop(self) -> None:
        """Turn health to NOT_SERVING, let running RPCs finish within the grace, release all."""
        await self._health.enter_graceful_shutdown()
        _log.info("stopping", extra={"grace_s": self._settings.shutdown_grace_s})
        await self._server.stop(self._settings.shutdown_grace_s)
        await self._service.close()
        _log.info("stopped")

    async def _set_health(self, status: int) -> None:
        for name in self._names:
            await self._health.set(name, status)

    def _bind(self) -> int:
        address = f"{self._settings.host}:{self._settings.port}"
        try:
            return self._server.add_insecure_port(address)
        except RuntimeError:
            raise StartError(
                f"cannot listen on {address}: the port is in use or the address is not this "
                "machine's; free it or choose another with --port"
            ) from None


def run(service: Service, settings: ServerSettings) -> None:
    """Serve until SIGTERM or SIGINT; the whole life of a server process.

    Raises:
        StartError: the server cannot start.
    """
    configure_logs(service.descriptor.name, settings.log_level)
    _start_metrics(settings)
    uvloop.run(_serve(service, settings))


async def _serve(service: Service, settings: ServerSettings) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    server = Server(service, settings)
    starting = asyncio.create_task(server.start())
    stopping = asyncio.create_task(stop.wait())
    try:
        await asyncio.wait({starting, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if starting.done():
            starting.result()
            await stopping
    finally:
        starting.cancel()
        stopping.cancel()
        await asyncio.gather(starting, stopping, return_exceptions=True)
        await server.stop()


def _start_metrics(settings: ServerSettings) -> None:
    if settings.metrics_port is None:
        return
    try:
        server, _ = prometheus_client.start_http_server(settings.metrics_port, settings.host)
    except OSError as error:
        raise StartError(
            f"cannot serve metrics on {settings.host}:{settings.metrics_port}: {error.strerror}; "
            "choose another port with --metrics-port"
        ) from None
    _log.info("metrics", extra={"port": server.server_port})


def _options(settings: ServerSettings) -> Sequence[tuple[str, int]]:
    keepalive_ms = round(settings.keepalive_s * 1000)
    return (
        ("grpc.max_receive_message_length", settings.max_message_bytes),
        ("grpc.max_send_message_length", settings.max_message_bytes),
        ("grpc.keepalive_time_ms", keepalive_ms),
        ("grpc.keepalive_timeout_ms", 10_000),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.min_ping_interval_without_data_ms", min(keepalive_ms, 10_000)),
        # Without this a second server binds the same port in silence and takes half the calls.
        ("grpc.so_reuseport", 0),
    )


def _message_classes(descriptor: ServiceDescriptor) -> dict[str, type[Message]]:
    """The request class of each method, by full method name."""
    return {
        f"/{descriptor.full_name}/{method.name}": GetMessageClass(method.input_type)
        for method in descriptor.methods
    }
