"""Where the seeds of queries are played, in groups that stand near each other in one playlist."""

import numpy as np
from numpy.typing import NDArray

from services.recommender.compiled import compiled, prefetch
from services.recommender.selection import largest

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Keys = NDArray[np.uint64]

OCCURRENCES = 300
"""Most occurrences of one seed that are looked at, the last of the corpus: a bound on time."""

REACH = 6
"""How many songs before and after a seed are evidence."""

NEIGHBOURS = 120
"""Groups of occurrences that a query keeps, those that say most: a bound on time."""

# An occurrence of a seed is one number: its place, the number of the seed in the query, and what is
# known of the place. So nothing has to be fetched from elsewhere to bring occurrences in order and
# to group them, which would take longer than all the rest. It is unsigned, as is all that is
# computed of it: a loop that indexes with signed numbers looks each time whether one is negative.
_SEED_BITS, _BEFORE_BITS, _AFTER_BITS, _LENGTH_BITS = 5, 3, 4, 12
_AFTER_SHIFT = np.uint64(_LENGTH_BITS)
_BEFORE_SHIFT = np.uint64(_LENGTH_BITS + _AFTER_BITS)
_SEED_SHIFT = np.uint64(_LENGTH_BITS + _AFTER_BITS + _BEFORE_BITS)
_PLACE_SHIFT = np.uint64(_LENGTH_BITS + _AFTER_BITS + _BEFORE_BITS + _SEED_BITS)
_MOST_SEEDS, _MOST_BEFORE, _MOST_AFTER, _MOST_LENGTH = (
    np.uint64((1 << bits) - 1) for bits in (_SEED_BITS, _BEFORE_BITS, _AFTER_BITS, _LENGTH_BITS)
)
_LINE = 16  # places that come from memory together
_ONE = np.uint64(1)
_REACH = np.uint64(REACH)

_BEFORE_ALL, _BEHIND_ALL = np.uint64(0), np.uint64(2**64 - 1)
"""Numbers that are no occurrence: a playlist's length is never 0, and a place fits 32 bits."""


@compiled
def occurrences(
    seeds: Ints,
    places: NDArray[np.int32],
    before: NDArray[np.uint8],
    after: NDArray[np.uint8],
    lengths: NDArray[np.uint16],
    offsets: Ints,
) -> Keys:
    """Where the seeds of a query are played, as numbers that sort by place.

    Args:
        seeds: int64 (s,), positions of songs, at most 32, as a key has five bits for them.
        places: This and the rest as in `Continuations`.
        before: See there.
        after: See there.
        lengths: See there.
        offsets: See there.

    Returns:
        uint64 (o,), ascending.
    """
    runs = np.empty((len(seeds), 2), np.int64)
    room = 0
    for seed in range(len(seeds)):
        count = offsets[seeds[seed] + 1] - offsets[seeds[seed]]
        runs[seed, 0] = room + 1
        runs[seed, 1] = room + 1 + min(OCCURRENCES, count)
        room = runs[seed, 1] + 1
    keys = np.empty(room, np.uint64)
    for seed in range(len(seeds)):
        run = keys[runs[seed, 0] : runs[seed, 1]]
        at = offsets[seeds[seed] + 1] - len(run)
        _write(run, np.uint64(seed), places[at:], before[at:], after[at:], lengths[at:])
    return _merged(keys, runs)


@compiled
def let_come(
    seeds: Ints,
    places: NDArray[np.int32],
    before: NDArray[np.uint8],
    after: NDArray[np.uint8],
    lengths: NDArray[np.uint16],
    offsets: Ints,
) -> None:
    """Let what `occurrences` will read come from memory, but for the middle of long runs."""
    for seed in seeds:
        end = offsets[seed + 1]
        begin = max(offsets[seed], end - OCCURRENCES)
        for place in range(begin, min(end, begin + 4 * _LINE), _LINE):
            prefetch(places, place)
        for at in (begin, end - 1):
            prefetch(before, at)
            prefetch(after, at)
            prefetch(lengths, at)


@compiled
def _write(
    keys: Keys,
    seed: np.uint64,
    places: NDArray[np.int32],
    before: NDArray[np.uint8],
    after: NDArray[np.uint8],
    lengths: NDArray[np.uint16],
) -> None:
    """Write a seed's occurrences as numbers, the first so many of those given."""
    for row in range(len(keys)):
        keys[row] = (
            (np.uint64(places[row]) << _PLACE_SHIFT)
            | (seed << _SEED_SHIFT)
            | (min(np.uint64(before[row]), _MOST_BEFORE) << _BEFORE_SHIFT)
            | (min(np.uint64(after[row]), _MOST_AFTER) << _AFTER_SHIFT)
            | min(np.uint64(lengths[row]), _MOST_LENGTH)
        )


