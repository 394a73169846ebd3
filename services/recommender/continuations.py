"""The playlists behind a model, in arrays in which the places of a song are found at once."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from services.recommender.columns import check_offsets
from services.recommender.playlists import Playlists

Ints = NDArray[np.int64]

FARTHEST = np.iinfo(np.uint8).max
"""The most songs that are counted behind a place."""


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
            left=np.minimum(left, FARTHEST).astype(np.uint8),
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
        counts_down = np.minimum(self.left[1:] + np.uint16(1), FARTHEST) == self.left[:-1]
        if self.left[-1] != 0 or not np.all(counts_down | (self.left[:-1] == 0)):
            raise ValueError("plays_left does not count down to the end of each playlist")
