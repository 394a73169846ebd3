"""The playlists behind a model, in arrays in which the places of a song are found at once."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from services.recommender.columns import check_offsets
from services.recommender.playlists import Playlists

Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Continuations:
    """The playlists behind a model, and where in them each of n songs is played.

    Attributes:
        songs: int32 (p,), positions of songs, playlist after playlist.
        owners: int32 (p,), the number of the playlist that each place belongs to.
        bounds: int64 (m + 1,), where each of m playlists begins and ends.
        places: int32 (p,), places (rows of `songs`) by the song that is played there, ascending.
        offsets: int64 (n + 1,), where each song's part of `places` begins and ends.
    """

    songs: NDArray[np.int32]
    owners: NDArray[np.int32]
    bounds: Ints
    places: NDArray[np.int32]
    offsets: Ints

    @classmethod
    def from_playlists(cls, playlists: Playlists, songs: int) -> "Continuations":
        """Index playlists whose numbers are positions below `songs`; empty ones are dropped."""
        bounds = np.unique(playlists.offsets)
        counts = np.bincount(playlists.songs, minlength=songs)
        return cls(
            songs=playlists.songs,
            owners=_rows(bounds),
            bounds=bounds,
            places=np.argsort(playlists.songs, kind="stable").astype(np.int32),
            offsets=np.concatenate((np.zeros(1, np.int64), np.cumsum(counts))),
        )

    def check(self) -> None:
        """Raise ValueError unless the arrays are of one corpus."""
        for name, array in (
            ("plays", self.songs),
            ("play_owners", self.owners),
            ("places", self.places),
        ):
            if array.dtype != np.int32 or array.ndim != 1 or len(array) != self.songs.size:
                raise ValueError(f"{name} is not one row of int32 for {self.songs.size} plays")
        plays = len(self.songs)
        check_offsets(self.bounds, plays, "play_bounds")
        check_offsets(self.offsets, plays, "place_offsets")
        songs = len(self.offsets) - 1
        if np.any(self.bounds[1:] == self.bounds[:-1]):
            raise ValueError("play_bounds hold a playlist without songs")
        for name, array, limit in (("plays", self.songs, songs), ("places", self.places, plays)):
            if plays and (array.min() < 0 or array.max() >= limit):
                raise ValueError(f"{name} holds numbers outside 0 to {limit - 1}")
        if not np.array_equal(self.songs[self.places], _rows(self.offsets)):
            raise ValueError("places are not those of the songs")
        if not np.array_equal(self.owners, _rows(self.bounds)):
            raise ValueError("play_owners are not those of the play_bounds")


def _rows(offsets: Ints) -> NDArray[np.int32]:
    """The row that each value of a ragged column belongs to."""
    return np.repeat(np.arange(len(offsets) - 1, dtype=np.int32), np.diff(offsets))
