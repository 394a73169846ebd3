"""The recommender's RPCs: ids at the contract, positions inside."""

import asyncio
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import grpc
import numpy as np
from google.protobuf.timestamp_pb2 import Timestamp
from segue.recommender.v1 import model_pb2, recommender_service_pb2_grpc, song_pb2
from segue.recommender.v1 import recommender_service_pb2 as pb

from services.recommender import paging, ranking, requests
from services.recommender.artifact import ArtifactError, load
from services.recommender.catalogue import UnknownSongError
from services.recommender.model import SongModel
from services.recommender.search import EmptyQueryError, SearchHit, SongSearch
from services.recommender.settings import RecommenderSettings
from serving.errors import FieldViolation, invalid_argument, not_found, unavailable
from serving.server import StartError
from serving.validation import validate

Context = grpc.aio.ServicerContext[Any, Any]


@dataclass(frozen=True, slots=True)
class _Served:
    """A model and what is made from it when it is loaded."""

    model: SongModel
    search: SongSearch


class RecommenderService(recommender_service_pb2_grpc.RecommenderServiceServicer):
    """Serves one song model."""

    descriptor = pb.DESCRIPTOR.services_by_name["RecommenderService"]

    def __init__(self, settings: RecommenderSettings) -> None:
        self._settings = settings
        self._loaded: _Served | None = None
        # Searches a large catalogue for milliseconds, which the event loop cannot spare.
        self._searcher = ThreadPoolExecutor(max_workers=1, thread_name_prefix="search")

    def register(self, server: grpc.aio.Server) -> None:
        """Add the methods to a server."""
        recommender_service_pb2_grpc.add_RecommenderServiceServicer_to_server(self, server)

    async def start(self) -> None:
        """Map the model.

        Raises:
            StartError: there is no usable model.
        """
        try:
            self._loaded = await asyncio.get_running_loop().run_in_executor(
                self._searcher, _load, self._settings
            )
        except ArtifactError as error:
            raise StartError(str(error)) from None

    async def close(self) -> None:
        """End the search thread."""
        self._searcher.shutdown()

    async def SearchSongs(  # noqa: N802
        self, request: pb.SearchSongsRequest, context: Context
    ) -> pb.SearchSongsResponse:
        """See the contract."""
        wanted = validate(requests.SearchSongs, request)
        served = self._served
        offset = _offset(wanted)
        hits = await self._search(served, wanted.query, offset, wanted.page_size + 1)
        more = len(hits) > wanted.page_size
        return pb.SearchSongsResponse(
            matches=[
                pb.SongMatch(song=_song(served.model, hit.position), score=hit.score)
                for hit in hits[: wanted.page_size]
            ],
            next_page_token=paging.encode(offset + wanted.page_size, wanted.query) if more else "",
            model_version=served.model.version,
        )

    async def GetSongs(  # noqa: N802
        self, request: pb.GetSongsRequest, context: Context
    ) -> pb.GetSongsResponse:
        """See the contract."""
        wanted = validate(requests.SongIds, request)
        model = self._served.model
        known, unknown = _positions(model, wanted.song_ids)
        return pb.GetSongsResponse(
            songs=[_song(model, position) for position in known.values()],
            unknown_song_ids=unknown,
            model_version=model.version,
        )

    async def FindSimilarSongs(  # noqa: N802
        self, request: pb.FindSimilarSongsRequest, context: Context
    ) -> pb.FindSimilarSongsResponse:
        """See the contract."""
        wanted = validate(requests.FindSimilarSongs, request)
        model = self._served.model
        try:
            position = model.catalogue.position(wanted.song_id)
        except UnknownSongError as error:
            raise not_found("segue.recommender.v1.Song", error.song_id, str(error)) from None
        songs = ranking.similar(model, position, wanted.limit)
        return pb.FindSimilarSongsResponse(songs=_scored(model, songs), model_version=model.version)

    async def RecommendSongs(  # noqa: N802
        self, request: pb.RecommendSongsRequest, context: Context
    ) -> pb.RecommendSongsResponse:
        """See the contract."""
        wanted = validate(requests.RecommendSongs, request)
        model = self._served.model
        known, unknown = _positions(model, [seed.song_id for seed in wanted.seeds])
        excluded, _ = _positions(model, wanted.exclude_song_ids)
        seeds = [seed for seed in wanted.seeds if seed.song_id in known]
        positions = np.array([known[seed.song_id] for seed in seeds], np.int64)
        weights = np.array([seed.weight for seed in seeds], np.float64)
        exclude = np.array(list(excluded.values()), np.int64)
        if np.any(weights):
            basis = pb.RECOMMENDATION_BASIS_SEEDS
            songs = ranking.next_songs(model, positions, weights, wanted.limit, exclude)
        else:
            basis = pb.RECOMMENDATION_BASIS_POPULARITY
            left_out = np.concatenate((exclude, positions))
            songs = ranking.popular(model, wanted.limit, left_out)
        return pb.RecommendSongsResponse(
            songs=_scored(model, songs),
            basis=basis,
            unknown_song_ids=unknown,
            model_version=model.version,
        )

    async def GetEmbeddings(  # noqa: N802
        self, request: pb.GetEmbeddingsRequest, context: Context
    ) -> pb.GetEmbeddingsResponse:
        """See the contract."""
        wanted = validate(requests.SongIds, request)
        model = self._served.model
        known, unknown = _positions(model, wanted.song_ids)
        return pb.GetEmbeddingsResponse(
            embeddings=[
                pb.SongEmbedding(
                    song_id=song_id,
                    vector=model.vectors[position],
                    output_vector=model.output_vectors[position],
                )
                for song_id, position in known.items()
            ],
            unknown_song_ids=unknown,
            model_version=model.version,
        )

    async def GetModel(  # noqa: N802
        self, request: pb.GetModelRequest, context: Context
    ) -> pb.GetModelResponse:
        """See the contract."""
        return pb.GetModelResponse(model=_description(self._served.model))

    @property
    def _served(self) -> _Served:
        if self._loaded is None:
            raise unavailable("MODEL_NOT_LOADED", "the song model is being loaded; try again")
        return self._loaded

    async def _search(
        self, served: _Served, query: str, offset: int, limit: int
    ) -> list[SearchHit]:
        def search() -> list[SearchHit]:
            return served.search.search(query, offset=offset, limit=limit)

        try:
            return await asyncio.get_running_loop().run_in_executor(self._searcher, search)
        except EmptyQueryError as error:
            raise invalid_argument([FieldViolation("query", str(error))]) from None


