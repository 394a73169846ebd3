"""A server of texts whose clients leave, are more than it takes, or want more memory than it has.

The model is tiny, so that thousands of texts take seconds; the server is the real one.
"""

import asyncio
import random
import time
import urllib.request
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractContextManager, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc
import psutil
import pytest
from google.rpc import error_details_pb2
from grpc_status.rpc_status import from_call
from prometheus_client.parser import text_string_to_metric_families
from segue.generator.v1 import generation_pb2, generator_service_pb2_grpc
from segue.generator.v1 import generator_service_pb2 as pb

from cli.stack import HOST, Member, Ports, server, wait_until_serving
from tests.tiny_models import save_tiny_llama

if TYPE_CHECKING:
    from segue.generator.v1.generator_service_pb2_grpc import GeneratorServiceAsyncStub as Stub

TOKEN_BYTES = 2 * 2 * 2 * 32 * 4
"""Keys and values, two layers, two heads, 32 numbers each, of four bytes."""

IDLE = {
    "vllm:num_requests_running": 0,
    "vllm:num_requests_waiting": 0,
    "vllm:kv_cache_usage_perc": 0,
}


@dataclass(frozen=True, slots=True)
class Server:
    """A generator that serves the tiny model, and its metrics."""

    member: Member
    metrics_port: int

    def metrics(self) -> dict[str, float]:
        """The sum of each metric of the engine over its labels."""
        with urllib.request.urlopen(f"http://{HOST}:{self.metrics_port}/metrics") as page:
            text = page.read().decode()
        values: defaultdict[str, float] = defaultdict(float)
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                values[sample.name] += sample.value
        return values

    def resident_bytes(self) -> int:
        return int(psutil.Process(self.member.process.pid).memory_info().rss)

    def wait_until_idle(self) -> None:
        """Wait until nothing runs, nothing waits, and no memory is held."""
        deadline = time.monotonic() + 20
        while unlike := IDLE.items() - self.metrics().items():
            assert time.monotonic() < deadline, unlike
            time.sleep(0.05)

    @asynccontextmanager
    async def client(self) -> AsyncIterator["Stub"]:
        async with grpc.aio.insecure_channel(self.member.address) as channel:
            stub: Any = generator_service_pb2_grpc.GeneratorServiceStub(channel)
            yield stub


Serve = Callable[..., AbstractContextManager[Server]]


@pytest.fixture
def serve(tmp_path: Path) -> Serve:
    @contextmanager
    def start(*flags: str) -> Iterator[Server]:
        folder, ports = save_tiny_llama(tmp_path / "tiny-llama"), Ports.free()
        given = (f"--model={folder}", f"--metrics-port={ports.gateway}", "--threads=1", *flags)
        with server("generator", ports.generator, tmp_path / "logs", *given) as member:
            wait_until_serving(member)
            yield Server(member, ports.gateway)

    return start


def wanted(prompt: int = 20, new: int = 60) -> pb.GenerateStreamRequest:
    """A text after a prompt of so many tokens, of which no two are alike in their beginnings."""
    return pb.GenerateStreamRequest(
        token_ids=generation_pb2.TokenIds(ids=[10 + prompt % 300, *range(10, 9 + prompt)]),
        stopping=generation_pb2.Stopping(max_new_tokens=new, ignore_eos=True),
    )


async def text_of(stub: "Stub", request: pb.GenerateStreamRequest) -> list[int]:
    """The tokens of a text that must be whole."""
    events = [event async for event in stub.GenerateStream(request)]
    assert events[-1].finished.reason == generation_pb2.FINISH_REASON_LENGTH
    return [token_id for event in events for token_id in event.delta.token_ids]