@compiled
def _merged(keys: Keys, runs: Ints) -> Keys:
    """Merge runs that are sorted, neighbour with neighbour until one is left; takes both arrays.

    Args:
        keys: uint64, the runs, with room for a number before and behind each.
        runs: int64 (r, 2), where they begin and end.
    """
    other, count = np.empty_like(keys), len(runs)
    if count == 0:
        return keys
    while count > 1:
        for pair in range(count // 2):
            begin, middle = runs[2 * pair]
            second, end = runs[2 * pair + 1]
            for fence in (begin, second):
                keys[fence - 1] = _BEFORE_ALL
            for fence in (middle, end):
                keys[fence] = _BEHIND_ALL
            runs[pair, 0], runs[pair, 1] = begin, middle + end - second
            merged = other[begin : runs[pair, 1]]
            _merge(keys[begin - 1 : middle + 1], keys[second - 1 : end + 1], merged)
        if count % 2:
            begin, end = runs[count - 1]
            other[begin:end] = keys[begin:end]
            runs[count // 2, 0], runs[count // 2, 1] = begin, end
        count = (count + 1) // 2
        keys, other = other, keys
    return keys[runs[0, 0] : runs[0, 1]]


@compiled
def _merge(one: Keys, two: Keys, merged: Keys) -> None:
    """Merge from both ends at a time, which a processor does side by side.

    `one` and `two` are fenced: their first number is `_BEFORE_ALL`, their last `_BEHIND_ALL`.
    """
    first, second = _ONE, _ONE
    last, second_last = np.uint64(len(one) - 2), np.uint64(len(two) - 2)
    front, back = np.uint64(0), np.uint64(len(merged) - 1)
    for _ in range(len(merged) // 2):
        take = one[first] < two[second]
        merged[front] = one[first] if take else two[second]
        first, second, front = first + np.uint64(take), second + np.uint64(not take), front + _ONE
        take = one[last] > two[second_last]
        merged[back] = one[last] if take else two[second_last]
        last, second_last = last - np.uint64(take), second_last - np.uint64(not take)
        back -= _ONE
    if len(merged) % 2:
        merged[front] = one[first] if first <= last else two[second]


@compiled
def place_of(key: np.uint64) -> np.uint64:
    """The place of an occurrence, a row of `Continuations.songs`."""
    return key >> _PLACE_SHIFT


@compiled
def seed_of(key: np.uint64) -> np.uint64:
    """The number of its seed in the query."""
    return (key >> _SEED_SHIFT) & _MOST_SEEDS


@compiled
def _before(key: np.uint64) -> np.uint64:
    return (key >> _BEFORE_SHIFT) & _MOST_BEFORE


@compiled
def _after(key: np.uint64) -> np.uint64:
    return (key >> _AFTER_SHIFT) & _MOST_AFTER


@compiled
def scale_of(key: np.uint64) -> float:
    """What an occurrence counts: a long playlist says less of each of its songs, as in a cosine."""
    return float(1.0 / np.sqrt(np.float64(key & _MOST_LENGTH)))


@compiled
def sharpen(values: Floats, agreements: Floats, sharpness: int) -> None:
    """Multiply values, each an agreement or a multiple of one, up to a power that keeps the sign.

    Each pass over all of them runs in vectors, which one number's loop after another's does not.
    """
    for _ in range(sharpness - 1):
        for row in range(len(values)):
            values[row] *= abs(agreements[row])


@compiled
def groups(keys: Keys, said: Floats, sharpness: int) -> Ints:
    """Group occurrences that are near the one before in the same playlist.

    Args:
        keys: uint64 (o,), occurrences of the seeds of one query, sorted.
        said: float64 (s,), what each seed says.
        sharpness: The power to which what is said in a group is raised.

    Returns:
        Begins and ends of the groups that may say most, int64 (g, 2), in order.
    """
    begins, totals = np.empty(len(keys) + 1, np.int64), np.empty(len(keys) + 1)
    count, total = np.uint64(0), 0.0
    beyond = np.uint64(0)  # the first place that would not belong to the group
    for row in range(len(keys)):  # without a branch that could be guessed wrong, as in `largest`
        key = keys[row]
        first = place_of(key) >= beyond
        total = said[seed_of(key)] + total * (not first)
        begins[count] = row
        count += np.uint64(first)
        totals[count] = total
        beyond = place_of(key) + min(2 * _REACH, _after(key)) + _ONE
    begins[count] = len(keys)
    totals = np.abs(totals[1 : count + 1])
    worth = np.empty(len(totals))
    for row in range(len(worth)):
        worth[row] = totals[row] * scale_of(keys[begins[row]])
    sharpen(worth, totals, sharpness)
    rows = largest(worth, NEIGHBOURS)
    found = np.empty((len(rows), 2), np.int64)
    for row in range(len(rows)):
        found[row, 0], found[row, 1] = begins[rows[row]], begins[rows[row] + 1]
    return found


@compiled
def span(first: np.uint64, last: np.uint64) -> tuple[np.uint64, np.uint64]:
    """Begin and end of the places within reach of a group, within its playlist.

    Args:
        first: The first occurrence of the group.
        last: Its last.
    """
    begin = place_of(first) - min(_REACH, _before(first))
    return begin, place_of(last) + min(_REACH, _after(last)) + _ONE
