import asyncio
from collections.abc import Callable

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from cli.health import Health, ask_health
from serving.health import HealthServicer


async def asked(detail: Callable[[], str], *, serving: bool = True) -> Health:
    """What `segue health` sees of a server with this detail."""
    server = grpc.aio.server()
    servicer = HealthServicer(detail)
    status = health_pb2.HealthCheckResponse
    await servicer.set("", status.SERVING if serving else status.NOT_SERVING)
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        return await asyncio.to_thread(ask_health, f"127.0.0.1:{port}")
    finally:
        await server.stop(None)


@pytest.mark.parametrize("serving", [True, False])
async def test_a_detail_comes_along_and_leaves_the_status_as_it_is(serving: bool) -> None:
    answer = await asked(lambda: "version b was refused", serving=serving)
    assert answer == Health(serving, "version b was refused")


async def test_without_a_detail_nothing_comes_along() -> None:
    assert await asked(str) == Health(serving=True, detail="")


async def test_a_detail_is_sent_as_one_line_of_ascii_whatever_it_holds() -> None:
    answer = await asked(lambda: "Beyoncé:\n\tbroken\x00" + "!" * 100_000)
    assert answer.serving
    assert answer.detail.startswith(r"Beyonc\xe9: broken")
    assert answer.detail.isascii()
    assert answer.detail.isprintable()


async def test_a_server_that_is_not_there_is_not_serving() -> None:
    assert await asyncio.to_thread(ask_health, "127.0.0.1:1") == Health(serving=False)
