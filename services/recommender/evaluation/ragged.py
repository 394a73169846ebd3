"""Arithmetic on playlists of different lengths, without a loop over them."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from services.recommender.columns import offsets_of
from services.recommender.playlists import Playlists

Numbers = NDArray[np.int64]


def lengths_of(playlists: Playlists) -> Numbers:
    """How many songs each playlist has, int64 (playlists,)."""
    return np.diff(playlists.offsets)


def owners_of(playlists: Playlists) -> Numbers:
    """For each play the number of its playlist, int64 (plays,)."""
    return np.repeat(np.arange(len(playlists)), lengths_of(playlists))


def spans(begins: Numbers, lengths: Numbers) -> Numbers:
    """The numbers from each begin on, as many as its length says, one span after another.

    >>> spans(np.array([5, 0]), np.array([2, 3])).tolist()
    [5, 6, 0, 1, 2]
    """
    offsets = offsets_of(lengths)
    return np.arange(offsets[-1]) + np.repeat(begins - offsets[:-1], lengths)


def take(playlists: Playlists, numbers: Numbers) -> Playlists:
    """The playlists of these numbers, in their order."""
    lengths = lengths_of(playlists)[numbers]
    return Playlists(
        playlists.songs[spans(playlists.offsets[numbers], lengths)], offsets_of(lengths)
    )


def batches(playlists: Playlists, size: int) -> Iterator[Playlists]:
    """The playlists in their order, `size` at a time; one empty batch if there are none."""
    for begin in range(0, max(1, len(playlists)), size):
        yield take(playlists, np.arange(begin, min(begin + size, len(playlists))))
