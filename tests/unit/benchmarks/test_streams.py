"""The load, against a server that says so many tokens as it is asked for, at once or never."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest
from segue.generator.v1 import generation_pb2, generator_service_pb2_grpc
from segue.generator.v1 import generator_service_pb2 as pb

from benchmarks import streams
from benchmarks.prompts import NEW_TOKENS
from benchmarks.streams import Interval, LoadError, Record, measure, measure_gaps


class Generator(generator_service_pb2_grpc.GeneratorServiceServicer):
    """Says as many tokens as are asked for, three at a time; keeps what it was asked."""

    def __init__(self) -> None:
        self.asked: list[pb.GenerateStreamRequest] = []
        self.growing = 0
        self.most_growing = 0
        self.ends_early = False

    async def GenerateStream(  # noqa: N802
        self, request: pb.GenerateStreamRequest, context: Any
    ) -> AsyncIterator[pb.GenerateStreamResponse]:
        self.asked.append(request)
        self.growing += 1
        self.most_growing = max(self.most_growing, self.growing)
        try:
            left = request.stopping.max_new_tokens - self.ends_early
            while left > 0:
                ids = range(min(3, left))
                left -= len(ids)
                yield pb.GenerateStreamResponse(delta=generation_pb2.Delta(token_ids=ids))
                await asyncio.sleep(0.001)
            yield pb.GenerateStreamResponse(finished=generation_pb2.Finished())
        finally:
            self.growing -= 1

    async def Tokenize(  # noqa: N802
        self, request: pb.TokenizeRequest, context: Any
    ) -> pb.TokenizeResponse:
        words = request.text.split()
        return pb.TokenizeResponse(tokens=[pb.Token(id=place) for place in range(len(words))])


@pytest.fixture
def servicer() -> Generator:
    return Generator()  # type: ignore[abstract]  # nothing else is called


@asynccontextmanager
async def serving(servicer: Generator, most: int | None = None) -> AsyncIterator[str]:
    server = grpc.aio.server(maximum_concurrent_rpcs=most)
    generator_service_pb2_grpc.add_GeneratorServiceServicer_to_server(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        await server.stop(None)


@pytest.fixture(autouse=True)
def short_ramp(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "_RAMP_S", 0.5)


async def test_as_many_texts_grow_as_there_are_streams(servicer: Generator) -> None:
    async with serving(servicer) as address:
        speed = await measure(address, 4, seconds=0.3)
    assert servicer.most_growing == 4
    assert len(servicer.asked) > 4
    assert speed.tokens_per_second > 0
    assert speed.first_token_ms is not None
    assert speed.gap_p50_ms is not None


async def test_each_text_is_whole_but_the_first_of_each_stream(servicer: Generator) -> None:
    async with serving(servicer) as address:
        await measure(address, 4, seconds=0.3)
    lengths = [request.stopping.max_new_tokens for request in servicer.asked]
    assert sorted(lengths[:4]) == [16, 32, 48, 64]
    assert set(lengths[4:]) == {NEW_TOKENS}
    assert all(request.stopping.ignore_eos for request in servicer.asked)


async def test_no_prompt_comes_twice(servicer: Generator) -> None:
    async with serving(servicer) as address:
        await measure(address, 2, seconds=0.2)
        await measure(address, 2, seconds=0.2)
    prompts = [request.prompt for request in servicer.asked]
    assert len(set(prompts)) == len(prompts)


async def test_long_prompts_arrive_while_texts_grow(servicer: Generator) -> None:
    async with serving(servicer) as address:
        without, during = await measure_gaps(address, 2, prompt_tokens=50, prompts=3, pause_s=0.05)
    long = [request for request in servicer.asked if request.HasField("token_ids")]
    assert [len(request.token_ids.ids) for request in long] == [50, 50, 50]
    assert [request.stopping.max_new_tokens for request in long] == [1, 1, 1]
    assert without
    assert during


async def test_a_text_that_ends_early_is_no_measurement(servicer: Generator) -> None:
    servicer.ends_early = True
    async with serving(servicer) as address:
        with pytest.raises(LoadError, match=r"a text of \d+ tokens ended after \d+"):
            await measure(address, 2, seconds=5)


async def test_a_request_that_is_refused_is_no_measurement(servicer: Generator) -> None:
    async with serving(servicer, most=1) as address:
        with pytest.raises(LoadError, match="RESOURCE_EXHAUSTED"):
            await measure(address, 2, seconds=5)


@pytest.fixture
def record() -> Record:
    """Two tokens before a window from 10 to 20, five in it, and three after it."""
    return Record(
        tokens=[(10.0, 2), (11.0, 2), (20.0, 3), (20.5, 3)],
        firsts=[Interval(9.0, 10.0), Interval(9.0, 11.0), Interval(19.0, 20.5)],
        gaps=[Interval(9.5, 10.5), Interval(11.0, 14.0), Interval(14.0, 20.5)],
    )


def test_what_comes_in_the_window_counts(record: Record) -> None:
    speed = record.speed(Interval(10.0, 20.0))
    assert speed.tokens_per_second == 0.5
    assert speed.first_token_ms == 2000
    assert speed.gap_p50_ms == 2000
    assert speed.gap_p99_ms == pytest.approx(2980)
