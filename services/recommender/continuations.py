"""What came next in playlists, after songs like the seeds.

A place in a playlist is like the end of a listener's history when the same songs lead up to it,
and the songs that follow there are evidence for what comes next. A place agrees with the seeds the
better, the more of them lead up to it, the rarer they are, and the closer they stand. This is
session kNN (Ludewig and Jannach, 2018) with places for neighbours instead of whole sessions, so
that order counts; weighted by a power of the agreement, as in kernel regression (Nadaraya, 1964),
it is a Markov chain of any order that backs off by itself.

The loops are compiled (numba): they visit a few thousand plays a query, which is too many for
Python and too few for array operations to pay.
"""

from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray

from services.recommender.columns import check_offsets
from services.recommender.playlists import Playlists

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

HISTORY = 30
"""Seeds that count, the latest; what was played before them says nothing more."""

OCCURRENCES = 500
"""Most occurrences of one seed that are looked at, the last of the corpus: a bound on time."""

REACH = 10
"""How many songs after a seed are evidence."""

_FARTHEST = np.iinfo(np.uint8).max

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


@dataclass(frozen=True, slots=True)
class Continuations:
    """The playlists behind a model, and where in them each of n songs is played.

    Attributes:
        songs: int32 (p,), positions of songs, playlist after playlist.
        left: uint8 (p,), how many songs the playlist holds after each, 255 for more.
        places: int32 (p,), places (rows of `songs`) by the song that is played there, ascending.
        offsets: int64 (n + 1,), where each song's part of `places` begins and ends.
    """

    songs: NDArray[np.int32]
    left: NDArray[np.uint8]
    places: NDArray[np.int32]
    offsets: Ints

    @classmethod
    def from_playlists(cls, playlists: Playlists, songs: int) -> "Continuations":
        """Index playlists whose numbers are positions below `songs`."""
        ends = np.repeat(playlists.offsets[1:], np.diff(playlists.offsets))
        left = ends - 1 - np.arange(len(playlists.songs))
        counts = np.bincount(playlists.songs, minlength=songs)
        return cls(
            songs=playlists.songs,
            left=np.minimum(left, _FARTHEST).astype(np.uint8),
            places=np.argsort(playlists.songs, kind="stable").astype(np.int32),
            offsets=np.concatenate((np.zeros(1, np.int64), np.cumsum(counts))),
        )

    def check(self) -> None:
        """Raise ValueError unless the arrays are of one corpus."""
        for name, array, dtype in (
            ("plays", self.songs, np.int32),
            ("plays_left", self.left, np.uint8),
            ("places", self.places, np.int32),
            ("place_offsets", self.offsets, np.int64),
        ):
            if array.dtype != dtype or array.ndim != 1:
                raise ValueError(f"{name} is not one row of {np.dtype(dtype)}")
        plays, songs = len(self.songs), len(self.offsets) - 1
        check_offsets(self.offsets, plays, "place_offsets")
        if len(self.left) != plays or len(self.places) != plays:
            raise ValueError(f"plays_left and places are not one for each of {plays} plays")
        if not plays:
            return
        for name, array, limit in (("plays", self.songs, songs), ("places", self.places, plays)):
            if array.min() < 0 or array.max() >= limit:
                raise ValueError(f"{name} holds numbers outside 0 to {limit - 1}")
        by_song = np.repeat(np.arange(songs, dtype=np.int32), np.diff(self.offsets))
        if not np.array_equal(self.songs[self.places], by_song):
            raise ValueError("places are not those of the songs")
        counts_down = np.minimum(self.left[1:] + np.uint16(1), _FARTHEST) == self.left[:-1]
        if self.left[-1] != 0 or not np.all(counts_down | (self.left[:-1] == 0)):
            raise ValueError("plays_left does not count down to the end of each playlist")


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
        self._arrays = (
            continuations.songs,
            continuations.left,
            continuations.places,
            continuations.offsets,
        )
        self._decay = recency ** np.arange(_FARTHEST + 1.0)
        self._fading = self._decay[:REACH] ** sharpness
        self._sharpness = sharpness
        self._rarity = np.log1p(playlists / np.maximum(1, np.diff(continuations.offsets)))
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
        weights = self._weights(seeds)
        keys = _occurrences(seeds.positions, seeds.offsets, *self._arrays[2:])
        keys.sort()
        return _shortlists(
            keys,
            weights,
            seeds.offsets,
            blocked,
            blocked_offsets,
            size,
            self._arrays[0],
            self._arrays[1],
            self._decay,
            self._fading,
            self._sharpness,
            self._evidence,
            self._state,
        )

    def contributions(self, seeds: Seeds, songs: Ints) -> Floats:
        """Split the evidence for some songs by the seeds it comes from, for one query.

        Args:
            seeds: Seeds of one query.
            songs: int64 (m,), positions of songs, ascending.

        Returns:
            float64 (m, s); each row adds up to the song's evidence in `shortlists`.
        """
        keys = _occurrences(seeds.positions, seeds.offsets, *self._arrays[2:])
        keys.sort()
        return _contributions(
            keys,
            self._weights(seeds),
            songs,
            self._arrays[0],
            self._arrays[1],
            self._decay,
            self._fading,
            self._sharpness,
        )

    def _weights(self, seeds: Seeds) -> Floats:
        return _weights(seeds.positions, seeds.weights, seeds.offsets, self._decay, self._rarity)