def _load(settings: RecommenderSettings) -> _Served:
    model = load(settings.models, settings.version)
    return _Served(model, SongSearch.from_catalogue(model.catalogue))


def _offset(wanted: requests.SearchSongs) -> int:
    try:
        return paging.decode(wanted.page_token, wanted.query)
    except paging.PageTokenError:
        problem = "was not given for this query; leave it empty to begin at the first page"
        raise invalid_argument([FieldViolation("page_token", problem)]) from None


def _positions(model: SongModel, song_ids: Iterable[str]) -> tuple[dict[str, int], list[str]]:
    """The positions of the ids that are known, by id, and the ids that are not; each id once."""
    known: dict[str, int] = {}
    unknown: list[str] = []
    for song_id in dict.fromkeys(song_ids):
        try:
            known[song_id] = model.catalogue.position(song_id)
        except UnknownSongError:
            unknown.append(song_id)
    return known, unknown


def _song(model: SongModel, position: int) -> song_pb2.Song:
    song = model.catalogue[position]
    return song_pb2.Song(
        id=song.id,
        title=song.title,
        artist=song.artist,
        tags=song.tags,
        year=song.year,
        play_count=int(model.play_counts[position]),
    )


def _scored(model: SongModel, songs: ranking.Ranking) -> list[pb.ScoredSong]:
    return [
        pb.ScoredSong(song=_song(model, position), score=score)
        for position, score in zip(songs.positions.tolist(), songs.scores.tolist(), strict=True)
    ]


def _description(model: SongModel) -> model_pb2.Model:
    settings, statistics = model.hyperparameters, model.statistics
    train_time = Timestamp()
    train_time.FromDatetime(model.trained_at)
    return model_pb2.Model(
        version=model.version,
        train_time=train_time,
        corpus=model_pb2.CorpusStatistics(
            name=statistics.name,
            songs=statistics.songs,
            playlists=statistics.playlists,
            plays=statistics.plays,
        ),
        hyperparameters=model_pb2.Hyperparameters(
            vector_size=settings.vector_size,
            window=settings.window,
            min_count=settings.min_count,
            negative=settings.negative,
            epochs=settings.epochs,
            skip_gram=bool(settings.sg),
            ns_exponent=settings.ns_exponent,
            sample=settings.sample,
            seed=settings.seed,
        ),
        index_uri="exact://",
    )
