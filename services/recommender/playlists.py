"""Playlists in one flat array, and the songs that they are of."""

from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from services.recommender.catalogue import Catalogue
from services.recommender.columns import check_offsets, ragged


class Playlists:
    """Playlists in one flat array; each is an int32 array of positions in a catalogue.

    Args:
        songs: int32 [plays], playlist after playlist.
        offsets: int64 [playlists + 1], where each playlist begins and ends.

    Raises:
        ValueError: the offsets do not fit the songs.
    """

    __slots__ = ("offsets", "songs")

    def __init__(self, songs: NDArray[np.int32], offsets: NDArray[np.int64]) -> None:
        check_offsets(offsets, len(songs))
        self.songs = songs
        self.offsets = offsets

    @classmethod
    def from_lists(cls, lists: Sequence[Sequence[int]]) -> "Playlists":
        """Pack playlists that are given as lists of positions."""
        return cls(*ragged(lists))

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, number: int) -> NDArray[np.int32]:
        if not 0 <= number < len(self):
            raise IndexError(f"playlist {number} of {len(self)}")
        return self.songs[self.offsets[number] : self.offsets[number + 1]]

    def __iter__(self) -> Iterator[NDArray[np.int32]]:
        return (self[number] for number in range(len(self)))


class PlaylistsBuilder:
    """Packs playlists one by one: four bytes a play, however many there are."""

    def __init__(self) -> None:
        self._songs = array("i")
        self._offsets = array("q", [0])

    def append(self, playlist: Sequence[int]) -> None:
        """Add a playlist, given as positions in a catalogue."""
        self._songs.extend(playlist)
        self._offsets.append(len(self._songs))

    def build(self) -> Playlists:
        """All playlists, in the order in which they came; nothing can be added after that."""
        return Playlists(
            np.frombuffer(self._songs, np.int32), np.frombuffer(self._offsets, np.int64)
        )


@dataclass(frozen=True, slots=True)
class Corpus:
    """Songs, and playlists whose numbers are positions in `catalogue`."""

    name: str
    catalogue: Catalogue
    playlists: Playlists
