"""Arithmetic on playlists of different lengths, without a loop over them."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from services.recommender.columns import taken
from services.recommender.playlists import Playlists

Numbers = NDArray[np.int64]


def lengths_of(playlists: Playlists) -> Numbers:
    """How many songs each playlist has, int64 (playlists,)."""
    return np.diff(playlists.offsets)


def owners_of(playlists: Playlists) -> Numbers:
    """For each play the number of its playlist, int64 (plays,)."""
    return np.repeat(np.arange(len(playlists)), lengths_of(playlists))


def take(playlists: Playlists, numbers: Numbers) -> Playlists:
    """The playlists of these numbers, in their order."""
    return Playlists(*taken(playlists.songs, playlists.offsets, numbers))


def batches(playlists: Playlists, size: int) -> Iterator[Playlists]:
    """The playlists in their order, `size` at a time; one empty batch if there are none."""
    for begin in range(0, max(1, len(playlists)), size):
        yield take(playlists, np.arange(begin, min(begin + size, len(playlists))))
