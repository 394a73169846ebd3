"""Playlists as sparse matrices: a row for each playlist, a column for each song."""

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from services.recommender.evaluation.ragged import owners_of
from services.recommender.playlists import Playlists


def incidence(playlists: Playlists, songs: int) -> sparse.csr_array:
    """1 where a playlist has a song, float32 (playlists, songs)."""
    matrix = weighted(playlists, songs, np.ones(len(playlists.songs), np.float32))
    matrix.data[:] = 1
    return matrix


def recent(histories: Playlists, songs: int, discount: float) -> sparse.csr_array:
    """What each song of a history counts, float32 (histories, songs).

    The last one counts 1, and each song `discount` times as much as the one played after it.
    """
    ages = histories.offsets[1:][owners_of(histories)] - 1 - np.arange(len(histories.songs))
    return weighted(histories, songs, (discount**ages).astype(np.float32))


def weighted(playlists: Playlists, songs: int, weights: NDArray[np.float32]) -> sparse.csr_array:
    """The sum of the weights of a playlist's plays of a song, float32 (playlists, songs)."""
    shape = (len(playlists), songs)
    parts = weights, playlists.songs, playlists.offsets
    matrix = sparse.csr_array(parts, shape=shape, copy=True)  # summing changes it in place
    matrix.sum_duplicates()
    return matrix
