"""What comes next in playlists, near places like the end of the listener's history.

A place in a playlist agrees with the seeds the better, the more of them are played near it, the
closer they stand, the later they came in the history, and the rarer they are; those before it say
more than those after it. The song that is played there gets evidence by a power of that agreement.
This is session kNN (Ludewig and Jannach, 2018) with places for neighbours instead of whole
sessions, so that order counts; and as kernel regression (Nadaraya, 1964) it is a Markov chain of
any order that backs off by itself.

The loops are compiled: they visit a few thousand plays a query, which is too many for Python and
too few for array operations to pay.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from services.recommender.blend import Blend
from services.recommender.compiled import (
    FLOAT,
    FLOATS,
    INT,
    INTS,
    INTS_32,
    WORK_BYTES,
    WORK_FLOATS,
    compiled,
    compiled_for,
)
from services.recommender.continuations import Continuations

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

HISTORY = 30
"""Seeds that count, the latest; what was played before them says nothing more."""

OCCURRENCES = 300
"""Most occurrences of one seed that are looked at, the last of the corpus: a bound on time."""

REACH = 10
"""How many songs before and after a seed are evidence."""

# An occurrence of a seed is sorted as one number: query, place, number of the seed in the query.
_SEED_BITS = 5
_PLACE_BITS = 31
_NEW, _TOUCHED, _BLOCKED = range(3)


@dataclass(frozen=True, slots=True)
class Seeds:
    """Seeds of q queries, query after query.

    Attributes:
        positions: int64 (s,), positions of songs; in each query the latest last, at most `HISTORY`.
        weights: float64 (s,), how much each counts; negative for songs that are not liked.
        offsets: int64 (q + 1,), where each query begins and ends.
    """

    positions: Ints
    weights: Floats
    offsets: Ints

    def __len__(self) -> int:
        return len(self.offsets) - 1


class Follower:
    """Finds what comes next. It has working memory of its own, so each thread needs its own.

    Args:
        continuations: Where to look.
        blend: How seeds and places are weighed.
    """

    def __init__(self, continuations: Continuations, blend: Blend) -> None:
        songs, playlists = len(continuations.offsets) - 1, len(continuations.bounds) - 1
        self._places, self._offsets = continuations.places, continuations.offsets
        self._corpus = (
            continuations.songs,
            continuations.owners,
            continuations.bounds,
            np.log1p(playlists / np.maximum(1, np.diff(continuations.offsets))),
            blend.recency,
            blend.proximity,
            blend.backward,
            blend.sharpness,
        )
        self._agreement = np.zeros(int(np.diff(continuations.bounds).max(initial=0)))
        self._evidence = np.zeros(songs)
        self._state = np.zeros(songs, np.uint8)

    def shortlists(
        self, seeds: Seeds, blocked: Ints, blocked_offsets: Ints, size: int
    ) -> tuple[Ints, Floats]:
        """Give each query the songs for which there is most evidence.

        Args:
            seeds: Seeds of q queries.
            blocked: int64, positions of songs that must not be in the answer, query after query.
            blocked_offsets: int64 (q + 1,), where each query's blocked songs begin and end.
            size: Most songs a query.

        Returns:
            Positions, int64 (q, size), ascending, then -1 where there are fewer; and the evidence,
            float64 (q, size), in a unit of the query's own, 0 where there are fewer.
        """
        shortlists: tuple[Ints, Floats] = _shortlists(
            self._occurrences(seeds),
            seeds.positions,
            seeds.weights,
            seeds.offsets,
            blocked,
            blocked_offsets,
            size,
            *self._corpus,
            self._agreement,
            self._evidence,
            self._state,
        )
        return shortlists

    def contributions(self, seeds: Seeds, songs: Ints) -> Floats:
        """Split the evidence for some songs by the seeds it comes from, for one query.

        Args:
            seeds: Seeds of one query.
            songs: int64 (m,), positions of songs, ascending.

        Returns:
            float64 (m, s); each row adds up to the song's evidence in `shortlists`.
        """
        contributions: Floats = _contributions(
            self._occurrences(seeds), seeds.positions, seeds.weights, songs, *self._corpus
        )
        return contributions

    def _occurrences(self, seeds: Seeds) -> Ints:
        """Where the seeds are played, as numbers that sort by query, then place, then seed."""
        keys: Ints = _occurrences(seeds.positions, seeds.offsets, self._places, self._offsets)
        keys.sort()
        return keys


@compiled_for(INTS, INTS, INTS_32, INTS)
def _occurrences(
    positions: Ints, seed_offsets: Ints, places: NDArray[np.int32], offsets: Ints
) -> Ints:
    total = 0
    for position in positions:
        total += min(OCCURRENCES, offsets[position + 1] - offsets[position])
    keys = np.empty(total, np.int64)
    filled = 0
    for query in range(len(seed_offsets) - 1):
        for row in range(seed_offsets[query], seed_offsets[query + 1]):
            end = offsets[positions[row] + 1]
            begin = max(offsets[positions[row]], end - OCCURRENCES)
            for place in places[begin:end]:
                key = (query << _PLACE_BITS) | np.int64(place)
                keys[filled] = (key << _SEED_BITS) | (row - seed_offsets[query])
                filled += 1
    return keys


@compiled
def _place(key: int) -> int:
    return (key >> _SEED_BITS) & ((1 << _PLACE_BITS) - 1)


@compiled
def _query(key: int) -> int:
    return key >> (_SEED_BITS + _PLACE_BITS)


@compiled
def _seed(key: int) -> int:
    return key & ((1 << _SEED_BITS) - 1)


@compiled
def _said(positions: Ints, weights: Floats, rarity: Floats, recency: float) -> Floats:
    """What each seed of a query says where it is played: more, the later and the rarer it is."""
    said = np.empty(len(positions))
    fading = 1.0
    for seed in range(len(positions) - 1, -1, -1):
        said[seed] = weights[seed] * fading * rarity[positions[seed]]
        fading *= recency
    return said


@compiled
def _group_end(keys: Ints, begin: int, owners: NDArray[np.int32]) -> int:
    """Where the occurrences end that are near the one before in the same playlist."""
    end = begin + 1
    while (
        end < len(keys)
        and _place(keys[end]) - _place(keys[end - 1]) <= 2 * REACH
        and owners[_place(keys[end])] == owners[_place(keys[begin])]
    ):
        end += 1
    return end


@compiled
def _span(group: Ints, owners: NDArray[np.int32], bounds: Ints) -> tuple[int, int]:
    """The places within reach of a group, within its playlist."""
    owner = owners[_place(group[0])]
    begin = max(bounds[owner], _place(group[0]) - REACH)
    return begin, min(bounds[owner + 1], _place(group[-1]) + REACH + 1)


@compiled
def _scale(place: int, owners: NDArray[np.int32], bounds: Ints) -> float:
    """A long playlist says less of each of its songs, as in a cosine."""
    owner = owners[place]
    return 1.0 / np.sqrt(bounds[owner + 1] - bounds[owner])


@compiled
def _interest(rarity: float) -> float:
    """A rare song that is near the seeds is there for a reason rather than by its fame."""
    return np.sqrt(1.0 + rarity)


@compiled
def _power(agreement: float, sharpness: int) -> float:
    """A power of the agreement, which keeps its sign."""
    power = agreement
    for _ in range(sharpness - 1):
        power *= abs(agreement)
    return power


@compiled
def _agree(
    group: Ints,
    said: Floats,
    begin: int,
    end: int,
    proximity: float,
    backward: float,
    agreement: Floats,
) -> None:
    """How well each place from `begin` to `end` agrees with the seeds of a group."""
    heard, row = 0.0, 0
    for place in range(begin, end):
        agreement[place - begin] = heard
        heard *= proximity
        while row < len(group) and _place(group[row]) == place:
            heard += said[_seed(group[row])]
            row += 1
    heard, row = 0.0, len(group) - 1
    for place in range(end - 1, begin - 1, -1):
        agreement[place - begin] += backward * heard
        heard *= proximity
        while row >= 0 and _place(group[row]) == place:
            heard += said[_seed(group[row])]
            row -= 1


@compiled
def _gather(
    keys: Ints,
    said: Floats,
    songs: NDArray[np.int32],
    owners: NDArray[np.int32],
    bounds: Ints,
    proximity: float,
    backward: float,
    sharpness: int,
    agreement: Floats,
    evidence: Floats,
    state: NDArray[np.uint8],
    touched: Ints,
) -> int:
    """Add up one query's evidence; gives how many songs were touched."""
    count, row = 0, 0
    while row < len(keys):
        group = keys[row : _group_end(keys, row, owners)]
        row += len(group)
        begin, end = _span(group, owners, bounds)
        _agree(group, said, begin, end, proximity, backward, agreement)
        scale = _scale(begin, owners, bounds)
        for place in range(begin, end):
            song = songs[place]
            if state[song] == _BLOCKED or agreement[place - begin] == 0.0:
                continue
            if state[song] == _NEW:
                state[song] = _TOUCHED
                touched[count] = song
                count += 1
            evidence[song] += scale * _power(agreement[place - begin], sharpness)
    return count


