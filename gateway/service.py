"""The gateway's RPCs."""

import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import Any, TypeVar

import grpc
from google.protobuf.message import Message
from segue.gateway.v1 import gateway_service_pb2 as pb
from segue.gateway.v1 import gateway_service_pb2_grpc
from segue.generator.v1 import generation_pb2
from segue.generator.v1 import generator_service_pb2 as generator_pb
from segue.recommender.v1 import recommender_service_pb2 as recommender_pb
from segue.recommender.v1.song_pb2 import Song

from gateway.backends import Backends
from gateway.narration import SYSTEM, NarratedSong, user_prompt
from gateway.requests import NarrateRequest
from gateway.settings import GatewaySettings
from gateway.songs import Songs
from gateway.text import failed, stream_text
from serving.deadlines import time_left
from serving.errors import RpcError, deadline_exceeded
from serving.validation import validate

Context = grpc.aio.ServicerContext[Any, Any]
Target = TypeVar("Target", bound=Message)

# Small models like to stop before they have named a song.
LEAST_NEW_TOKENS = 40
MOST_NEW_TOKENS = 160


class GatewayService(gateway_service_pb2_grpc.GatewayServiceServicer):
    """Combines the recommender and the generator."""

    descriptor = pb.DESCRIPTOR.services_by_name["GatewayService"]

    def __init__(self, settings: GatewaySettings) -> None:
        self._settings = settings
        self._opened: Backends | None = None

    def register(self, server: grpc.aio.Server) -> None:
        """Add the methods to a server."""
        gateway_service_pb2_grpc.add_GatewayServiceServicer_to_server(self, server)

    async def start(self) -> None:
        """Open the channels; a service that is not there yet is connected to when it comes."""
        self._opened = Backends(self._settings)
        self._opened.connect()

    async def close(self) -> None:
        """Close the channels."""
        if self._opened:
            await self._opened.close()

    async def SearchSongs(  # noqa: N802
        self, request: pb.SearchSongsRequest, context: Context
    ) -> pb.SearchSongsResponse:
        """See the contract."""
        behind = _as(recommender_pb.SearchSongsRequest, request)
        return _as(pb.SearchSongsResponse, await self._songs(context).search(behind))

    async def RecommendSongs(  # noqa: N802
        self, request: pb.RecommendSongsRequest, context: Context
    ) -> pb.RecommendSongsResponse:
        """See the contract."""
        behind = _as(recommender_pb.RecommendSongsRequest, request)
        return _as(pb.RecommendSongsResponse, await self._songs(context).recommend(behind))

    async def GenerateStream(  # noqa: N802
        self, request: pb.GenerateStreamRequest, context: Context
    ) -> AsyncIterator[pb.GenerateStreamResponse]:
        """See the contract."""
        behind = _as(generator_pb.GenerateStreamRequest, request)
        async with aclosing(self._text(behind, context)) as events:
            async for event in events:
                yield _as(pb.GenerateStreamResponse, event)

    async def Narrate(  # noqa: N802
        self, request: pb.NarrateRequest, context: Context
    ) -> AsyncIterator[pb.NarrateResponse]:
        """See the contract."""
        begin = time.perf_counter()
        finished = pb.NarrationFinished()
        songs = await self._narrated_songs(validate(NarrateRequest, request), context, finished)
        _set_duration(finished.time_to_songs, begin)
        yield pb.NarrateResponse(songs=songs)
        try:
            async with aclosing(self._text(_narration(request, songs), context)) as events:
                async for event in events:
                    if event.delta.text:
                        if not finished.HasField("time_to_first_text"):
                            _set_duration(finished.time_to_first_text, begin)
                        yield pb.NarrateResponse(text=pb.NarratedText(text=event.delta.text))
                    else:
                        _note(event, finished)
        except RpcError as failure:
            _finish(failed(failure), finished)
        _set_duration(finished.total_time, begin)
        yield pb.NarrateResponse(finished=finished)

    async def _narrated_songs(
        self, request: NarrateRequest, context: Context, finished: pb.NarrationFinished
    ) -> pb.NarratedSongs:
        recommender = self._songs(context)
        ids, known = await recommender.resolve(request.seeds)
        seeds = [recommender_pb.Seed(song_id=song_id) for song_id in ids]
        answer = await recommender.recommend(
            recommender_pb.RecommendSongsRequest(seeds=seeds, limit=request.limit)
        )
        finished.song_model_version = answer.model_version
        return pb.NarratedSongs(
            seeds=[known[song_id] for song_id in ids if song_id in known],
            songs=answer.songs,
            basis=answer.basis,
            unknown_song_ids=answer.unknown_song_ids,
        )

    def _songs(self, context: Context) -> Songs:
        timeout_s = self._settings.recommender_timeout_s
        return Songs(self._backends.recommender, context, timeout_s)

    def _text(
        self, request: generator_pb.GenerateStreamRequest, context: Context
    ) -> AsyncGenerator[generator_pb.GenerateStreamResponse, None]:
        timeout_s = time_left(context, self._settings.generator_timeout_s)
        return stream_text(self._backends.generator, request, timeout_s)

    @property
    def _backends(self) -> Backends:
        assert self._opened is not None, "no RPC is served before `start`"  # noqa: S101
        return self._opened


def _narration(
    request: pb.NarrateRequest, songs: pb.NarratedSongs
) -> generator_pb.GenerateStreamRequest:
    """Ask the generator for a text about exactly these songs."""
    prompt = user_prompt(
        [_narrated(song) for song in songs.seeds],
        [_narrated(scored.song) for scored in songs.songs],
    )
    messages = [
        generation_pb2.ChatMessage(role=generation_pb2.ROLE_SYSTEM, content=SYSTEM),
        generation_pb2.ChatMessage(role=generation_pb2.ROLE_USER, content=prompt),
    ]
    stopping = generation_pb2.Stopping(max_new_tokens=MOST_NEW_TOKENS)
    stopping.MergeFrom(request.stopping)
    if not stopping.HasField("min_new_tokens"):
        stopping.min_new_tokens = max(0, min(LEAST_NEW_TOKENS, stopping.max_new_tokens))
    return generator_pb.GenerateStreamRequest(
        chat=generation_pb2.Chat(messages=messages), sampling=request.sampling, stopping=stopping
    )


def _narrated(song: Song) -> NarratedSong:
    year = song.year if song.HasField("year") else None
    return NarratedSong(song.title, song.artist, tuple(song.tags), year)


def _note(event: generator_pb.GenerateStreamResponse, finished: pb.NarrationFinished) -> None:
    """Keep what `started` and `finished` of the generator say for the end of the narration.

    A delta without text, of tokens that say nothing, is passed over.
    """
    if event.HasField("started"):
        finished.language_model = event.started.model
    elif event.HasField("finished"):
        _finish(event.finished, finished)


def _finish(text: generation_pb2.Finished, finished: pb.NarrationFinished) -> None:
    finished.reason = text.reason
    if text.HasField("usage"):
        finished.usage.CopyFrom(text.usage)
    if text.HasField("error"):
        finished.error.CopyFrom(text.error)
    elif text.reason == generation_pb2.FINISH_REASON_DEADLINE:
        problem = "the text was not finished before the deadline"
        finished.error.CopyFrom(deadline_exceeded(problem).status())


def _set_duration(field: Any, begin: float) -> None:
    field.FromNanoseconds(round((time.perf_counter() - begin) * 1e9))


def _as(target: type[Target], message: Message) -> Target:
    """The same fields as another message; a test holds the two together."""
    return target.FromString(message.SerializeToString())
