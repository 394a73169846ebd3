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
from typing import Any

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
    compiled,
    compiled_for,
    prefetch,
)
from services.recommender.continuations import Continuations
from services.recommender.occurrences import (
    Keys,
    groups,
    let_come,
    occurrences,
    place_of,
    scale_of,
    seed_of,
    sharpen,
    span,
)
from services.recommender.selection import largest

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

_ONE, _GOLDEN, _HALF_GOLDEN = np.uint64(1), np.uint64(2654435769), np.uint64(15)

HISTORY = 30
"""Seeds that count, the latest; what was played before them says nothing more."""

_HEARD = np.uint64(256)
"""How many places away a seed is heard; beyond them next to nothing would be left of it."""


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
    """Finds what comes next; any number of threads may ask.

    Args:
        continuations: Where to look.
        blend: How seeds and places are weighed.
    """

    def __init__(self, continuations: Continuations, blend: Blend) -> None:
        playlists = len(continuations.bounds) - 1
        self._corpus: tuple[Any, ...] = (
            continuations.places,
            continuations.before,
            continuations.after,
            continuations.lengths,
            continuations.offsets,
            continuations.songs,
            np.log1p(playlists / np.maximum(1, np.diff(continuations.offsets))),
            blend.recency,
            _hearing(blend),
            blend.sharpness,
        )

    def shortlists(
        self, seeds: Seeds, blocked: Ints, blocked_offsets: Ints, size: int
    ) -> tuple[Ints, Floats, Ints]:
        """Give each query the songs for which there is most evidence.

        Args:
            seeds: Seeds of q queries.
            blocked: int64, positions of songs that must not be in the answer, query after query.
            blocked_offsets: int64 (q + 1,), where each query's blocked songs begin and end.
            size: Most songs a query.

        Returns:
            Positions, int64 (q, size), in no particular order, then -1 where there are fewer; the
            evidence, float64 (q, size), in a unit of the query's own, 0 where there are fewer; and
            how many there are, int64 (q,).
        """
        shortlists: tuple[Ints, Floats, Ints] = _shortlists(
            seeds.positions,
            seeds.weights,
            seeds.offsets,
            blocked,
            blocked_offsets,
            size,
            *self._corpus,
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
        contributions: Floats = _contributions(seeds.positions, seeds.weights, songs, *self._corpus)
        return contributions


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
def _interest(rarity: float) -> float:
    """A rare song that is near the seeds is there for a reason rather than by its fame."""
    return float(np.sqrt(1.0 + rarity))


def _hearing(blend: Blend) -> Floats:
    """What is left of a seed at each place from `_HEARD` before it to as many after it.

    It is not heard at its own place.
    """
    fading = blend.proximity ** np.arange(int(_HEARD))
    return np.concatenate((blend.backward * fading[::-1], np.zeros(1), fading))


@compiled
def _agree(
    key: np.uint64,
    said: Floats,
    begin: np.uint64,
    hearing: Floats,
    agreements: Floats,
    at: np.uint64,
    count: np.uint64,
) -> None:
    """Add what an occurrence says to the agreements of `count` places from `begin` on.

    Args:
        key: The occurrence, at one of these places.
        said: What each seed says.
        begin: The first of the places.
        hearing: As of `_hearing`.
        agreements: float64; those of the places stand from `at` on.
        at: See there.
        count: How many places.
    """
    value, own = said[seed_of(key)], place_of(key) - begin
    first = own - min(own, _HEARD)
    for row in range(first, min(count, own + _HEARD + _ONE)):
        agreements[at + row] += value * hearing[_HEARD + row - own]


@compiled
def _gather(
    keys: Keys,
    said: Floats,
    songs: NDArray[np.int32],
    hearing: Floats,
    sharpness: int,
) -> tuple[NDArray[np.int32], Floats]:
    """The songs near one query's seeds, place after place, and the evidence that each place is."""
    near = groups(keys, said, sharpness)
    total = np.uint64(0)
    for row in range(len(near)):
        begin, end = span(keys[near[row, 0]], keys[near[row, 1] - 1])
        prefetch(songs, begin)
        prefetch(songs, end - _ONE)
        total += end - begin
    found = np.empty(total, np.int32)
    agreements, evidence = np.zeros(total), np.empty(total)
    filled = np.uint64(0)
    for row in range(len(near)):
        first, behind = near[row]
        begin, end = span(keys[first], keys[behind - 1])
        scale, count = scale_of(keys[first]), end - begin
        for occurrence in range(first, behind):
            _agree(keys[occurrence], said, begin, hearing, agreements, filled, count)
        for place in range(count):
            found[filled + place] = songs[begin + place]
            evidence[filled + place] = scale * agreements[filled + place]
        filled += count
    sharpen(evidence, agreements, sharpness)
    return found, evidence


@compiled
def _slot(table: NDArray[np.int32], song: int, last: np.uint64) -> np.uint64:
    """Where a song stands in a hash table whose last slot is `last`, or would stand."""
    slot = ((np.uint64(song) * _GOLDEN) >> _HALF_GOLDEN) & last
    while table[slot] != song and table[slot] >= 0:
        slot = (slot + _ONE) & last
    return slot


@compiled
def _sum(
    songs: NDArray[np.int32], evidence: Floats, blocked: Ints
) -> tuple[NDArray[np.int32], Floats]:
    """Add up the evidence of each song that is not blocked; a hash table, since they are few."""
    size = 16
    while size < 2 * (len(songs) + len(blocked)):
        size *= 2
    table, sums, last = np.full(size, -1, np.int32), np.zeros(size), np.uint64(size - 1)
    for song in blocked:
        slot = _slot(table, song, last)
        table[slot], sums[slot] = song, -np.inf
    slots = np.empty(len(songs) + 1, np.uint64)
    count = np.uint64(0)
    for row in range(len(songs)):
        if evidence[row] != 0.0:
            slot = _slot(table, songs[row], last)
            slots[count] = slot
            count += np.uint64(table[slot] < 0)
            table[slot] = songs[row]
            sums[slot] += evidence[row]
    found, totals = np.empty(count, np.int32), np.empty(count)
    for row in range(len(found)):
        found[row], totals[row] = table[slots[row]], sums[slots[row]]
    return found, totals


_CORPUS = (
    *(INTS_32, BYTES, BYTES, SHORTS, INTS),
    *(INTS_32, FLOATS, FLOAT, FLOATS, INT),
)


@compiled_for(INTS, FLOATS, INTS, INTS, INTS, INT, *_CORPUS, nogil=True)
def _shortlists(
    seeds: Ints,
    weights: Floats,
    seed_offsets: Ints,
    blocked: Ints,
    blocked_offsets: Ints,
    size: int,
    places: NDArray[np.int32],
    before: NDArray[np.uint8],
    after: NDArray[np.uint8],
    lengths: NDArray[np.uint16],
    offsets: Ints,
    songs: NDArray[np.int32],
    rarity: Floats,
    recency: float,
    hearing: Floats,
    sharpness: int,
) -> tuple[Ints, Floats, Ints]:
    queries = len(seed_offsets) - 1
    positions = np.full((queries, size), -1)
    values = np.zeros((queries, size))
    counts = np.empty(queries, np.int64)
    for query in range(queries):
        if query + 1 < queries:
            following = seeds[seed_offsets[query + 1] : seed_offsets[query + 2]]
            let_come(following, places, before, after, lengths, offsets)
        mine = slice(seed_offsets[query], seed_offsets[query + 1])
        said = _said(seeds[mine], weights[mine], rarity, recency)
        keys = occurrences(seeds[mine], places, before, after, lengths, offsets)
        near, evidence = _gather(keys, said, songs, hearing, sharpness)
        barred = blocked[blocked_offsets[query] : blocked_offsets[query + 1]]
        found, sums = _sum(near, evidence, barred)
        for row in range(len(found)):
            sums[row] *= _interest(rarity[found[row]])
        best = largest(sums, size)
        counts[query] = len(best)
        for column in range(len(best)):
            positions[query, column] = found[best[column]]
            values[query, column] = sums[best[column]]
    return positions, values, counts


@compiled_for(INTS, FLOATS, INTS, *_CORPUS)
def _contributions(
    seeds: Ints,
    weights: Floats,
    wanted: Ints,
    places: NDArray[np.int32],
    before: NDArray[np.uint8],
    after: NDArray[np.uint8],
    lengths: NDArray[np.uint16],
    offsets: Ints,
    songs: NDArray[np.int32],
    rarity: Floats,
    recency: float,
    hearing: Floats,
    sharpness: int,
) -> Floats:
    keys = occurrences(seeds, places, before, after, lengths, offsets)
    said = _said(seeds, weights, rarity, recency)
    result = np.zeros((len(wanted), len(seeds)))
    for first, behind in groups(keys, said, sharpness):
        begin, end = span(keys[first], keys[behind - 1])
        count = end - begin
        parts = np.zeros((len(seeds), count))
        for key in keys[first:behind]:
            _agree(key, said, begin, hearing, parts[seed_of(key)], np.uint64(0), count)
        agreements = parts.sum(axis=0)
        evidence = scale_of(keys[first]) * agreements
        sharpen(evidence, agreements, sharpness)
        for place in range(count):
            song = songs[begin + place]
            found = np.searchsorted(wanted, song)
            if found < len(wanted) and wanted[found] == song and agreements[place] != 0.0:
                value = _interest(rarity[song]) * evidence[place]
                result[found] += parts[:, place] / agreements[place] * value
    return result
