"""Where the seeds of queries are played, in groups that stand near each other in one playlist."""

import numpy as np
from numpy.typing import NDArray

from services.recommender.compiled import compiled
from services.recommender.selection import largest

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

OCCURRENCES = 300
"""Most occurrences of one seed that are looked at, the last of the corpus: a bound on time."""

REACH = 6
"""How many songs before and after a seed are evidence."""

NEIGHBOURS = 120
"""Groups of occurrences that a query keeps, those that say most: a bound on time."""

# An occurrence of a seed is one number: its place, the number of the seed in the query, and what is
# known of the place. So nothing has to be fetched from elsewhere to bring occurrences in order and
# to group them, which would take longer than all the rest.
_SEED_BITS, _BEFORE_BITS, _AFTER_BITS, _LENGTH_BITS = 5, 3, 4, 12
_AFTER_SHIFT = _LENGTH_BITS
_BEFORE_SHIFT = _AFTER_SHIFT + _AFTER_BITS
_SEED_SHIFT = _BEFORE_SHIFT + _BEFORE_BITS
_PLACE_SHIFT = _SEED_SHIFT + _SEED_BITS


@compiled
def occurrences(
    seeds: Ints,
    places: NDArray[np.int32],
    before: NDArray[np.uint8],
    after: NDArray[np.uint8],
    lengths: NDArray[np.uint16],
    offsets: Ints,
) -> Ints:
    """Where the seeds of a query are played, as numbers that sort by place.

    Args:
        seeds: int64 (s,), positions of songs, at most 32, as a key has five bits for them.
        places: This and the rest as in `Continuations`.
        before: See there.
        after: See there.
        lengths: See there.
        offsets: See there.

    Returns:
        int64 (o,), ascending.
    """
    ends = np.empty(len(seeds) + 1, np.int64)
    ends[0] = 0
    for seed in range(len(seeds)):
        count = offsets[seeds[seed] + 1] - offsets[seeds[seed]]
        ends[seed + 1] = ends[seed] + min(OCCURRENCES, count)
    keys = np.empty(ends[-1], np.int64)
    for seed in range(len(seeds)):
        at = offsets[seeds[seed] + 1] - ends[seed + 1]
        for row in range(ends[seed], ends[seed + 1]):
            keys[row] = (
                (np.int64(places[at + row]) << _PLACE_SHIFT)
                | (seed << _SEED_SHIFT)
                | (min(int(before[at + row]), (1 << _BEFORE_BITS) - 1) << _BEFORE_SHIFT)
                | (min(int(after[at + row]), (1 << _AFTER_BITS) - 1) << _AFTER_SHIFT)
                | min(int(lengths[at + row]), (1 << _LENGTH_BITS) - 1)
            )
    return _merged(keys, ends)


@compiled
def _merged(keys: Ints, ends: Ints) -> Ints:
    """Merge runs that are sorted, neighbour with neighbour until one is left; takes `ends`."""
    other = np.empty_like(keys)
    runs = len(ends) - 1
    while runs > 1:
        for pair in range((runs + 1) // 2):
            begin, middle = ends[2 * pair], ends[2 * pair + 1]
            end = ends[min(2 * pair + 2, runs)]
            _merge(keys[begin:middle], keys[middle:end], other[begin:end])
            ends[pair + 1] = end
        runs = (runs + 1) // 2
        keys, other = other, keys
    return keys


@compiled
def _merge(one: Ints, two: Ints, merged: Ints) -> None:
    first, second = 0, 0
    while first < len(one) and second < len(two):
        take = one[first] <= two[second]
        merged[first + second] = one[first] if take else two[second]
        first, second = first + take, second + (not take)
    if first < len(one):
        merged[first + second :] = one[first:]
    else:
        merged[first + second :] = two[second:]


@compiled
def place_of(key: int) -> int:
    """The place of an occurrence, a row of `Continuations.songs`."""
    return key >> _PLACE_SHIFT


@compiled
def seed_of(key: int) -> int:
    """The number of its seed in the query."""
    return (key >> _SEED_SHIFT) & ((1 << _SEED_BITS) - 1)


@compiled
def _before(key: int) -> int:
    return (key >> _BEFORE_SHIFT) & ((1 << _BEFORE_BITS) - 1)


@compiled
def _after(key: int) -> int:
    return (key >> _AFTER_SHIFT) & ((1 << _AFTER_BITS) - 1)


@compiled
def scale_of(key: int) -> float:
    """What an occurrence counts: a long playlist says less of each of its songs, as in a cosine."""
    return float(1.0 / np.sqrt(key & ((1 << _LENGTH_BITS) - 1)))


@compiled
def sharpen(values: Floats, agreements: Floats, sharpness: int) -> None:
    """Multiply values, each an agreement or a multiple of one, up to a power that keeps the sign.

    Each pass over all of them runs in vectors, which one number's loop after another's does not.
    """
    for _ in range(sharpness - 1):
        for row in range(len(values)):
            values[row] *= abs(agreements[row])


@compiled
def groups(keys: Ints, said: Floats, sharpness: int) -> Ints:
    """Group occurrences that are near the one before in the same playlist.

    Args:
        keys: int64 (o,), occurrences of the seeds of one query, sorted.
        said: float64 (s,), what each seed says.
        sharpness: The power to which what is said in a group is raised.

    Returns:
        Begins and ends of the groups that may say most, int64 (g, 2), in order.
    """
    begins, totals = np.empty(len(keys) + 1, np.int64), np.empty(len(keys))
    count, total = 0, 0.0
    last = -1  # the last place that would belong to the group
    for row in range(len(keys)):  # without a branch that could be guessed wrong, as in `largest`
        key = keys[row]
        begins[count] = row
        first = place_of(key) > last
        count += first
        total = said[seed_of(key)] + (0.0 if first else total)
        totals[count - 1] = total
        last = place_of(key) + min(2 * REACH, _after(key))
    begins[count] = len(keys)
    totals = np.abs(totals[:count])
    worth = np.empty(count)
    for row in range(count):
        worth[row] = totals[row] * scale_of(keys[begins[row]])
    sharpen(worth, totals, sharpness)
    rows = largest(worth, NEIGHBOURS)
    found = np.empty((len(rows), 2), np.int64)
    for row in range(len(rows)):
        found[row, 0], found[row, 1] = begins[rows[row]], begins[rows[row] + 1]
    return found


@compiled
def span(group: Ints) -> tuple[int, int]:
    """Begin and end of the places within reach of a group, within its playlist."""
    first, last = group[0], group[-1]
    begin = place_of(first) - min(REACH, _before(first))
    return begin, place_of(last) + min(REACH, _after(last)) + 1