@compiled
def _keep_best(touched: Ints, evidence: Floats, positions: Ints, values: Floats) -> None:
    """Fill `positions`, ascending, and `values` with the songs of most evidence."""
    size, count = len(positions), len(touched)
    if count > size:
        found = evidence[touched]
        least = np.partition(found, count - size)[count - size]
        above = touched[found > least]
        ties = np.sort(touched[found == least])[: size - len(above)]
        touched = np.concatenate((above, ties))
        count = size
    positions[:count] = np.sort(touched)
    for row in range(count):
        values[row] = evidence[positions[row]]


_CORPUS = (INTS_32, INTS_32, INTS, FLOATS, FLOAT, FLOAT, FLOAT, INT)


@compiled_for(
    INTS, INTS, FLOATS, INTS, INTS, INTS, INT, *_CORPUS, WORK_FLOATS, WORK_FLOATS, WORK_BYTES
)
def _shortlists(
    keys: Ints,
    seeds: Ints,
    weights: Floats,
    seed_offsets: Ints,
    blocked: Ints,
    blocked_offsets: Ints,
    size: int,
    songs: NDArray[np.int32],
    owners: NDArray[np.int32],
    bounds: Ints,
    rarity: Floats,
    recency: float,
    proximity: float,
    backward: float,
    sharpness: int,
    agreement: Floats,
    evidence: Floats,
    state: NDArray[np.uint8],
) -> tuple[Ints, Floats]:
    queries = len(seed_offsets) - 1
    positions = np.full((queries, size), -1)
    values = np.zeros((queries, size))
    touched = np.empty(len(evidence), np.int64)
    begin = 0
    for query in range(queries):
        end = begin
        while end < len(keys) and _query(keys[end]) == query:
            end += 1
        mine = slice(seed_offsets[query], seed_offsets[query + 1])
        barred = blocked[blocked_offsets[query] : blocked_offsets[query + 1]]
        state[barred] = _BLOCKED
        count = _gather(
            keys[begin:end],
            _said(seeds[mine], weights[mine], rarity, recency),
            songs,
            owners,
            bounds,
            proximity,
            backward,
            sharpness,
            agreement,
            evidence,
            state,
            touched,
        )
        for song in touched[:count]:
            evidence[song] *= _interest(rarity[song])
        _keep_best(touched[:count], evidence, positions[query], values[query])
        state[barred] = _NEW
        state[touched[:count]] = _NEW
        evidence[touched[:count]] = 0.0
        begin = end
    return positions, values


