"""Load for the generator: a number of texts that always grow, over gRPC.

As soon as a text is finished its stream asks for the next. The first texts are of different
lengths, so that from then on the streams are at different places of their texts, as they are when
requests come when they like.
"""

import asyncio
import itertools
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import grpc
from segue.generator.v1 import generation_pb2, generator_service_pb2_grpc
from segue.generator.v1 import generator_service_pb2 as pb

from benchmarks.prompts import NEW_TOKENS, prompts
from benchmarks.speed import Speed

# An engine that does one text after the other lets some of the streams wait for minutes.
_RAMP_S = 5.0

# One for all measurements, since the servers remember what they have computed.
_prompts = prompts()

if TYPE_CHECKING:
    Stub = generator_service_pb2_grpc.GeneratorServiceAsyncStub


class LoadError(Exception):
    """A server did not do what was asked of it, so that there is nothing to measure."""


@dataclass(frozen=True, slots=True)
class Interval:
    """From one moment of `time.perf_counter()` to another."""

    begin: float
    end: float

    @property
    def seconds(self) -> float:
        """How long it is."""
        return self.end - self.begin

    def overlaps(self, other: "Interval") -> bool:
        """Whether they share any time."""
        return self.begin < other.end and other.begin < self.end

    def ends_in(self, other: "Interval") -> bool:
        """Whether its end lies in the other."""
        return other.begin < self.end <= other.end


@dataclass(slots=True)
class Record:
    """What came in over all streams.

    Attributes:
        tokens: When, and how many tokens.
        firsts: From each request to its first tokens.
        gaps: From each text's tokens to its next ones.
    """

    tokens: list[tuple[float, int]] = field(default_factory=list)
    firsts: list[Interval] = field(default_factory=list)
    gaps: list[Interval] = field(default_factory=list)

    def speed(self, window: Interval) -> Speed:
        """How fast tokens came within a window."""
        return Speed.of(
            sum(count for moment, count in self.tokens if window.begin < moment <= window.end),
            window.seconds,
            [first.seconds for first in self.firsts if first.ends_in(window)],
            [gap.seconds for gap in self.gaps if gap.ends_in(window)],
        )


async def measure(address: str, count: int, seconds: float) -> Speed:
    """How fast a server's tokens come over `count` streams, for some seconds.

    Raises:
        LoadError: it refused a request or ended a text early.
    """
    async with _stub(address) as stub, _streams(stub, count) as record:
        begin = time.perf_counter()
        await asyncio.sleep(seconds)
        return record.speed(Interval(begin, time.perf_counter()))


async def measure_gaps(
    address: str, count: int, *, prompt_tokens: int, prompts: int, pause_s: float
) -> tuple[list[float], list[float]]:
    """Seconds between tokens of `count` streams without, and while, a long prompt is computed.

    Args:
        address: Of the server.
        count: How many streams there are beside it.
        prompt_tokens: Of each long prompt.
        prompts: How many arrive, one after the other.
        pause_s: Before each, in which nothing arrives but what always does.

    Raises:
        LoadError: as `measure`.
    """
    async with _stub(address) as stub:
        inputs = [await _long_input(stub, prompt_tokens) for _ in range(prompts)]
        async with _streams(stub, count) as record:
            begin = time.perf_counter()
            arrivals = []
            for token_ids in inputs:
                await asyncio.sleep(pause_s)
                arrivals.append(await _arrival(stub, token_ids))
    without: list[float] = []
    during: list[float] = []
    for gap in record.gaps:
        if gap.begin >= begin:
            (during if any(map(gap.overlaps, arrivals)) else without).append(gap.seconds)
    return without, during


@asynccontextmanager
async def _stub(address: str) -> "AsyncIterator[Stub]":
    async with grpc.aio.insecure_channel(address) as channel:
        yield generator_service_pb2_grpc.GeneratorServiceStub(channel)


@asynccontextmanager
async def _streams(stub: "Stub", count: int) -> AsyncIterator[Record]:
    """Keep `count` texts growing until the block ends; it begins when all have begun to grow."""
    record = Record()
    try:
        async with asyncio.TaskGroup() as group:
            growing = [asyncio.Event() for _ in range(count)]
            streams = [
                group.create_task(_stream(stub, record, NEW_TOKENS * (place + 1) // count, begun))
                for place, begun in enumerate(growing)
            ]
            with suppress(TimeoutError):
                async with asyncio.timeout(_RAMP_S):
                    for begun in growing:
                        await begun.wait()
            yield record
            for stream in streams:
                stream.cancel()
    except ExceptionGroup as failures:
        raise failures.exceptions[0] from None


async def _stream(stub: "Stub", record: Record, tokens: int, begun: asyncio.Event) -> None:
    """Ask for one text after the other, of which the first is shorter."""
    for wanted in itertools.chain([tokens], itertools.repeat(NEW_TOKENS)):
        request = pb.GenerateStreamRequest(prompt=next(_prompts), stopping=_stopping(wanted))
        latest, intervals = time.perf_counter(), record.firsts
        async for count in _tokens(stub, request):
            moment = time.perf_counter()
            record.tokens.append((moment, count))
            intervals.append(Interval(latest, moment))
            latest, intervals = moment, record.gaps
            begun.set()


async def _arrival(stub: "Stub", token_ids: generation_pb2.TokenIds) -> Interval:
    """From a request for one token to the end of the answer."""
    begin = time.perf_counter()
    request = pb.GenerateStreamRequest(token_ids=token_ids, stopping=_stopping(1))
    async for _ in _tokens(stub, request):
        pass
    return Interval(begin, time.perf_counter())


async def _tokens(stub: "Stub", request: pb.GenerateStreamRequest) -> AsyncIterator[int]:
    """Ask for a text, and say how many tokens have come whenever some have."""
    came = 0
    try:
        async for event in stub.GenerateStream(request):
            if event.HasField("delta"):
                came += len(event.delta.token_ids)
                yield len(event.delta.token_ids)
    except grpc.aio.AioRpcError as error:
        raise LoadError(f"a request failed: {error.code().name}: {error.details()}") from None
    wanted = request.stopping.max_new_tokens
    if came != wanted:
        raise LoadError(f"a text of {wanted} tokens ended after {came}")


async def _long_input(stub: "Stub", tokens: int) -> generation_pb2.TokenIds:
    """A prompt of exactly so many tokens, which begins as no other does."""
    text = next(_prompts) + " and went on, and on, and then turned into another one" * (
        tokens // 10
    )
    answer = await stub.Tokenize(pb.TokenizeRequest(text=text))
    return generation_pb2.TokenIds(ids=[token.id for token in answer.tokens[:tokens]])


def _stopping(tokens: int) -> generation_pb2.Stopping:
    return generation_pb2.Stopping(max_new_tokens=tokens, ignore_eos=True)
