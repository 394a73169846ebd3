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
    BYTES,
    FLOAT,
    FLOATS,
    INT,
    INTS,
    INTS_32,
    SHORTS,
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

REACH = 6
"""How many songs before and after a seed are evidence."""

NEIGHBOURS = 120
"""Groups of occurrences that a query keeps, those that say most: a bound on time."""

MOST_QUERIES = 256
"""Most queries that are answered in one call."""

# An occurrence of a seed is sorted as one number: query (8 bits), place, number of the seed in the
# query, and what is known of the place. So nothing has to be fetched from elsewhere to compare
# occurrences, which would take longer than all the rest.
_PLACE_BITS, _SEED_BITS, _BEFORE_BITS, _AFTER_BITS, _LENGTH_BITS = 31, 5, 3, 4, 12
_AFTER_SHIFT = _LENGTH_BITS
_BEFORE_SHIFT = _AFTER_SHIFT + _AFTER_BITS
_SEED_SHIFT = _BEFORE_SHIFT + _BEFORE_BITS
_PLACE_SHIFT = _SEED_SHIFT + _SEED_BITS
_QUERY_SHIFT = _PLACE_SHIFT + _PLACE_BITS
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
        self._places = (
            continuations.places,
            continuations.before,
            continuations.after,
            continuations.lengths,
            continuations.offsets,
        )
        self._corpus = (
            continuations.songs,
            np.log1p(playlists / np.maximum(1, np.diff(continuations.offsets))),
            blend.recency,
            blend.proximity,
            blend.backward,
            blend.sharpness,
        )
        longest = int(np.diff(continuations.bounds).max(initial=0))
        self._agreement = np.zeros(longest)
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

        Raises:
            ValueError: there are more than `MOST_QUERIES` queries.
        """
        if len(seeds) > MOST_QUERIES:
            raise ValueError(f"{len(seeds)} queries at once; ask for at most {MOST_QUERIES}")
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
        keys: Ints = _occurrences(seeds.positions, seeds.offsets, *self._places)
        keys.sort()
        return keys


@compiled_for(INTS, INTS, INTS_32, BYTES, BYTES, SHORTS, INTS)
def _occurrences(
    positions: Ints,
    seed_offsets: Ints,
    places: NDArray[np.int32],
    before: NDArray[np.uint8],
    after: NDArray[np.uint8],
    lengths: NDArray[np.uint16],
    offsets: Ints,
) -> Ints:
    total = 0
    for position in positions:
        total += min(OCCURRENCES, offsets[position + 1] - offsets[position])
    keys = np.empty(total, np.int64)
    filled = 0
    for query in range(len(seed_offsets) - 1):
        for row in range(seed_offsets[query], seed_offsets[query + 1]):
            end = offsets[positions[row] + 1]
            seed = row - seed_offsets[query]
            for at in range(max(offsets[positions[row]], end - OCCURRENCES), end):
                keys[filled] = (
                    (query << _QUERY_SHIFT)
                    | (np.int64(places[at]) << _PLACE_SHIFT)
                    | (seed << _SEED_SHIFT)
                    | (min(int(before[at]), (1 << _BEFORE_BITS) - 1) << _BEFORE_SHIFT)
                    | (min(int(after[at]), (1 << _AFTER_BITS) - 1) << _AFTER_SHIFT)
                    | min(int(lengths[at]), (1 << _LENGTH_BITS) - 1)
                )
                filled += 1
    return keys


@compiled
def _query(key: int) -> int:
    return key >> _QUERY_SHIFT


@compiled
def _place(key: int) -> int:
    return (key >> _PLACE_SHIFT) & ((1 << _PLACE_BITS) - 1)


@compiled
def _seed(key: int) -> int:
    return (key >> _SEED_SHIFT) & ((1 << _SEED_BITS) - 1)


@compiled
def _before(key: int) -> int:
    return (key >> _BEFORE_SHIFT) & ((1 << _BEFORE_BITS) - 1)


@compiled
def _after(key: int) -> int:
    return (key >> _AFTER_SHIFT) & ((1 << _AFTER_BITS) - 1)


@compiled
def _scale(key: int) -> float:
    """A long playlist says less of each of its songs, as in a cosine."""
    return float(1.0 / np.sqrt(key & ((1 << _LENGTH_BITS) - 1)))


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
def _group_end(keys: Ints, begin: int) -> int:
    """Where the occurrences end that are near the one before in the same playlist."""
    end = begin + 1
    while end < len(keys):
        gap = _place(keys[end]) - _place(keys[end - 1])
        if gap > 2 * REACH or gap > _after(keys[end - 1]):
            break
        end += 1
    return end


@compiled
def _groups(keys: Ints, said: Floats, sharpness: int) -> Ints:
    """Begins and ends of the groups of occurrences that may say most, int64 (g, 2), in order."""
    groups = np.empty((len(keys), 2), np.int64)
    worth = np.empty(len(keys))
    count, begin = 0, 0
    while begin < len(keys):
        end = _group_end(keys, begin)
        total = 0.0
        for row in range(begin, end):
            total += said[_seed(keys[row])]
        groups[count, 0], groups[count, 1] = begin, end
        worth[count] = abs(_power(total, sharpness)) * _scale(keys[begin])
        count += 1
        begin = end
    if count <= NEIGHBOURS:
        return groups[:count]
    least = np.partition(worth[:count], count - NEIGHBOURS)[count - NEIGHBOURS]
    kept = 0
    for row in range(count):
        if worth[row] >= least and kept < NEIGHBOURS:
            groups[kept] = groups[row]
            kept += 1
    return groups[:kept]


@compiled
def _span(group: Ints) -> tuple[int, int]:
    """The places within reach of a group, within its playlist."""
    first, last = group[0], group[-1]
    begin = _place(first) - min(REACH, _before(first))
    return begin, _place(last) + min(REACH, _after(last)) + 1


@compiled
def _interest(rarity: float) -> float:
    """A rare song that is near the seeds is there for a reason rather than by its fame."""
    return float(np.sqrt(1.0 + rarity))


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
    proximity: float,
    backward: float,
    sharpness: int,
    agreement: Floats,
    evidence: Floats,
    state: NDArray[np.uint8],
    touched: Ints,
) -> int:
    """Add up one query's evidence; gives how many songs were touched."""
    count = 0
    for first, behind in _groups(keys, said, sharpness):
        group = keys[first:behind]
        begin, end = _span(group)
        _agree(group, said, begin, end, proximity, backward, agreement)
        scale = _scale(group[0])
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
    size, count = len(positions), 0
    least = -np.inf
    if len(touched) > size:
        least = np.partition(evidence[touched], len(touched) - size)[len(touched) - size]
    for song in touched:
        if evidence[song] > least:
            positions[count] = song
            count += 1
    if len(touched) > size:
        ties = np.sort(np.array([song for song in touched if evidence[song] == least]))
        positions[count:] = ties[: size - count]
        count = size
    positions[:count].sort()
    for row in range(count):
        values[row] = evidence[positions[row]]


_CORPUS = (INTS_32, FLOATS, FLOAT, FLOAT, FLOAT, INT)


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
    rarity: Floats,
    recency: float,
    proximity: float,
    backward: float,
    sharpness: int,
) -> Floats:
    said = _said(seeds, weights, rarity, recency)
    result = np.zeros((len(wanted), len(seeds)))
    alone = np.zeros(len(seeds))
    for first, behind in _groups(keys, said, sharpness):
        group = keys[first:behind]
        begin, end = _span(group)
        parts = np.zeros((len(seeds), end - begin))
        for seed in range(len(seeds)):
            alone[seed] = said[seed]
            _agree(group, alone, begin, end, proximity, backward, parts[seed])
            alone[seed] = 0.0
        scale = _scale(group[0])
        for place in range(begin, end):
            song = songs[place]
            found = np.searchsorted(wanted, song)
            agreement = parts[:, place - begin].sum()
            if found < len(wanted) and wanted[found] == song and agreement != 0.0:
                value = scale * _interest(rarity[song]) * _power(agreement, sharpness)
                result[found] += parts[:, place - begin] / agreement * value
    return result
