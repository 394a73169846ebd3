"""The recommender's RPCs: ids at the contract, positions inside."""

import asyncio
import logging
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from itertools import chain
from typing import Any, TypeVar

import grpc
from segue.recommender.v1 import recommender_service_pb2 as pb
from segue.recommender.v1 import recommender_service_pb2_grpc

from services.recommender import paging, requests
from services.recommender.answers import Answers, Batch
from services.recommender.artifact import ArtifactError
from services.recommender.batcher import Batcher
from services.recommender.catalogue import UnknownSongError
from services.recommender.index.interface import IndexUnavailableError
from services.recommender.live import LiveModel
from services.recommender.messages import describe, refused
from services.recommender.plain_batch import PlainBatch
from services.recommender.search import EmptyQueryError
from services.recommender.served import IndexChoice
from services.recommender.settings import RecommenderSettings
from services.recommender.wire import batch_response
from serving.errors import FieldViolation, RpcError, invalid_argument, not_found, unavailable
from serving.interceptor import takes_frame
from serving.service import StartError
from serving.validation import check_answer, parse, validate

_log = logging.getLogger("segue.recommender")

Context = grpc.aio.ServicerContext[Any, Any]
Result = TypeVar("Result")
Later = Callable[[], list[bytes]]
Answered = bytes | Later

_TOGETHER = 64
"""Requests that are computed at once: more would save little, and other requests would wait longer,
also for a batch whose client has gone."""

_THREADS = 2
"""Threads that compute what takes long; most of it leaves the interpreter to others."""


