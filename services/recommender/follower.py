"""What came next in playlists, after songs like the seeds.

A place in a playlist is like the end of a listener's history when the same songs lead up to it,
and the songs that follow there are evidence for what comes next. A place agrees with the seeds the
better, the more of them lead up to it, the rarer they are, and the closer they stand. This is
session kNN (Ludewig and Jannach, 2018) with places for neighbours instead of whole sessions, so
that order counts; weighted by a power of the agreement, as in kernel regression (Nadaraya, 1964),
it is a Markov chain of any order that backs off by itself.

The loops are compiled: they visit a few thousand plays a query, which is too many for Python and
too few for array operations to pay.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from services.recommender.compiled import (
    BYTES,
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
from services.recommender.continuations import FARTHEST, Continuations

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

HISTORY = 30
"""Seeds that count, the latest; what was played before them says nothing more."""

OCCURRENCES = 500
"""Most occurrences of one seed that are looked at, the last of the corpus: a bound on time."""

REACH = 10
"""How many songs after a seed are evidence."""

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
    """Finds what came next. It has working memory of its own, so each thread needs its own.

    Args:
        continuations: Where to look.
        recency: What a seed counts, compared with the one played after it.
        sharpness: Exponent of the agreement of a place with the seeds.
    """

    def __init__(self, continuations: Continuations, recency: float, sharpness: float) -> None:
        songs = len(continuations.offsets) - 1
        playlists = np.count_nonzero(continuations.left == 0)
        decay = recency ** np.arange(FARTHEST + 1.0)
        self._places, self._offsets = continuations.places, continuations.offsets
        self._corpus = (
            continuations.songs,
            continuations.left,
            np.log1p(playlists / np.maximum(1, np.diff(continuations.offsets))),
            decay,
            decay[:REACH] ** sharpness,
            float(sharpness),
        )
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


@compiled
def _said(positions: Ints, weights: Floats, rarity: Floats, decay: Floats) -> Floats:
    """What each seed of a query says where it is played: more, the later and the rarer it is."""
    said = np.empty(len(positions))
    for seed in range(len(positions)):
        said[seed] = weights[seed] * decay[len(positions) - 1 - seed] * rarity[positions[seed]]
    return said


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
def _carry(keys: Ints, row: int, left: NDArray[np.uint8], decay: Floats) -> float:
    """What is left of the agreement one occurrence earlier; nothing across playlists."""
    gap = _place(keys[row]) - _place(keys[row - 1])
    return decay[gap] if gap <= left[_place(keys[row - 1])] else 0.0


@compiled
def _room(keys: Ints, row: int, left: NDArray[np.uint8]) -> int:
    """How many songs after an occurrence are its evidence: those up to the next occurrence."""
    place = _place(keys[row])
    room = min(int(left[place]), REACH)
    return min(room, _place(keys[row + 1]) - place) if row + 1 < len(keys) else room


@compiled
def _power(agreement: float, sharpness: float) -> float:
    return float(np.copysign(np.abs(agreement) ** sharpness, agreement))


@compiled
def _gather(
    keys: Ints,
    said: Floats,
    songs: NDArray[np.int32],
    left: NDArray[np.uint8],
    decay: Floats,
    fading: Floats,
    sharpness: float,
    evidence: Floats,
    state: NDArray[np.uint8],
    touched: Ints,
) -> int:
    """Add up one query's evidence; gives how many songs were touched."""
    count, agreement = 0, 0.0
    for row in range(len(keys)):
        if row:
            agreement *= _carry(keys, row, left, decay)
        agreement += said[_seed(keys[row])]
        value = _power(agreement, sharpness)
        place = _place(keys[row])
        for step in range(_room(keys, row, left)):
            song = songs[place + 1 + step]
            if state[song] == _BLOCKED:
                continue
            if state[song] == _NEW:
                state[song] = _TOUCHED
                touched[count] = song
                count += 1
            evidence[song] += value * fading[step]
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


_CORPUS = (INTS_32, BYTES, FLOATS, FLOATS, FLOATS, FLOAT)


@compiled_for(INTS, INTS, FLOATS, INTS, INTS, INTS, INT, *_CORPUS, WORK_FLOATS, WORK_BYTES)
def _shortlists(
    keys: Ints,
    seeds: Ints,
    weights: Floats,
    seed_offsets: Ints,
    blocked: Ints,
    blocked_offsets: Ints,
    size: int,
    songs: NDArray[np.int32],
    left: NDArray[np.uint8],
    rarity: Floats,
    decay: Floats,
    fading: Floats,
    sharpness: float,
    evidence: Floats,
    state: NDArray[np.uint8],
) -> tuple[Ints, Floats]:
    queries = len(seed_offsets) - 1
    positions = np.full((queries, size), -1)
    values = np.zeros((queries, size))
    touched = np.empty(min(len(evidence), len(keys) * REACH), np.int64)
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
            _said(seeds[mine], weights[mine], rarity, decay),
            songs,
            left,
            decay,
            fading,
            sharpness,
            evidence,
            state,
            touched,
        )
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
    left: NDArray[np.uint8],
    rarity: Floats,
    decay: Floats,
    fading: Floats,
    sharpness: float,
) -> Floats:
    said = _said(seeds, weights, rarity, decay)
    result = np.zeros((len(wanted), len(seeds)))
    parts = np.zeros(len(seeds))
    for row in range(len(keys)):
        if row:
            parts *= _carry(keys, row, left, decay)
        seed, place = _seed(keys[row]), _place(keys[row])
        parts[seed] += said[seed]
        agreement = parts.sum()
        if agreement == 0.0:
            continue
        value = _power(agreement, sharpness)
        for step in range(_room(keys, row, left)):
            song = songs[place + 1 + step]
            found = np.searchsorted(wanted, song)
            if found < len(wanted) and wanted[found] == song:
                result[found] += parts / agreement * value * fading[step]
    return result
