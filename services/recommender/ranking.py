"""From seeds to songs.

Two questions have two answers. *Which songs are like this one?* is the cosine of input vectors.
*What comes next?* is a blend of what followed the seeds in playlists (`continuations`) and of the
product of their input vectors with the songs' output vectors, which is what skip-gram with negative
sampling was trained to predict (Mikolov et al., 2013). Playlists, or else vectors, propose a
shortlist; both score it (`blending`).
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from services.recommender.blending import blend, seed_shares, tastes
from services.recommender.follower import HISTORY, Follower, Seeds
from services.recommender.index.exact import ExactIndex
from services.recommender.index.interface import VectorIndex
from services.recommender.model import SongModel
from services.recommender.variety import choose

Number = TypeVar("Number", np.int64, np.float64)
Positions = NDArray[np.int64]
Floats = NDArray[np.float64]

SHORTLIST = 50
"""Songs that are scored for a query, unless it wants more."""

_WIDER = 10
"""So many times more are scored where an answer is to be varied."""

_FEW = 1000
"""So many songs may be barred from an answer before the index is told, not asked for more."""

NO_SONGS: Positions = np.empty(0, np.int64)


class Query(NamedTuple):
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
    excluded: Positions = NO_SONGS
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
        if len(self.seeds) <= HISTORY and np.count_nonzero(self.weights) == len(self.weights):
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
        positions: int64 (q, size), in no particular order.
        evidence: float64 (q, size), what playlists say for each, in a unit of the query's own.
        counts: int64 (q,), how many songs there are; what stands behind them means nothing.
        unfilled: The queries with seeds for which playlists propose fewer songs than there is room.
    """

    queries: Sequence[Query]
    seeds: Seeds
    positions: Positions
    evidence: Floats
    counts: Positions
    unfilled: Sequence[int]

    def widened(self, row: int, size: int) -> "Shortlist":
        """One query, with room for more songs."""
        room = ((0, 0), (0, size - self.positions.shape[1]))
        begin, end = self.seeds.offsets[row : row + 2]
        seeds = Seeds(
            self.seeds.positions[begin:end],
            self.seeds.weights[begin:end],
            np.array([0, end - begin]),
        )
        return Shortlist(
            [self.queries[row]],
            seeds,
            np.pad(self.positions[[row]], room),
            np.pad(self.evidence[[row]], room),
            self.counts[[row]],
            [0],
        )


