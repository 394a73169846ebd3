"""The service's background threads: who waits there for whom, and what is dropped."""

import asyncio
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc
import numpy as np
import pytest
from google.rpc import error_details_pb2
from segue.recommender.v1 import recommender_service_pb2 as pb
from segue.recommender.v1 import recommender_service_pb2_grpc

from services.recommender import artifact
from services.recommender.index.interface import IndexUnavailableError
from services.recommender.plain_batch import PlainBatch
from services.recommender.ranking import Ranker
from services.recommender.service import _THREADS, _TOGETHER, RecommenderService
from services.recommender.settings import RecommenderSettings
from serving.errors import RpcError
from serving.interceptor import RequestInterceptor, takes_frame
from serving.server import message_classes
from tests.song_models import song_model

if TYPE_CHECKING:  # this class stands in the type stubs only
    from segue.recommender.v1.recommender_service_pb2_grpc import RecommenderServiceAsyncStub

PATIENCE_S = 30.0

# Song 0 has been followed by so many that playlists alone fill the shortlist of its answer.
INPUTS, OUTPUTS = np.random.default_rng(0).normal(size=(2, 150, 4)).tolist()
MODEL = song_model(
    INPUTS,
    OUTPUTS,
    [[0, *range(first, first + 5)] for first in range(1, 145, 5)],
    artists=[f"Artist {k % 7}" for k in range(150)],
    tags=[("rock",) if k % 2 else () for k in range(150)],
    version="a",
)
LIGHT = pb.RecommendSongsRequest(seeds=[pb.Seed(song_id="0@a")], limit=1)
HEAVY = pb.RecommendSongsRequest(seeds=LIGHT.seeds, diversity=0.5, explain=True)
SEARCH = pb.SearchSongsRequest(query="song")
LARGEST = pb.BatchRecommendSongsRequest(requests=[LIGHT] * 256)
LARGEST_FRAME = LARGEST.SerializeToString()


