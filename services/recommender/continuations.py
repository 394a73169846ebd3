"""The playlists behind a model, in arrays in which the places of a song are found at once."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from services.recommender.columns import check_offsets
from services.recommender.playlists import Playlists

Ints = NDArray[np.int64]


_FAR = np.iinfo(np.uint8).max
_LONG = np.iinfo(np.uint16).max
_BLOCK = 1_000_000
"""Places that are looked at in one go, since what is computed of them takes far more memory."""

_BESIDE = ("place_before", "place_after", "place_lengths")


@dataclass(frozen=True, slots=True)
class Continuations:
    """The playlists behind a model, and where in them each of n songs is played.

    What is said of a place stands beside it, so that a song's places are read in one go.

    Attributes:
        songs: int32 (p,), positions of songs, playlist after playlist.
        bounds: int64 (m + 1,), where each of m playlists begins and ends; none is empty.
        places: int32 (p,), places (rows of `songs`) by the song that is played there, ascending.
        before: uint8 (p,), how many songs the playlist holds before each of `places`, at most 255.
        after: uint8 (p,), how many it holds after it, at most 255.
        lengths: uint16 (p,), how many it holds in all, at most 65,535.
        offsets: int64 (n + 1,), where each song's part of `places` begins and ends.
    """

    songs: NDArray[np.int32]
    bounds: Ints
    places: NDArray[np.int32]
    before: NDArray[np.uint8]
    after: NDArray[np.uint8]
    lengths: NDArray[np.uint16]
    offsets: Ints

    @classmethod
    def from_playlists(cls, playlists: Playlists, songs: int) -> "Continuations":
        """Index playlists whose numbers are positions below `songs`; empty ones are dropped."""
        bounds = np.unique(playlists.offsets)
        places = np.argsort(playlists.songs, kind="stable").astype(np.int32)
        counts = np.bincount(playlists.songs, minlength=songs)
        offsets = np.concatenate((np.zeros(1, np.int64), np.cumsum(counts)))
        return cls(playlists.songs, bounds, places, *_surroundings(bounds, places), offsets)

    def check(self) -> None:
        """Raise ValueError unless the arrays are of one corpus."""
        plays = self.songs.size
        for name, array in (("plays", self.songs), ("places", self.places)):
            if array.dtype != np.int32 or array.ndim != 1 or len(array) != plays:
                raise ValueError(f"{name} is not one row of int32 for {plays} plays")
        check_offsets(self.bounds, plays, "play_bounds")
        check_offsets(self.offsets, plays, "place_offsets")
        if np.any(self.bounds[1:] == self.bounds[:-1]):
            raise ValueError("play_bounds hold a playlist without songs")
        songs = len(self.offsets) - 1
        for name, array, limit in (("plays", self.songs, songs), ("places", self.places, plays)):
            if plays and (array.min() < 0 or array.max() >= limit):
                raise ValueError(f"{name} holds numbers outside 0 to {limit - 1}")
        if not np.array_equal(self.songs[self.places], _rows(self.offsets)):
            raise ValueError("places are not those of the songs")
        stored: tuple[NDArray[Any], ...] = (self.before, self.after, self.lengths)
        expected: tuple[NDArray[Any], ...] = _surroundings(self.bounds, self.places)
        for name, beside, true in zip(_BESIDE, stored, expected, strict=True):
            if beside.dtype != true.dtype or not np.array_equal(beside, true):
                raise ValueError(f"{name} is not what the playlists say")


def _surroundings(
    bounds: Ints, places: NDArray[np.int32]
) -> tuple[NDArray[np.uint8], NDArray[np.uint8], NDArray[np.uint16]]:
    """How many songs of its playlist are before and after each place, and in all."""
    owners = _rows(bounds)
    before, after = np.empty(len(places), np.uint8), np.empty(len(places), np.uint8)
    lengths = np.empty(len(places), np.uint16)
    for first in range(0, len(places), _BLOCK):
        part = slice(first, first + _BLOCK)
        mine = places[part]
        begins, ends = bounds[owners[mine]], bounds[owners[mine] + 1]
        before[part] = np.minimum(mine - begins, _FAR)
        after[part] = np.minimum(ends - 1 - mine, _FAR)
        lengths[part] = np.minimum(ends - begins, _LONG)
    return before, after, lengths


def _rows(offsets: Ints) -> NDArray[np.int32]:
    """The row that each value of a ragged column belongs to."""
    return np.repeat(np.arange(len(offsets) - 1, dtype=np.int32), np.diff(offsets))
