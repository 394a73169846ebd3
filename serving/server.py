"""The life of a server process: start, serve, drain, stop."""

import asyncio
import gc
import logging
import signal
import sys
from collections.abc import Sequence

import grpc
import uvloop
from google.protobuf.descriptor import ServiceDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection
from prometheus_client import REGISTRY, CollectorRegistry, start_http_server
from prometheus_client.multiprocess import MultiProcessCollector

from serving.health import HealthServicer
from serving.interceptor import RequestInterceptor
from serving.logs import configure_logs
from serving.ports import reserved
from serving.processes import Parent, Workers
from serving.service import HasHealthDetail, Service, StartError
from serving.settings import ServerSettings

_log = logging.getLogger("segue.server")


class Server:
    """One gRPC server with one service, health, reflection and metrics."""

    def __init__(self, service: Service, settings: ServerSettings) -> None:
        self._service = service
        self._settings = settings
        self._health = HealthServicer(
            service.health_detail if isinstance(service, HasHealthDetail) else str
        )
        self._names = (service.descriptor.full_name, health.OVERALL_HEALTH)
        self._server = grpc.aio.server(
            interceptors=[RequestInterceptor(message_classes(service.descriptor))],
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
        """Listen, load, then turn health to SERVING; load first where others listen already.

        Raises:
            StartError: the port is taken, or the service cannot load.
        """
        await self._set_health(health_pb2.HealthCheckResponse.NOT_SERVING)
        if self._settings.processes == 1:
            await self._listen()
            await self._service.start()
        else:
            await self._service.start()
            await self._listen()
        _keep_for_good()
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

    async def _listen(self) -> None:
        address = f"{self._settings.host}:{self._settings.port}"
        try:
            self.port = self._server.add_insecure_port(address)
        except RuntimeError:
            raise StartError(_cannot_listen(self._settings)) from None
        await self._server.start()


def run(service: Service, settings: ServerSettings) -> None:
    """Serve until SIGTERM or SIGINT; the whole life of a server, be it one process or several.

    Raises:
        StartError: the server cannot start.
    """
    configure_logs(service.descriptor.name, settings.log_level)
    if settings.processes == 1:
        _start_metrics(settings, REGISTRY)
        uvloop.run(_serve(service, settings))
        return
    _keep_for_good()
    try:
        with reserved(settings.host, settings.port) as port:
            shared = settings.model_copy(update={"port": port})
            Workers(
                settings.processes,
                lambda parent: _work(service, shared, parent),
                settings.shutdown_grace_s,
            ).run()
    except OSError:
        raise StartError(_cannot_listen(settings)) from None


def _keep_for_good() -> None:
    """Let the garbage collector never look again at what is there now.

    It writes to each object that it looks at; in a forked process, that copies its page.
    """
    gc.collect()
    gc.freeze()


def _work(service: Service, settings: ServerSettings, parent: Parent) -> None:
    """Serve as one of several processes; the first of them serves the metrics of all."""
    try:
        if parent.worker == 0:
            registry = CollectorRegistry()
            MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
            _start_metrics(settings, registry)
        uvloop.run(_serve(service, settings, parent))
    except StartError as error:
        parent.tell_failed(str(error))
        sys.exit(1)


async def _serve(service: Service, settings: ServerSettings, parent: Parent | None = None) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    if parent:
        loop.add_reader(parent.lifeline, stop.set)
    server = Server(service, settings)
    starting = asyncio.create_task(server.start())
    stopping = asyncio.create_task(stop.wait())
    try:
        await asyncio.wait({starting, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if starting.done():
            starting.result()
            if parent:
                parent.tell_started()
            await stopping
    finally:
        starting.cancel()
        stopping.cancel()
        await asyncio.gather(starting, stopping, return_exceptions=True)
        await server.stop()


def _start_metrics(settings: ServerSettings, registry: CollectorRegistry) -> None:
    if settings.metrics_port is None:
        return
    try:
        server, _ = start_http_server(settings.metrics_port, settings.host, registry)
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
        # A second server would bind the same port in silence and take half the calls; where
        # processes share one, `reserved` sees to it that they are of one server.
        ("grpc.so_reuseport", int(settings.processes > 1)),
    )


def _cannot_listen(settings: ServerSettings) -> str:
    return (
        f"cannot listen on {settings.host}:{settings.port}: the port is in use or the address is "
        "not this machine's; free it or choose another with --port"
    )


def message_classes(descriptor: ServiceDescriptor) -> dict[str, type[Message]]:
    """The request class of each method, by full method name."""
    return {
        f"/{descriptor.full_name}/{method.name}": GetMessageClass(method.input_type)
        for method in descriptor.methods
    }