class Gate:
    """Holds up the computation of batches until it is opened, and notes how much is computed."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.begun, self.opened = threading.Event(), threading.Event()
        self.computed: list[int] = []
        compute = Ranker.next_songs

        def held_up(ranker: Ranker, queries: Any) -> Any:
            self.begun.set()
            assert self.opened.wait(PATIENCE_S)
            self.computed.append(len(queries))
            return compute(ranker, queries)

        monkeypatch.setattr(Ranker, "next_songs", held_up)


class Observed(RecommenderService):
    """Tells when a batch arrives and when it is given up, and when work is put in the queue."""

    def __init__(self, models: Path) -> None:
        super().__init__(RecommenderSettings(models=models))
        self.arrived = asyncio.Semaphore(0)
        self.given_up = asyncio.Event()
        self.queued = asyncio.Semaphore(0)

    @takes_frame
    async def BatchRecommendSongs(  # type: ignore[override]  # noqa: N802
        self, frame: bytes, context: Any
    ) -> bytes:
        self.arrived.release()
        try:
            return await super().BatchRecommendSongs(frame, context)
        except asyncio.CancelledError:
            self.given_up.set()
            raise

    async def _in_background(self, work: Any) -> Any:
        self.queued.release()
        return await super()._in_background(work)


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Gate:
    return Gate(monkeypatch)


@pytest.fixture
async def service(tmp_path: Path) -> AsyncIterator[Observed]:
    artifact.save(MODEL, tmp_path)
    service = Observed(tmp_path)
    await service.start()
    yield service
    await service.close()


@pytest.fixture
async def stub(service: Observed) -> "AsyncIterator[RecommenderServiceAsyncStub]":
    server = grpc.aio.server(interceptors=[RequestInterceptor(message_classes(service.descriptor))])
    service.register(server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield recommender_service_pb2_grpc.RecommenderServiceStub(channel)
    await server.stop(None)


async def until(event: asyncio.Event | asyncio.Semaphore) -> None:
    waiting = event.wait() if isinstance(event, asyncio.Event) else event.acquire()
    await asyncio.wait_for(waiting, PATIENCE_S)


async def holding_the_threads(stub: "RecommenderServiceAsyncStub", service: Observed) -> Any:
    """A batch that has the background threads until the gate is opened."""
    call = stub.BatchRecommendSongs(LARGEST)
    await until(service.arrived)
    return call


async def test_light_requests_are_answered_while_a_batch_is_computed(
    service: Observed, stub: "RecommenderServiceAsyncStub", gate: Gate
) -> None:
    batch = await holding_the_threads(stub, service)
    assert await asyncio.to_thread(gate.begun.wait, PATIENCE_S)
    alone = await stub.RecommendSongs(LIGHT, timeout=PATIENCE_S)
    await stub.GetSongs(pb.GetSongsRequest(song_ids=["1@a"]), timeout=PATIENCE_S)
    assert not batch.done()
    gate.opened.set()
    assert list((await batch).responses) == [alone] * 256


async def test_others_wait_for_a_part_of_a_batch_and_not_for_all_of_it(
    service: Observed, gate: Gate
) -> None:
    calls: list[Any] = [
        service.BatchRecommendSongs(LARGEST_FRAME, None),
        service.RecommendSongs(HEAVY, None),  # type: ignore[arg-type]
        service.SearchSongs(SEARCH, None),  # type: ignore[arg-type]
    ]
    tasks = [asyncio.create_task(call) for call in calls]
    for _ in range(_THREADS + 2):  # the parts that the threads have, the search, the heavy one
        await until(service.queued)
    gate.opened.set()
    await asyncio.gather(*tasks)
    # The heavy one comes behind those parts, and at most one that the other thread has begun.
    assert gate.computed.index(1) <= _THREADS + 1 < len(gate.computed) - 1


async def test_a_batch_that_is_cancelled_while_it_waits_is_never_computed(
    service: Observed, stub: "RecommenderServiceAsyncStub", gate: Gate
) -> None:
    first = await holding_the_threads(stub, service)
    waiting = stub.BatchRecommendSongs(LARGEST)
    await until(service.arrived)
    waiting.cancel()
    await until(service.given_up)
    gate.opened.set()
    await first
    assert sum(gate.computed) == 256


async def test_a_batch_that_expires_while_it_waits_is_never_computed(
    service: Observed, stub: "RecommenderServiceAsyncStub", gate: Gate
) -> None:
    first = await holding_the_threads(stub, service)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub.BatchRecommendSongs(LARGEST, timeout=0.2)
    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    await until(service.arrived)
    await until(service.given_up)
    gate.opened.set()
    await first
    assert sum(gate.computed) == 256


async def test_a_batch_that_is_cancelled_while_it_is_computed_goes_no_further(
    service: Observed, stub: "RecommenderServiceAsyncStub", gate: Gate
) -> None:
    batch = await holding_the_threads(stub, service)
    assert await asyncio.to_thread(gate.begun.wait, PATIENCE_S)
    batch.cancel()
    await until(service.given_up)
    gate.opened.set()
    await stub.SearchSongs(SEARCH)  # is behind in the queue
    assert sum(gate.computed) <= _THREADS * _TOGETHER < 256


async def test_an_index_that_is_lost_makes_a_batch_unavailable_and_ends_its_other_parts(
    service: Observed, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = 0

    def fail(*_: Any) -> Any:
        nonlocal begun
        begun += 1
        raise IndexUnavailableError("the index does not answer")

    monkeypatch.setattr(Ranker, "next_songs", fail)
    calls: list[Any] = [
        service.BatchRecommendSongs(LARGEST_FRAME, None),
        service.RecommendSongs(HEAVY, None),  # type: ignore[arg-type]
    ]
    for call in calls:
        with pytest.raises(RpcError) as caught:
            await call
        assert caught.value.code is grpc.StatusCode.UNAVAILABLE
        assert caught.value.reason == "INDEX_UNAVAILABLE"
    assert begun <= _THREADS + 1
    assert len((await service.SearchSongs(SEARCH, None)).matches) > 0  # type: ignore[arg-type]


async def test_a_batch_whose_responses_exceed_a_message_is_told_to_ask_for_fewer(
    service: Observed, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = service._settings.model_copy(update={"max_message_bytes": 1024})
    monkeypatch.setattr(service, "_settings", small)
    with pytest.raises(RpcError) as caught:
        await service.BatchRecommendSongs(LARGEST_FRAME, None)
    assert caught.value.code is grpc.StatusCode.INVALID_ARGUMENT
    request = error_details_pb2.BadRequest()
    assert any(detail.Unpack(request) for detail in caught.value.status().details)
    [violation] = request.field_violations
    assert violation.field == "requests"
    assert "more than 1,024; ask for fewer" in violation.description


async def test_each_answer_of_a_batch_is_the_one_that_its_request_gets_alone(
    stub: "RecommenderServiceAsyncStub",
) -> None:
    seeds = [[pb.Seed(song_id=f"{k}@a"), pb.Seed(song_id=f"{k + 1}@a")] for k in range(40)]
    options: list[dict[str, Any]] = [
        {},
        {"limit": 1000},
        {"diversity": 0.3, "explain": True},
        {"max_per_artist": 1, "tags": pb.TagFilter(any_of=["rock", "?"])},
        {"exclude_song_ids": ["0@a", "?"], "exact": True},
    ]
    requests = [
        pb.RecommendSongsRequest(seeds=seed, **options[k % len(options)])
        for k, seed in enumerate(seeds)
    ]
    batch = pb.BatchRecommendSongsRequest(requests=requests)
    assert PlainBatch.read(batch.SerializeToString()) is None
    answer = await stub.BatchRecommendSongs(batch)
    assert list(answer.responses) == [await stub.RecommendSongs(request) for request in requests]
    assert answer.model_version == "a"


async def test_a_plain_batch_is_answered_as_its_requests_are_alone(
    stub: "RecommenderServiceAsyncStub",
) -> None:
    seeds = [
        [pb.Seed(song_id=f"{k}@a"), pb.Seed(song_id=f"{k + 1}@a", weight=0.5)] for k in range(40)
    ]
    unknown = [pb.Seed(song_id="?"), pb.Seed(song_id="x" * 200, weight=-1), pb.Seed(song_id="?")]
    seeds += [[*unknown, *seeds[7]], unknown, [pb.Seed(song_id="3@a", weight=0)]]
    requests = [
        pb.RecommendSongsRequest(seeds=seed, limit=[None, 1, 60, 200][k % 4])
        for k, seed in enumerate(seeds)
    ]
    batch = pb.BatchRecommendSongsRequest(requests=requests)
    assert PlainBatch.read(batch.SerializeToString()) is not None
    answer = await stub.BatchRecommendSongs(batch)
    assert list(answer.responses) == [await stub.RecommendSongs(request) for request in requests]
    assert answer.responses[40].unknown_song_ids == ["?", "x" * 200]


async def test_a_frame_that_is_no_batch_is_refused_as_other_frames_are(service: Observed) -> None:
    for frame in (b"", b"\xff", b"\x0a\x05ab", batch_of(LIGHT, pb.RecommendSongsRequest())):
        with pytest.raises(RpcError) as caught:
            await service.BatchRecommendSongs(frame, None)
        assert caught.value.code is grpc.StatusCode.INVALID_ARGUMENT


def batch_of(*requests: pb.RecommendSongsRequest) -> bytes:
    return pb.BatchRecommendSongsRequest(requests=requests).SerializeToString()
