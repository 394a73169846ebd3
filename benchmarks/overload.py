"""How a server of texts takes ten times the clients that it has room for.

    python -m benchmarks.overload [--seconds 60] [--running 32] [--waiting 16]

Capacity is what the server accepts at most: as many clients as may run and wait, each of which asks
for its next text as soon as it has one. Overload is ten times as many of the same; who is refused
comes again after the delay that the refusal tells. The model is the embedded one. Times are those
that a client sees; the load comes from this process, so it takes part of the machine. The last line
is JSON.
"""

import asyncio
import gc
import json
import random
import signal
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import grpc
import numpy as np
import typer
import uvloop
from google.rpc import error_details_pb2
from grpc_status.rpc_status import from_call
from rich.console import Console
from rich.table import Table
from segue.generator.v1 import generation_pb2, generator_service_pb2_grpc
from segue.generator.v1 import generator_service_pb2 as pb

from cli.stack import Ports, server, wait_until_serving
from services.recommender.starter.songs import read_songs

TIMES = 10
RAMP_S = 5.0
"""Over which clients come, and after which what they see counts."""


@dataclass(slots=True)
class Seen:
    """What clients saw; times in seconds."""

    first_token: list[float] = field(default_factory=list)
    refusal: list[float] = field(default_factory=list)
    tokens: int = 0


class Clients:
    """Closed-loop clients of one server.

    Args:
        address: Of the server.
        seconds: How long they come, after the ramp.
    """

    def __init__(self, address: str, seconds: float) -> None:
        self._address = address
        self._seconds = seconds
        self._prompts = [f"A song like {song.title} by {song.artist} is" for song in read_songs()]

    async def run(self, count: int) -> Seen:
        """Let so many clients come, and wait for the last text."""
        seen, begin = Seen(), time.perf_counter()
        async with grpc.aio.insecure_channel(self._address) as channel:
            stub = generator_service_pb2_grpc.GeneratorServiceStub(channel)
            await asyncio.gather(*(self._client(stub, k, begin, seen) for k in range(count)))
        return seen

    async def _client(self, stub: Any, number: int, begin: float, seen: Seen) -> None:
        chance = random.Random(number)  # noqa: S311
        await asyncio.sleep(chance.random() * RAMP_S)
        while (asked := time.perf_counter()) < begin + RAMP_S + self._seconds:
            counts = asked > begin + RAMP_S
            try:
                first, tokens = await self._text(stub, chance)
            except grpc.aio.AioRpcError as error:
                refusal = time.perf_counter() - asked
                delay = _retry_delay_s(error)
                if counts:
                    seen.refusal.append(refusal)
                await asyncio.sleep(delay)
            else:
                if counts:
                    seen.first_token.append(first - asked)
                    seen.tokens += tokens

    async def _text(self, stub: Any, chance: random.Random) -> tuple[float, int]:
        """When a text's first token came, and how many there were."""
        request = pb.GenerateStreamRequest(
            prompt=chance.choice(self._prompts),
            stopping=generation_pb2.Stopping(
                max_new_tokens=chance.randint(16, 48), ignore_eos=True
            ),
        )
        first, finished = 0.0, None
        async for event in stub.GenerateStream(request):
            if event.HasField("delta") and not first:
                first = time.perf_counter()
            if event.HasField("finished"):
                finished = event.finished
        if finished is None or finished.reason != generation_pb2.FINISH_REASON_LENGTH:
            raise RuntimeError(f"a text that was accepted is not whole: {finished}")
        return first, finished.usage.generated_tokens


def _retry_delay_s(error: grpc.aio.AioRpcError) -> float:
    """What a refusal says of when to come again; any other error is raised."""
    status: Any = from_call(error)  # type: ignore[arg-type]
    retry = error_details_pb2.RetryInfo()
    if error.code() is not grpc.StatusCode.RESOURCE_EXHAUSTED or not any(
        detail.Unpack(retry) for detail in status.details
    ):
        raise error
    return float(retry.retry_delay.ToTimedelta().total_seconds())


@contextmanager
def generator(running: int, waiting: int) -> Iterator[str]:
    """A server of the embedded model, and its address."""
    flags = ("--model=embedded", f"--max-running={running}", f"--max-waiting={waiting}")
    with (
        tempfile.TemporaryDirectory() as logs,
        server(
            "generator", Ports.free().generator, Path(logs), "--metrics-port=null", *flags
        ) as member,
    ):
        wait_until_serving(member)
        yield member.address


def measure(
    seconds: Annotated[float, typer.Option(help="How long each load lasts.")] = 60.0,
    running: Annotated[int, typer.Option(help="Texts that grow at a time.")] = 32,
    waiting: Annotated[int, typer.Option(help="Requests that wait beside them.")] = 16,
) -> None:
    """Serve, measure, and print a table and a line of JSON."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # or the server would live on
    console = Console(soft_wrap=True)
    places = running + waiting
    # What has been imported is not searched for garbage again: while that takes, up to 70 ms, no
    # answer is seen.
    gc.collect()
    gc.freeze()
    with generator(running, waiting) as address:
        clients = Clients(address, seconds)
        console.print(f"{places} clients, then {TIMES * places}, {seconds:.0f} s each")
        capacity = uvloop.run(clients.run(places))
        overload = uvloop.run(clients.run(TIMES * places))
        after = uvloop.run(clients.run(places))
    if not (capacity.first_token and overload.first_token and after.first_token):
        raise SystemExit("not one text was begun after the ramp and finished; give more --seconds")
    rows = {
        f"{places} clients": capacity,
        f"{TIMES * places} clients": overload,
        f"{places} clients afterwards": after,
    }
    console.print(_table(rows, seconds))
    before, under = (_ms(seen.first_token, 99) for seen in (capacity, overload))
    console.print(
        json.dumps(
            {
                "capacity_ttft_p99_ms": before,
                "overload_ttft_p99_ms": under,
                "ttft_ratio": round(under / before, 2),
                "refusal_p99_ms": _ms(overload.refusal, 99),
                "refusal_max_ms": _ms(overload.refusal, 100),
                "accepted": len(overload.first_token),
                "refused": len(overload.refusal),
            }
        )
    )


def _table(rows: dict[str, Seen], seconds: float) -> Table:
    table = Table("", "accepted", "tokens/s", "first token p50 ms", "p99 ms", "refused", "p99 ms")
    for name, seen in rows.items():
        table.add_row(
            name,
            f"{len(seen.first_token):,}",
            f"{seen.tokens / seconds:,.0f}",
            *(f"{_ms(seen.first_token, share):,.0f}" for share in (50, 99)),
            f"{len(seen.refusal):,}",
            f"{_ms(seen.refusal, 99):,.1f}" if seen.refusal else "",
        )
    return table


def _ms(times: list[float], share: float) -> float:
    return round(float(np.percentile(times, share)) * 1e3, 1)


if __name__ == "__main__":
    typer.run(measure)
