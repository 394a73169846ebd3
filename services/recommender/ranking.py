"""From seeds to songs.

Two questions have two answers. *Which songs are like this one?* is the cosine of input vectors.
*What comes next?* is a blend of what followed the seeds in playlists (`continuations`) and of the
product of their input vectors with the songs' output vectors, which is what skip-gram with negative
sampling was trained to predict (Mikolov et al., 2013). Playlists, or else vectors, propose a
shortlist; both score it (`blending`).
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from services.recommender.blending import best, blend, seed_shares, tastes
from services.recommender.columns import offsets_of
from services.recommender.follower import HISTORY, MOST_QUERIES, Follower, Seeds
from services.recommender.index.exact import ExactIndex
from services.recommender.index.interface import VectorIndex
from services.recommender.model import SongModel
from services.recommender.variety import choose

Number = TypeVar("Number", np.int64, np.float64)
Positions = NDArray[np.int64]
Floats = NDArray[np.float64]

SHORTLIST = 100
"""Songs that are scored for a query, unless it wants more."""

_WIDER = 10
"""So many times more are scored where an answer is to be varied."""

_FEW = 1000
"""So many songs may be barred from an answer before the index is told, not asked for more."""

NO_SONGS: Positions = np.empty(0, np.int64)


@dataclass(frozen=True, slots=True)
class Query:
    """One question for what comes next.

    Attributes:
        seeds: Positions of the songs that were played, the latest last.
        weights: float64, how much each seed counts; negative for songs that are not liked.
        limit: Most songs in the answer.
        excluded: Positions of songs that must not be in it; seeds never are.
        max_per_artist: Most songs of one artist.
        diversity: How much variety counts against the score, 0 to 1.
        exact: Whether an approximate index is to be left aside.
    """

    seeds: Positions
    weights: Floats
    limit: int = 10
    excluded: Positions = field(default_factory=lambda: NO_SONGS)
    max_per_artist: int | None = None
    diversity: float = 0.0
    exact: bool = False

    @property
    def varied(self) -> bool:
        """Whether the best songs are not the answer in any case."""
        return self.max_per_artist is not None or self.diversity > 0.0

    @property
    def size(self) -> int:
        """How many songs are scored."""
        return max(SHORTLIST, self.limit) * (_WIDER if self.varied else 1)

    @property
    def barred(self) -> Positions:
        """Positions of all songs that must not be in the answer."""
        return np.concatenate((self.seeds, self.excluded)) if len(self.excluded) else self.seeds

    @property
    def counting(self) -> tuple[Positions, Floats]:
        """The seeds that count and their weights: the latest of any weight."""
        if len(self.seeds) <= HISTORY and self.weights.all():
            return self.seeds, self.weights
        rows = self.weights.nonzero()[0][-HISTORY:]
        return self.seeds[rows], self.weights[rows]


@dataclass(frozen=True, slots=True)
class Ranking:
    """The best songs, best first.

    Attributes:
        positions: int64 (k,), each once; songs that are equally good by position.
        scores: float64 (k,), non-increasing.
        from_playlists: float64 (k,), the part of each score that rests on playlists.
        by_seeds: Whether seeds decided, rather than popularity alone.
    """

    positions: Positions
    scores: Floats
    from_playlists: Floats
    by_seeds: bool = True

    def __getitem__(self, rows: Positions | slice) -> "Ranking":
        """Some of the songs."""
        parts = self.positions[rows], self.scores[rows], self.from_playlists[rows]
        return Ranking(*parts, self.by_seeds)


@dataclass(frozen=True, slots=True)
class Shortlist:
    """The songs to be scored for q queries.

    Attributes:
        queries: The queries; all of one size.
        seeds: Their latest seeds, without those that weigh nothing.
        positions: int64 (q, size), ascending, then -1 where there are fewer.
        evidence: float64 (q, size), what playlists say for each, in a unit of the query's own.
    """

    queries: Sequence[Query]
    seeds: Seeds
    positions: Positions
    evidence: Floats

    @property
    def unfilled(self) -> Positions:
        """The queries with seeds for which playlists propose too few songs."""
        seeded = self.seeds.offsets[1:] > self.seeds.offsets[:-1]
        return ((self.positions[:, -1] < 0) & seeded).nonzero()[0]

    @property
    def heavy(self) -> bool:
        """Whether ranking may take longer than an event loop can spare."""
        return len(self.unfilled) > 0 or any(query.varied for query in self.queries)

    def widened(self, row: int, size: int) -> "Shortlist":
        """One query, with room for more songs."""
        room = size - self.positions.shape[1]
        begin, end = self.seeds.offsets[row : row + 2]
        seeds = Seeds(
            self.seeds.positions[begin:end],
            self.seeds.weights[begin:end],
            np.array([0, end - begin]),
        )
        return Shortlist(
            [self.queries[row]],
            seeds,
            np.pad(self.positions[[row]], ((0, 0), (0, room)), constant_values=-1),
            np.pad(self.evidence[[row]], ((0, 0), (0, room))),
        )


class Ranker:
    """Answers queries with one model. Each thread that makes shortlists needs one of its own.

    Args:
        model: The model.
        likeness: An index of its unit vectors.
        outputs: An index of its output vectors.
    """

    def __init__(self, model: SongModel, likeness: VectorIndex, outputs: VectorIndex) -> None:
        self._model = model
        self._likeness, self._outputs = likeness, outputs
        self._exact_likeness = ExactIndex(model.unit_vectors)
        self._exact_outputs = ExactIndex(model.output_vectors)
        self._follower = Follower(model.continuations, model.blend)

    def similar(self, position: int, limit: int, *, exact: bool = False) -> Ranking:
        """Rank songs by the cosine of their vector and one song's, which is left out.

        The order is that of gensim's `most_similar`, but for songs whose cosines differ by no more
        than the rounding of float32.
        """
        index = self._exact_likeness if exact else self._likeness
        found, cosines = index.search(self._model.unit_vectors[[position]], limit + 1)
        others = np.flatnonzero(found[0] != position)[:limit]
        scores = cosines[0, others].astype(np.float64)
        return Ranking(found[0, others], scores, np.zeros(len(others)))

    def next_songs(self, queries: Sequence[Query]) -> list[Ranking]:
        """Rank songs by how likely they come next, for each query as if it were the only one.

        Seeds and excluded songs are left out. A query whose seeds all weigh nothing is answered by
        popularity.
        """
        by_size: dict[int, list[int]] = {}
        for row, query in enumerate(queries):
            by_size.setdefault(query.size, []).append(row)
        rankings: dict[int, Ranking] = {}
        for members in by_size.values():
            for begin in range(0, len(members), MOST_QUERIES):
                rows = members[begin : begin + MOST_QUERIES]
                answers = self.rank(self.shortlist([queries[row] for row in rows]))
                rankings.update(zip(rows, answers, strict=True))
        return [rankings[row] for row in range(len(queries))]

    def shortlist(self, queries: Sequence[Query]) -> Shortlist:
        """Let playlists propose songs; quick, whatever the size of the catalogue.

        Args:
            queries: At least one, at most `MOST_QUERIES`, all of one size.
        """
        seeds = _seeds(queries)
        barred = [query.barred for query in queries]
        positions, evidence = self._follower.shortlists(
            seeds, _joined(barred), offsets_of(map(len, barred)), queries[0].size
        )
        return Shortlist(queries, seeds, positions, evidence)

    def rank(self, shortlist: Shortlist) -> list[Ranking]:
        """Fill a shortlist from the index where it has room, score it, and choose the best."""
        seeds, model = shortlist.seeds, self._model
        shares = seed_shares(seeds.weights, seeds.offsets, model.blend.recency)
        taste = tastes(seeds.positions, shares, seeds.offsets, model.vectors)
        shortlist = self._filled(shortlist, taste)
        scores, parts = blend(
            shortlist.positions,
            shortlist.evidence,
            taste,
            model.output_vectors,
            model.blend.vector_share,
        )
        varied = any(query.varied for query in shortlist.queries)
        limit = max(query.limit for query in shortlist.queries)
        order = best(scores, scores.shape[1] if varied else limit)
        return [self._answer(shortlist, row, scores, parts, order) for row in range(len(order))]

    def reasons(self, query: Query, ranking: Ranking) -> tuple[Floats, Floats]:
        """Split the scores of a query's answer by its seeds.

        The part of a score that rests on vectors is split in proportion to what each seed counts
        and to how likely the model takes it to be played near the song; seeds of negative weight
        have no part in it, unless there are no others.

        Returns:
            What each seed contributed, float64 (k, seeds), whose rows add up to the scores, and the
            part of it that rests on playlists.
        """
        seeds = _seeds([query])
        order = np.argsort(ranking.positions)
        evidence = np.empty((len(order), len(seeds.positions)))
        evidence[order] = self._follower.contributions(seeds, ranking.positions[order])
        totals = evidence.sum(axis=1)
        scale = np.divide(
            ranking.from_playlists, totals, out=np.zeros_like(totals), where=totals != 0
        )
        from_playlists = evidence * scale[:, None]
        from_vectors = (ranking.scores - ranking.from_playlists)[:, None] * self._likely(
            seeds, ranking.positions
        )
        rows = query.weights.nonzero()[0][-HISTORY:]
        contributions = np.zeros((2, len(order), len(query.seeds)))
        contributions[0][:, rows] = from_playlists + from_vectors
        contributions[1][:, rows] = from_playlists
        return contributions[0], contributions[1]

    def _likely(self, seeds: Seeds, positions: Positions) -> Floats:
        """How much of each song's likelihood by vectors is each seed's; rows add up to 1."""
        shares = seed_shares(seeds.weights, seeds.offsets, self._model.blend.recency)
        shares = np.maximum(shares, 0.0) if (shares > 0).any() else np.abs(shares)
        products = self._model.output_vectors[positions] @ self._model.vectors[seeds.positions].T
        likely = shares / (1.0 + np.exp(-products.astype(np.float64)))
        total: Floats = likely.sum(axis=1, keepdims=True)
        likely /= total
        return likely

    def _filled(self, shortlist: Shortlist, taste: NDArray[np.float32]) -> Shortlist:
        """Add the songs whose output vectors suit the seeds best, where there is room."""
        rows = shortlist.unfilled
        if not len(rows):
            return shortlist
        positions, evidence = shortlist.positions.copy(), shortlist.evidence.copy()
        for exact in (False, True):
            index = self._exact_outputs if exact else self._outputs
            mine = [row for row in rows.tolist() if shortlist.queries[row].exact is exact]
            barred = [
                np.concatenate((shortlist.queries[row].barred, _present(positions[row])))
                for row in mine
            ]
            size = positions.shape[1]
            found = _search(index, taste[mine], barred, len(self._model), size)
            for row, more in zip(mine, found, strict=True):
                filled = np.concatenate((_present(positions[row]), more))[:size]
                order = np.argsort(filled)
                positions[row, : len(filled)] = filled[order]
                evidence[row, : len(filled)] = evidence[row, : len(filled)][order]
        return replace(shortlist, positions=positions, evidence=evidence)

    def _answer(
        self, shortlist: Shortlist, row: int, scores: Floats, parts: Floats, order: Positions
    ) -> Ranking:
        query = shortlist.queries[row]
        if shortlist.seeds.offsets[row] == shortlist.seeds.offsets[row + 1]:
            return self._popular(query, query.size)
        size = shortlist.positions.shape[1]
        count = size
        if shortlist.positions[row, -1] < 0:
            count = np.count_nonzero(shortlist.positions[row] >= 0)
        columns = order[row, : min(count, size if query.varied else query.limit)]
        ranking = Ranking(
            shortlist.positions[row, columns], scores[row, columns], parts[row, columns]
        )
        if not query.varied:
            return ranking
        chosen = self._chosen(query, ranking)
        if len(chosen.positions) == query.limit or count < size:
            return chosen
        return self.rank(shortlist.widened(row, size * _WIDER))[0]

    def _popular(self, query: Query, size: int) -> Ranking:
        """Songs by their share of all plays; they stand in that order in the model."""
        allowed = np.ones(len(self._model), np.bool_)
        allowed[query.barred] = False
        positions = np.flatnonzero(allowed)[:size]
        shares = self._model.play_counts[positions] / max(1, self._model.play_counts.sum())
        ranking = Ranking(positions, shares, np.zeros(len(positions)), by_seeds=False)
        chosen = self._chosen(query, ranking)
        if len(chosen.positions) == query.limit or len(positions) < size:
            return chosen
        return self._popular(query, size * _WIDER)

    def _chosen(self, query: Query, ranking: Ranking) -> Ranking:
        rows = choose(
            ranking.scores,
            self._model.catalogue.artist_numbers[ranking.positions],
            self._model.unit_vectors[ranking.positions],
            query.limit,
            query.max_per_artist,
            query.diversity,
        )
        return ranking[rows]


def _seeds(queries: Sequence[Query]) -> Seeds:
    """The seeds that count, query after query."""
    counting = [query.counting for query in queries]
    return Seeds(
        _joined([seeds for seeds, _ in counting]),
        _joined([weights for _, weights in counting]),
        offsets_of(len(seeds) for seeds, _ in counting),
    )


def _joined(arrays: list[NDArray[Number]]) -> NDArray[Number]:
    return arrays[0] if len(arrays) == 1 else np.concatenate(arrays)


def _present(positions: Positions) -> Positions:
    """A row of positions without its room for more."""
    return positions[positions >= 0]


def _search(
    index: VectorIndex, tastes: NDArray[np.float32], barred: list[Positions], songs: int, size: int
) -> list[Positions]:
    """Give each query the `size` best songs that are not barred from it, or all there are."""
    if not barred:
        return []
    most = max(map(len, barred))
    if most <= _FEW:  # one product for all
        found = index.search(tastes, size + most).positions
        return [row[~np.isin(row, bars)] for row, bars in zip(found, barred, strict=True)]
    answers = []
    for taste, bars in zip(tastes, barred, strict=True):
        allowed = np.ones(songs, np.bool_)
        allowed[bars] = False
        answers.append(index.search(taste[None], size, allowed).positions[0])
    return answers