class RecommenderService(recommender_service_pb2_grpc.RecommenderServiceServicer):
    """Serves one song model at a time; an answer never mixes two."""

    descriptor = pb.DESCRIPTOR.services_by_name["RecommenderService"]

    def __init__(self, settings: RecommenderSettings) -> None:
        self._settings = settings
        self._live = LiveModel(
            settings.models, settings.version, IndexChoice(settings.index, settings.index_recall)
        )
        self._latest: Answers | None = None
        self._watching: asyncio.Task[None] | None = None
        self._batcher: Batcher[pb.RecommendSongsRequest, Answered] = Batcher(
            self._answer_together, _TOGETHER
        )
        # A model takes seconds to load, a search or a batch milliseconds; the event loop cannot
        # spare either, nor can they wait for a load.
        self._loader = ThreadPoolExecutor(max_workers=1, thread_name_prefix="loader")
        self._background = ThreadPoolExecutor(_THREADS, thread_name_prefix="background")

    def register(self, server: grpc.aio.Server) -> None:
        """Add the methods to a server."""
        recommender_service_pb2_grpc.add_RecommenderServiceServicer_to_server(self, server)

    async def start(self) -> None:
        """Map the model, and from then on follow which one is current, unless one was asked for.

        Raises:
            StartError: there is no usable model.
        """
        try:
            await asyncio.get_running_loop().run_in_executor(self._loader, self._live.start)
        except ArtifactError as error:
            raise StartError(str(error)) from None
        if self._settings.version is None:
            self._watching = asyncio.create_task(self._watch())

    async def close(self) -> None:
        """End the watch and the threads."""
        if self._watching:
            self._watching.cancel()
            with suppress(asyncio.CancelledError):
                await self._watching
        self._batcher.close()
        self._loader.shutdown()
        self._background.shutdown()

    def health_detail(self) -> str:
        """Why another version is served than the one that is to be; empty when it is that one."""
        return self._live.problem

    async def SearchSongs(  # noqa: N802
        self, request: pb.SearchSongsRequest, context: Context
    ) -> pb.SearchSongsResponse:
        """See the contract."""
        wanted = validate(requests.SearchSongs, request)
        answers = self._answers
        offset = _offset(wanted)
        try:
            return await self._in_background(lambda: answers.search(wanted, offset))
        except EmptyQueryError as error:
            raise invalid_argument([FieldViolation("query", str(error))]) from None

    async def GetSongs(  # noqa: N802
        self, request: pb.GetSongsRequest, context: Context
    ) -> pb.GetSongsResponse:
        """See the contract."""
        return self._answers.get(validate(requests.SongIds, request).song_ids)

    async def FindSimilarSongs(  # noqa: N802
        self, request: pb.FindSimilarSongsRequest, context: Context
    ) -> pb.FindSimilarSongsResponse:
        """See the contract."""
        wanted = validate(requests.FindSimilarSongs, request)
        answers = self._answers
        try:
            return await self._in_background(lambda: answers.similar(wanted))
        except UnknownSongError as error:
            raise not_found("segue.recommender.v1.Song", error.song_id, str(error)) from None

    async def RecommendSongs(  # type: ignore[override]  # noqa: N802
        self, request: pb.RecommendSongsRequest, context: Context
    ) -> bytes:
        """See the contract; the response comes serialized."""
        answered = await self._batcher.ask(request)
        if isinstance(answered, bytes):
            return answered
        return (await self._in_background(answered))[0]

    @takes_frame
    async def BatchRecommendSongs(  # type: ignore[override]  # noqa: N802
        self, frame: bytes, context: Context
    ) -> bytes:
        """See the contract; request and response are serialized."""
        batch = PlainBatch.read(frame) or _checked_batch(frame)
        answers = self._answers
        parts = await self._in_parts(answers, batch)
        response = batch_response(chain.from_iterable(parts), answers.version)
        most = self._settings.max_message_bytes
        check_answer(len(response), most, "requests", "ask for fewer at once")
        return response

    async def GetEmbeddings(  # noqa: N802
        self, request: pb.GetEmbeddingsRequest, context: Context
    ) -> pb.GetEmbeddingsResponse:
        """See the contract."""
        return self._answers.embeddings(validate(requests.SongIds, request).song_ids)

    async def GetModel(  # noqa: N802
        self, request: pb.GetModelRequest, context: Context
    ) -> pb.GetModelResponse:
        """See the contract."""
        return pb.GetModelResponse(
            model=describe(self._answers.served),
            refused_versions=map(refused, self._live.refusals),
        )

    @property
    def _answers(self) -> Answers:
        """Answers of the model that is served now; an RPC takes them once and uses only them."""
        served = self._live.served
        if served is None:
            raise unavailable("MODEL_NOT_LOADED", "the song model is being loaded; try again")
        if self._latest is None or self._latest.served is not served:
            self._latest = Answers(served)
        return self._latest

    def _answer_together(
        self, waiting: Sequence[pb.RecommendSongsRequest]
    ) -> list[Answered | RpcError]:
        """Answer requests; those that take long are left to be called in the background."""
        answers = self._answers
        checked = [_checked(request) for request in waiting]
        wanted = [one for one in checked if not isinstance(one, RpcError)]
        outcomes = iter(
            response or partial(answers.part, [one], 0, 1)
            for one, response in zip(wanted, answers.quick(wanted), strict=True)
        )
        return [one if isinstance(one, RpcError) else next(outcomes) for one in checked]

    async def _in_parts(self, answers: Answers, batch: Batch) -> list[list[bytes]]:
        """Answer many requests, no more of them at a time than the threads can take."""
        begins = iter(range(0, len(batch), _TOGETHER))
        parts: dict[int, list[bytes]] = {}

        async def compute() -> None:
            for begin in begins:
                end = min(len(batch), begin + _TOGETHER)
                work = partial(answers.part, batch, begin, end)
                parts[begin] = await self._in_background(work)

        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(_THREADS):
                    group.create_task(compute())
        except ExceptionGroup as failures:  # of several that failed alike one is told
            raise failures.exceptions[0] from None
        return [parts[begin] for begin in sorted(parts)]

    async def _in_background(self, work: Callable[[], Result]) -> Result:
        # An RPC that is cancelled or expires while its work waits takes it out of the queue.
        try:
            return await asyncio.get_running_loop().run_in_executor(self._background, work)
        except IndexUnavailableError as error:
            raise unavailable("INDEX_UNAVAILABLE", str(error)) from None

    async def _watch(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(self._settings.watch_s)
            try:
                await loop.run_in_executor(self._loader, self._live.refresh)
            except Exception:  # a defect must not end the watch unseen
                _log.exception("looking for another version failed")
            if self._latest and self._latest.served is not self._live.served:
                self._latest = None  # the old model goes with its last request, not with the next


def _checked(request: pb.RecommendSongsRequest) -> requests.RecommendSongs | RpcError:
    try:
        return validate(requests.RecommendSongs, request)
    except RpcError as error:
        return error


def _checked_batch(frame: bytes) -> list[requests.RecommendSongs]:
    request = parse(frame, pb.BatchRecommendSongsRequest)
    return validate(requests.BatchRecommendSongs, request).requests


def _offset(wanted: requests.SearchSongs) -> int:
    try:
        return paging.decode(wanted.page_token, wanted.query)
    except paging.PageTokenError:
        problem = "was not given for this query; leave it empty to begin at the first page"
        raise invalid_argument([FieldViolation("page_token", problem)]) from None