async def test_two_thousand_streams_that_are_dropped_leave_nothing_behind_and_harm_nobody(
    serve: Serve,
) -> None:
    chance, places = random.Random(2), asyncio.Semaphore(64)

    async def drop(stub: "Stub") -> None:
        """Leave in the queue, while a prompt of up to 190 tokens is computed, or in the text."""
        async with places:
            call = stub.GenerateStream(wanted(prompt=chance.randint(1, 190)))
            for _ in range(chance.choice([0, 1, 1, 2, 4, 20])):
                await call.read()
            await asyncio.sleep(chance.random() * 0.02)
            call.cancel()

    async def drop_many(stub: "Stub", count: int) -> None:
        await asyncio.gather(*(drop(stub) for _ in range(count)))

    with serve("--max-waiting=100", "--max-step-tokens=16") as served:
        async with served.client() as stub:
            alone = await text_of(stub, wanted())
            await drop_many(stub, 500)
            await asyncio.to_thread(served.wait_until_idle)
            before = served.resident_bytes()
            dropping = asyncio.create_task(drop_many(stub, 2000))
            texts = []
            while not dropping.done():
                texts += await asyncio.gather(*(text_of(stub, wanted()) for _ in range(4)))
            await dropping
            await asyncio.to_thread(served.wait_until_idle)
            assert served.resident_bytes() < 1.02 * before
            assert len(texts) > 4
            assert all(text == alone for text in texts)
            # A few were gone before they reached the engine.
            assert served.metrics()["vllm:request_success_total"] > 2000 + len(texts)


async def test_ten_times_the_capacity_is_refused_with_advice_and_leaves_the_server_whole(
    serve: Serve,
) -> None:
    outcomes: Counter[str] = Counter()

    async def ask(stub: "Stub", until: float) -> None:
        while asyncio.get_running_loop().time() < until:
            try:
                assert await text_of(stub, wanted()) == alone
                outcomes["whole"] += 1
            except grpc.aio.AioRpcError as error:
                outcomes[error.code().name] += 1
                retry_delay_s(error)
                await asyncio.sleep(0.1)  # far sooner than advised

    with serve("--max-running=4", "--max-waiting=4") as served:
        async with served.client() as stub:
            alone = await text_of(stub, wanted())
            until = asyncio.get_running_loop().time() + 5
            await asyncio.gather(*(ask(stub, until) for _ in range(80)))
            await asyncio.to_thread(served.wait_until_idle)
            assert outcomes.keys() == {"whole", "RESOURCE_EXHAUSTED"}
            assert min(outcomes.values()) > 20
            assert served.metrics()["segue_generations_failed_total"] == 0
            assert await asyncio.gather(*(text_of(stub, wanted()) for _ in range(8))) == [alone] * 8


def retry_delay_s(error: grpc.aio.AioRpcError) -> float:
    """What a refusal says of when to come again."""
    status: Any = from_call(error)  # type: ignore[arg-type]
    retry = error_details_pb2.RetryInfo()
    assert any(detail.Unpack(retry) for detail in status.details)
    delay = float(retry.retry_delay.ToTimedelta().total_seconds())
    assert 0 < delay < 60
    return delay


async def test_in_little_memory_each_request_is_finished_or_refused_with_a_reason(
    serve: Serve,
) -> None:
    chance, room = random.Random(4), 192
    asked = [wanted(chance.randint(1, 250), chance.randint(1, 60)) for _ in range(120)]

    async def ask(stub: "Stub", request: pb.GenerateStreamRequest) -> str:
        """How a request ends, by name, after a look at what comes with it."""
        prompt = len(request.token_ids.ids)
        try:
            text = await text_of(stub, request)
        except grpc.aio.AioRpcError as error:
            if error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED:
                retry_delay_s(error)
            elif prompt < room or f"the prompt has {prompt} tokens" not in str(error.details()):
                raise
            return error.code().name
        assert len(text) == min(request.stopping.max_new_tokens, room - prompt)
        return "whole"

    # For 32 texts that have up to as many tokens each.
    with serve(f"--kv-bytes={room * TOKEN_BYTES}", "--max-waiting=40") as served:
        async with served.client() as stub:
            outcomes = set(await asyncio.gather(*(ask(stub, request) for request in asked)))
            await asyncio.to_thread(served.wait_until_idle)
            assert outcomes == {"whole", "INVALID_ARGUMENT", "RESOURCE_EXHAUSTED"}
            metrics = served.metrics()
            assert metrics["vllm:num_preemptions_total"] > 0
            assert metrics["segue_generations_failed_total"] == 0
            assert len(await text_of(stub, wanted(100, 92))) == 92
