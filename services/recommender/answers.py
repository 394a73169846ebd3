"""One model's answers as the contract's messages: ids outside, positions inside.

Recommendations are written as bytes at once: a message of them would be made only to be read.
"""

from collections.abc import Sequence
from itertools import compress, pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from segue.recommender.v1 import recommender_service_pb2 as pb

from services.recommender import paging, requests
from services.recommender.columns import offsets_of
from services.recommender.filters import TagFilter
from services.recommender.messages import add_reasons, song_message
from services.recommender.plain_batch import PlainBatch
from services.recommender.ranking import NO_SONGS, Floats, Positions, Query, Ranking
from services.recommender.served import ServedModel
from services.recommender.wire import SongWriter

_BY_SEEDS = pb.RECOMMENDATION_BASIS_SEEDS
_BY_POPULARITY = pb.RECOMMENDATION_BASIS_POPULARITY

Batch = PlainBatch | Sequence[requests.RecommendSongs]


class Asked(NamedTuple):
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
        self._writer = SongWriter(served.model)
        self._beside = {basis: self._beside_songs(basis) for basis in (_BY_SEEDS, _BY_POPULARITY)}

    def get(self, song_ids: Sequence[str]) -> pb.GetSongsResponse:
        """Songs by id."""
        known, unknown = self._known(song_ids)
        return pb.GetSongsResponse(
            songs=[song_message(self.served.model, position) for position in known.values()],
            unknown_song_ids=unknown,
            model_version=self.version,
        )

    def embeddings(self, song_ids: Sequence[str]) -> pb.GetEmbeddingsResponse:
        """Vectors by id."""
        known, unknown = self._known(song_ids)
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
        model, size = self.served.model, wanted.page_size
        hits = model.search.search(wanted.query, offset=offset, limit=size + 1)
        more = len(hits) > size
        return pb.SearchSongsResponse(
            matches=[
                pb.SongMatch(song=song_message(model, hit.position), score=hit.score)
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
        response.MergeFromString(*self._frames([ranking]))
        return response

    def asked(self, wanted: Sequence[requests.RecommendSongs]) -> list[Asked]:
        """Turn requests into queries; the ids of all their seeds are looked up at once."""
        ids = [seed.song_id for one in wanted for seed in one.seeds]
        weights = np.array([seed.weight for one in wanted for seed in one.seeds])
        positions = self.served.model.catalogue.positions(ids)
        strangers = np.count_nonzero(positions < 0) > 0
        asked, end = [], 0
        for one in wanted:
            begin, end = end, end + len(one.seeds)
            mine = slice(begin, end)
            known = positions[mine] >= 0 if strangers else None
            asked.append(self._asked(one, ids[mine], positions[mine], weights[mine], known))
        return asked

    def quick(self, wanted: Sequence[requests.RecommendSongs]) -> list[bytes | None]:
        """Serialized responses, computed together; None for those that take longer."""
        asked = self.asked(wanted)
        rankings = self.served.ranker.quick([one.query for one in asked])
        quick = {
            row: ranking
            for row, ranking in enumerate(rankings)
            if ranking is not None and not asked[row].explain
        }
        made = self._responses([asked[row] for row in quick], list(quick.values()))
        responses = dict(zip(quick, made, strict=True))
        return [responses.get(row) for row in range(len(wanted))]

    def part(self, batch: Batch, begin: int, end: int) -> list[bytes]:
        """Serialized responses to a batch's requests from one to before another, together."""
        if isinstance(batch, PlainBatch):
            asked = self._plainly_asked(batch, begin, end)
        else:
            asked = self.asked(batch[begin:end])
        rankings = self.served.ranker.next_songs([one.query for one in asked])
        responses = self._responses(asked, rankings)
        return [
            self._explained(one, ranking, response) if one.explain else response
            for one, ranking, response in zip(asked, rankings, responses, strict=True)
        ]

    def _plainly_asked(self, batch: PlainBatch, begin: int, end: int) -> list[Asked]:
        bounds = batch.offsets[begin : end + 1].tolist()
        mine = slice(bounds[0], bounds[-1])
        positions = self.served.model.catalogue.positions_in(
            batch.frame, batch.begins[mine], batch.lengths[mine]
        )
        strangers = np.count_nonzero(positions < 0) > 0
        limits, asked = batch.limits.tolist(), []
        for row, (first, behind) in enumerate(pairwise(bounds), begin):
            seeds = positions[first - bounds[0] : behind - bounds[0]]
            weights, unknown = batch.weights[first:behind], []
            if strangers:
                known = seeds >= 0
                unknown = list(dict.fromkeys(map(batch.seed_id, first + np.flatnonzero(~known))))
                seeds, weights = seeds[known], weights[known]
            asked.append(Asked(Query(seeds, weights, limits[row]), (), unknown, (), False))
        return asked

    def _explained(self, asked: Asked, ranking: Ranking, written: bytes) -> bytes:
        """A response with the reasons for its songs, where seeds decided."""
        if not ranking.by_seeds:
            return written
        response = pb.RecommendSongsResponse.FromString(written)
        reasons = self.served.ranker.reasons(asked.query, ranking)
        add_reasons(response.songs, asked.seed_ids, *reasons)
        return response.SerializeToString()

    def _responses(self, asked: Sequence[Asked], rankings: Sequence[Ranking]) -> list[bytes]:
        """Serialized responses without reasons."""
        responses = []
        for one, ranking, songs in zip(asked, rankings, self._frames(rankings), strict=True):
            basis = _BY_SEEDS if ranking.by_seeds else _BY_POPULARITY
            if one.unknown_song_ids or one.unknown_tags:
                beside = self._beside_songs(basis, one.unknown_song_ids, one.unknown_tags)
            else:
                beside = self._beside[basis]
            responses.append(songs + beside)
        return responses

    def _beside_songs(
        self,
        basis: pb.RecommendationBasis.ValueType,
        unknown_song_ids: Sequence[str] = (),
        unknown_tags: Sequence[str] = (),
    ) -> bytes:
        """What a response holds beside its songs; fields of a message may stand in any order."""
        return pb.RecommendSongsResponse(
            basis=basis,
            unknown_song_ids=unknown_song_ids,
            model_version=self.version,
            unknown_tags=unknown_tags,
        ).SerializeToString()

    def _frames(self, rankings: Sequence[Ranking]) -> list[bytes]:
        """The songs of rankings, as `SongWriter.scored` writes them."""
        if not rankings:
            return []
        positions = [ranking.positions for ranking in rankings]
        return self._writer.scored(
            np.concatenate(positions),
            np.concatenate([ranking.scores for ranking in rankings]),
            offsets_of(map(len, positions)),
        )

    def _asked(
        self,
        wanted: requests.RecommendSongs,
        seed_ids: Sequence[str],
        positions: Positions,
        weights: Floats,
        known: NDArray[np.bool] | None,
    ) -> Asked:
        unknown: Sequence[str] = ()
        if known is not None:
            unknown = list(dict.fromkeys(compress(seed_ids, ~known)))
            seed_ids = list(compress(seed_ids, known))
            positions, weights = positions[known], weights[known]
        tags = None
        if wanted.tags is not None:
            tags = TagFilter(wanted.tags.all_of, wanted.tags.any_of, wanted.tags.none_of)
        return Asked(
            query=Query(
                seeds=positions,
                weights=weights,
                limit=wanted.limit,
                excluded=(
                    self._excluded(wanted.exclude_song_ids, tags)
                    if wanted.exclude_song_ids or tags
                    else NO_SONGS
                ),
                max_per_artist=wanted.max_per_artist,
                diversity=wanted.diversity,
                exact=wanted.exact,
            ),
            seed_ids=seed_ids,
            unknown_song_ids=unknown,
            unknown_tags=tags.unknown(self.served.model.catalogue) if tags else (),
            explain=wanted.explain,
        )

    def _excluded(self, song_ids: Sequence[str], tags: TagFilter | None) -> Positions:
        catalogue = self.served.model.catalogue
        positions = catalogue.positions(song_ids)
        by_id = positions[positions >= 0]
        if tags is None:
            return by_id
        return np.union1d(by_id, tags.failing(catalogue))

    def _known(self, song_ids: Sequence[str]) -> tuple[dict[str, int], list[str]]:
        """The positions of the ids that are known, by id, and the ids that are not; each once."""
        once = list(dict.fromkeys(song_ids))
        positions = self.served.model.catalogue.positions(once).tolist()
        known = {
            song_id: position
            for song_id, position in zip(once, positions, strict=True)
            if position >= 0
        }
        return known, [song_id for song_id in once if song_id not in known]