class Ranker:
    """Answers queries with one model; any number of threads may ask.

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
        rankings: dict[int, Ranking] = {}
        for rows in _by_size(queries):
            answers = self._rank(self._shortlist([queries[row] for row in rows]))
            rankings.update(zip(rows, answers, strict=True))
        return [rankings[row] for row in range(len(queries))]

    def quick(self, queries: Sequence[Query]) -> list[Ranking | None]:
        """As `next_songs`, but None for queries that take longer than playlists take to answer."""
        plain = [row for row, query in enumerate(queries) if not query.varied]
        rankings: list[Ranking | None] = [None] * len(queries)
        for members in _by_size([queries[row] for row in plain]):
            rows = [plain[row] for row in members]
            shortlist = self._shortlist([queries[row] for row in rows])
            answers = self._scored(shortlist, self._tastes(shortlist))
            for number, (row, ranking) in enumerate(zip(rows, answers, strict=True)):
                rankings[row] = None if number in shortlist.unfilled else ranking
        return rankings

    def _shortlist(self, queries: Sequence[Query]) -> Shortlist:
        """Let playlists propose songs for queries of one size, of which there is at least one."""
        seeds = _seeds(queries)
        barred = [query.barred for query in queries]
        size = queries[0].size
        positions, evidence, counts = self._follower.shortlists(
            seeds, _joined(barred), _offsets(barred), size
        )
        unfilled = [
            row
            for row, count in enumerate(counts.tolist())
            if count < size and seeds.offsets[row] < seeds.offsets[row + 1]
        ]
        return Shortlist(queries, seeds, positions, evidence, counts, unfilled)

    def _rank(self, shortlist: Shortlist) -> list[Ranking]:
        """Fill a shortlist from the index where it has room, score it, and choose the best."""
        taste = self._tastes(shortlist)
        return self._scored(self._filled(shortlist, taste), taste)

    def _tastes(self, shortlist: Shortlist) -> NDArray[np.float32]:
        seeds, model = shortlist.seeds, self._model
        taste: NDArray[np.float32] = tastes(
            seeds.positions, seeds.weights, seeds.offsets, model.blend.recency, model.vectors
        )
        return taste

    def _scored(self, shortlist: Shortlist, taste: NDArray[np.float32]) -> list[Ranking]:
        varied = any(query.varied for query in shortlist.queries)
        columns = shortlist.positions.shape[1]
        best = blend(
            shortlist.positions,
            shortlist.evidence,
            shortlist.counts,
            taste,
            self._model.output_vectors,
            self._model.blend.vector_share,
            columns if varied else max(query.limit for query in shortlist.queries),
        )
        return [self._answer(shortlist, row, *best) for row in range(len(shortlist.queries))]

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
        totals = evidence.sum(axis=1, keepdims=True)
        # Scores divided by totals would overflow where seeds count next to nothing.
        shares = np.divide(evidence, totals, out=np.zeros_like(evidence), where=totals != 0)
        from_playlists = shares * ranking.from_playlists[:, None]
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
        if not shortlist.unfilled:
            return shortlist
        positions, evidence = shortlist.positions.copy(), shortlist.evidence.copy()
        counts = shortlist.counts.copy()
        for exact in (False, True):
            index = self._exact_outputs if exact else self._outputs
            mine = [row for row in shortlist.unfilled if shortlist.queries[row].exact is exact]
            barred = [
                np.concatenate((shortlist.queries[row].barred, positions[row, : counts[row]]))
                for row in mine
            ]
            size = positions.shape[1]
            found = _search(index, taste[mine], barred, len(self._model), size)
            for row, more in zip(mine, found, strict=True):
                begin, end = counts[row], min(size, counts[row] + len(more))
                positions[row, begin:end] = more[: end - begin]
                evidence[row, begin:end] = 0.0
                counts[row] = end
        return replace(shortlist, positions=positions, evidence=evidence, counts=counts)

    def _answer(
        self, shortlist: Shortlist, row: int, best: Positions, scores: Floats, parts: Floats
    ) -> Ranking:
        query, size = shortlist.queries[row], shortlist.positions.shape[1]
        if shortlist.seeds.offsets[row] == shortlist.seeds.offsets[row + 1]:
            return self._popular(query, query.size)
        count = int(shortlist.counts[row])
        end = min(count, size if query.varied else query.limit)
        ranking = Ranking(best[row, :end], scores[row, :end], parts[row, :end])
        if not query.varied:
            return ranking
        chosen = self._chosen(query, ranking)
        if len(chosen.positions) == query.limit or count < size:
            return chosen
        return self._rank(shortlist.widened(row, size * _WIDER))[0]

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


def _by_size(queries: Sequence[Query]) -> Iterable[list[int]]:
    """The rows of queries for which equally many songs are scored."""
    by_size: dict[int, list[int]] = {}
    for row, query in enumerate(queries):
        by_size.setdefault(query.size, []).append(row)
    return by_size.values()


def _seeds(queries: Sequence[Query]) -> Seeds:
    """The seeds that count, query after query."""
    counting = [query.counting for query in queries]
    positions = [seeds for seeds, _ in counting]
    return Seeds(
        _joined(positions), _joined([weights for _, weights in counting]), _offsets(positions)
    )


def _joined(arrays: list[NDArray[Number]]) -> NDArray[Number]:
    return arrays[0] if len(arrays) == 1 else np.concatenate(arrays)


def _offsets(arrays: list[Positions]) -> Positions:
    return np.array([0, *accumulate(map(len, arrays))])


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
