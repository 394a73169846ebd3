"""Songs from the recommender: the calls that the gateway makes, and how seeds are looked up."""

import asyncio
from collections.abc import Awaitable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import grpc
from segue.recommender.v1 import recommender_service_pb2 as pb
from segue.recommender.v1.song_pb2 import Song

from gateway.requests import NarrationSeed
from serving.context import outgoing_metadata
from serving.deadlines import time_left
from serving.errors import from_backend, not_found

if TYPE_CHECKING:  # this class stands in the type stubs only
    from segue.recommender.v1.recommender_service_pb2_grpc import RecommenderServiceAsyncStub

Context = grpc.aio.ServicerContext[Any, Any]
Response = TypeVar("Response")


class Songs:
    """The recommender, as one request of a client needs it.

    Every method raises RpcError with the recommender's own status and details, or UNAVAILABLE when
    it cannot be reached.
    """

    def __init__(
        self, stub: "RecommenderServiceAsyncStub", context: Context, timeout_s: float
    ) -> None:
        self._stub = stub
        self._context = context
        self._timeout_s = timeout_s

    async def search(self, request: pb.SearchSongsRequest) -> pb.SearchSongsResponse:
        """Look songs up by words."""
        return await _answer(self._stub.SearchSongs(request, **self._options()))

    async def recommend(self, request: pb.RecommendSongsRequest) -> pb.RecommendSongsResponse:
        """Say what to play next."""
        return await _answer(self._stub.RecommendSongs(request, **self._options()))

    async def resolve(self, seeds: Sequence[NarrationSeed]) -> tuple[list[str], dict[str, Song]]:
        """Turn seeds into ids, in the order given, and into those songs that are known, by id.

        Raises:
            RpcError: NOT_FOUND when no song matches the words of a seed.
        """
        try:
            async with asyncio.TaskGroup() as group:
                known = group.create_task(self._get([s.song_id for s in seeds if s.song_id]))
                found = [
                    group.create_task(self._find(seed.query, number))
                    for number, seed in enumerate(seeds)
                    if seed.query
                ]
        except ExceptionGroup as errors:
            raise errors.exceptions[0] from None
        matches = [task.result() for task in found]
        in_order = iter(matches)
        ids = [seed.song_id or next(in_order).id for seed in seeds]
        return ids, {song.id: song for song in (*known.result(), *matches)}

    async def _get(self, song_ids: list[str]) -> Sequence[Song]:
        if not song_ids:
            return []
        request = pb.GetSongsRequest(song_ids=song_ids)
        return (await _answer(self._stub.GetSongs(request, **self._options()))).songs

    async def _find(self, query: str, number: int) -> Song:
        response = await self.search(pb.SearchSongsRequest(query=query, page_size=1))
        if not response.matches:
            problem = f"seeds[{number}].query: no song matches {query!r}; try other words"
            raise not_found("segue.recommender.v1.Song", query, problem)
        return response.matches[0].song

    def _options(self) -> dict[str, Any]:
        timeout = time_left(self._context, self._timeout_s)
        return {"timeout": timeout, "metadata": outgoing_metadata()}


async def _answer(call: Awaitable[Response]) -> Response:
    try:
        return await call
    except grpc.aio.AioRpcError as error:
        raise from_backend(error, "recommender") from None
