"""One model's answers as the contract's messages: ids outside, positions inside."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from google.protobuf.internal.containers import RepeatedCompositeFieldContainer
from segue.recommender.v1 import recommender_service_pb2 as pb

from services.recommender import paging, requests
from services.recommender.catalogue import UnknownSongError
from services.recommender.filters import TagFilter
from services.recommender.messages import SongMessages, add_reasons
from services.recommender.ranking import NO_SONGS, Positions, Query, Ranking
from services.recommender.served import ServedModel


@dataclass(frozen=True, slots=True)
class Asked:
    """A checked request for what comes next, as a query for the model at hand.

    Attributes:
        query: The query.
        seed_ids: The ids of its seeds.
        unknown_song_ids: Seeds that the model does not know, each once.
        unknown_tags: Tags of the filter that no song has.
        explain: Whether reasons are wanted.
    """

    query: Query
    seed_ids: Sequence[str]
    unknown_song_ids: Sequence[str]
    unknown_tags: Sequence[str]
    explain: bool


class Answers:
    """Answers with one model, from the first to the last byte."""

    def __init__(self, served: ServedModel) -> None:
        self.served = served
        self.version = served.model.version
        self.songs = SongMessages(served.model)

    def positions(self, song_ids: Iterable[str]) -> tuple[dict[str, int], list[str]]:
        """The positions of the ids that are known, by id, and the ids that are not; each once."""
        find = self.served.model.catalogue.position
        known: dict[str, int] = {}
        unknown: dict[str, None] = {}
        for song_id in song_ids:
            try:
                known[song_id] = find(song_id)
            except UnknownSongError:
                unknown[song_id] = None
        return known, list(unknown)

    def get(self, song_ids: Sequence[str]) -> pb.GetSongsResponse:
        """Songs by id."""
        known, unknown = self.positions(song_ids)
        return pb.GetSongsResponse(
            songs=map(self.songs.song, known.values()),
            unknown_song_ids=unknown,
            model_version=self.version,
        )

    def embeddings(self, song_ids: Sequence[str]) -> pb.GetEmbeddingsResponse:
        """Vectors by id."""
        known, unknown = self.positions(song_ids)
        model = self.served.model
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
            model_version=self.version,
        )

    def search(self, wanted: requests.SearchSongs, offset: int) -> pb.SearchSongsResponse:
        """One page of the songs that match words, from the `offset`th on.

        Raises:
            EmptyQueryError: there is no word.
        """
        size = wanted.page_size
        hits = self.served.model.search.search(wanted.query, offset=offset, limit=size + 1)
        more = len(hits) > size
        return pb.SearchSongsResponse(
            matches=[
                pb.SongMatch(song=self.songs.song(hit.position), score=hit.score)
                for hit in hits[:size]
            ],
            next_page_token=paging.encode(offset + size, wanted.query) if more else "",
            model_version=self.version,
        )

    def similar(self, wanted: requests.FindSimilarSongs) -> pb.FindSimilarSongsResponse:
        """Songs like one song.

        Raises:
            UnknownSongError: the model does not know it.
        """
        position = self.served.model.catalogue.position(wanted.song_id)
        ranking = self.served.ranker.similar(position, wanted.limit, exact=wanted.exact)
        response = pb.FindSimilarSongsResponse(model_version=self.version)
        self.songs.add(ranking, response.songs)
        return response

    def asked(self, wanted: requests.RecommendSongs) -> Asked:
        """Turn a request into a query."""
        known, unknown = self.positions(seed.song_id for seed in wanted.seeds)
        seeds = (
            [seed for seed in wanted.seeds if seed.song_id in known] if unknown else wanted.seeds
        )
        tags = None
        if wanted.tags is not None:
            tags = TagFilter(wanted.tags.all_of, wanted.tags.any_of, wanted.tags.none_of)
        return Asked(
            query=Query(
                seeds=np.array([known[seed.song_id] for seed in seeds], np.int64),
                weights=np.array([seed.weight for seed in seeds], np.float64),
                limit=wanted.limit,
                excluded=self._excluded(wanted.exclude_song_ids, tags),
                max_per_artist=wanted.max_per_artist,
                diversity=wanted.diversity,
                exact=wanted.exact,
            ),
            seed_ids=[seed.song_id for seed in seeds],
            unknown_song_ids=unknown,
            unknown_tags=tags.unknown(self.served.model.catalogue) if tags else (),
            explain=wanted.explain,
        )

    def fill(self, response: pb.RecommendSongsResponse, asked: Asked, ranking: Ranking) -> None:
        """Fill the response to a request, given its ranking."""
        response.basis = (
            pb.RECOMMENDATION_BASIS_SEEDS
            if ranking.by_seeds
            else pb.RECOMMENDATION_BASIS_POPULARITY
        )
        response.unknown_song_ids.extend(asked.unknown_song_ids)
        response.model_version = self.version
        response.unknown_tags.extend(asked.unknown_tags)
        self.songs.add(ranking, response.songs)
        if asked.explain and ranking.by_seeds:
            reasons = self.served.ranker.reasons(asked.query, ranking)
            add_reasons(response.songs, asked.seed_ids, *reasons)

    def batch(
        self,
        wanted: Sequence[requests.RecommendSongs],
        responses: "RepeatedCompositeFieldContainer[pb.RecommendSongsResponse]",
    ) -> None:
        """Add the responses to requests, computed together; for the background thread."""
        asked = [self.asked(one) for one in wanted]
        rankings = self.served.background.next_songs([one.query for one in asked])
        for one, ranking in zip(asked, rankings, strict=True):
            self.fill(responses.add(), one, ranking)

    def _excluded(self, song_ids: Sequence[str], tags: TagFilter | None) -> Positions:
        if not song_ids and tags is None:
            return NO_SONGS
        known, _ = self.positions(song_ids)
        by_id = np.array(list(known.values()), np.int64)
        if tags is None:
            return by_id
        return np.union1d(by_id, tags.failing(self.served.model.catalogue))
