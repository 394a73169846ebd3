"""Finding the largest of many numbers without sorting them, in compiled loops.

Hardly anything branches on the numbers: a processor that guesses branches wrong loses more time
here than it takes to look at all of them several times over.
"""

import numpy as np
from numpy.typing import NDArray

from services.recommender.compiled import compiled

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

_ALL_BUT_SIGN = np.int64(0x7FFF_FFFF_FFFF_FFFF)


@compiled
def _ordered(values: Floats) -> Ints:
    """Whole numbers in the same order: the bits of a float, those of negative ones turned."""
    bits = values.view(np.int64)
    ordered = np.empty(len(bits), np.int64)
    for row in range(len(bits)):
        ordered[row] = bits[row] ^ ((bits[row] >> 63) & _ALL_BUT_SIGN)
    return ordered


@compiled
def _bar(ordered: Ints, count: int) -> int:
    """The largest number that at least `count` of these reach, by bisection."""
    low, high = ordered.min(), ordered.max() + 1
    reaching_low, reaching_high = len(ordered), 0
    while low + 1 < high:  # the difference may not fit 64 bits
        middle = (low >> 1) + (high >> 1) + (low & high & 1)
        reaching = 0
        for row in range(len(ordered)):
            reaching += ordered[row] >= middle
        if reaching == count:
            return int(middle)
        vain = reaching in (reaching_low, reaching_high)
        if reaching > count:
            low, reaching_low = middle, reaching
        else:
            high, reaching_high = middle, reaching
        if vain:  # as where many are equal
            low, high = _narrowed(ordered, low, high)
    return int(low)


@compiled
def _narrowed(ordered: Ints, low: int, high: int) -> tuple[int, int]:
    """The least of the numbers that reach `low`, and what is just above the most below `high`."""
    least, most = high, low
    for row in range(len(ordered)):
        least = min(least, ordered[row] if ordered[row] >= low else high)
        most = max(most, ordered[row] if ordered[row] < high else low)
    return least, most + 1


@compiled
def largest(values: Floats, count: int) -> Ints:
    """Rows of the `count` largest values, or of all where there are fewer, ascending.

    Of values that are equal, the last rows are taken.

    Args:
        values: float64 (n,), without NaN.
        count: How many, at least 1.

    Returns:
        int64 (min(n, count),).
    """
    if len(values) <= count:
        return np.arange(len(values))
    ordered = _ordered(values)
    bar = _bar(ordered, count)
    above, at = 0, 0
    for row in range(len(ordered)):
        above += ordered[row] > bar
        at += ordered[row] == bar
    too_many = above + at - count
    rows = np.empty(count + 1, np.int64)
    kept, seen = 0, 0
    for row in range(len(ordered)):
        rows[kept] = row
        seen += ordered[row] == bar
        kept += (ordered[row] > bar) | ((ordered[row] == bar) & (seen > too_many))
    return rows[:count]