@njit(cache=True, nogil=True)
def _weights(
    positions: Ints, weights: Floats, offsets: Ints, decay: Floats, rarity: Floats
) -> Floats:
    """What each seed says where it is played: the more, the later it came and the rarer it is."""
    result = np.empty(len(positions))
    for query in range(len(offsets) - 1):
        for row in range(offsets[query], offsets[query + 1]):
            age = offsets[query + 1] - 1 - row
            result[row] = weights[row] * decay[age] * rarity[positions[row]]
    return result


@njit(cache=True, nogil=True)
def _occurrences(
    positions: Ints, seed_offsets: Ints, places: NDArray[np.int32], offsets: Ints
) -> Ints:
    """Where the seeds are played, as numbers that sort by query, then place, then seed."""
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


@njit(cache=True, nogil=True)
def _place(key: int) -> int:
    return (key >> _SEED_BITS) & ((1 << _PLACE_BITS) - 1)


@njit(cache=True, nogil=True)
def _query(key: int) -> int:
    return key >> (_SEED_BITS + _PLACE_BITS)


@njit(cache=True, nogil=True)
def _seed(key: int) -> int:
    return key & ((1 << _SEED_BITS) - 1)


@njit(cache=True, nogil=True)
def _carry(keys: Ints, row: int, left: NDArray[np.uint8], decay: Floats) -> float:
    """What is left of the agreement one occurrence earlier; nothing across playlists."""
    gap = _place(keys[row]) - _place(keys[row - 1])
    return decay[gap] if gap <= left[_place(keys[row - 1])] else 0.0


@njit(cache=True, nogil=True)
def _room(keys: Ints, row: int, left: NDArray[np.uint8]) -> int:
    """How many songs after an occurrence are its evidence: those up to the next occurrence."""
    place = _place(keys[row])
    room = min(int(left[place]), REACH)
    return min(room, _place(keys[row + 1]) - place) if row + 1 < len(keys) else room


@njit(cache=True, nogil=True)
def _power(agreement: float, sharpness: float) -> float:
    return float(np.copysign(np.abs(agreement) ** sharpness, agreement))


@njit(cache=True, nogil=True)
def _gather(
    keys: Ints,
    weights: Floats,
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
        agreement += weights[_seed(keys[row])]
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


@njit(cache=True, nogil=True)
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


@njit(cache=True, nogil=True)
def _shortlists(
    keys: Ints,
    weights: Floats,
    seed_offsets: Ints,
    blocked: Ints,
    blocked_offsets: Ints,
    size: int,
    songs: NDArray[np.int32],
    left: NDArray[np.uint8],
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
        mine = weights[seed_offsets[query] : seed_offsets[query + 1]]
        barred = blocked[blocked_offsets[query] : blocked_offsets[query + 1]]
        state[barred] = _BLOCKED
        count = _gather(
            keys[begin:end],
            mine,
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


@njit(cache=True, nogil=True)
def _contributions(
    keys: Ints,
    weights: Floats,
    wanted: Ints,
    songs: NDArray[np.int32],
    left: NDArray[np.uint8],
    decay: Floats,
    fading: Floats,
    sharpness: float,
) -> Floats:
    result = np.zeros((len(wanted), len(weights)))
    parts = np.zeros(len(weights))
    for row in range(len(keys)):
        if row:
            parts *= _carry(keys, row, left, decay)
        seed, place = _seed(keys[row]), _place(keys[row])
        parts[seed] += weights[seed]
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