@compiled_for(INTS, INTS, FLOATS, INTS, *_CORPUS)
def _contributions(
    keys: Ints,
    seeds: Ints,
    weights: Floats,
    wanted: Ints,
    songs: NDArray[np.int32],
    owners: NDArray[np.int32],
    bounds: Ints,
    rarity: Floats,
    recency: float,
    proximity: float,
    backward: float,
    sharpness: int,
) -> Floats:
    said = _said(seeds, weights, rarity, recency)
    result = np.zeros((len(wanted), len(seeds)))
    alone = np.zeros(len(seeds))
    row = 0
    while row < len(keys):
        group = keys[row : _group_end(keys, row, owners)]
        row += len(group)
        begin, end = _span(group, owners, bounds)
        parts = np.zeros((len(seeds), end - begin))
        for seed in range(len(seeds)):
            alone[seed] = said[seed]
            _agree(group, alone, begin, end, proximity, backward, parts[seed])
            alone[seed] = 0.0
        scale = _scale(begin, owners, bounds)
        for place in range(begin, end):
            song = songs[place]
            found = np.searchsorted(wanted, song)
            agreement = parts[:, place - begin].sum()
            if found < len(wanted) and wanted[found] == song and agreement != 0.0:
                value = scale * _interest(rarity[song]) * _power(agreement, sharpness)
                result[found] += parts[:, place - begin] / agreement * value
    return result
