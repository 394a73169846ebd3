"""The songs that a model knows, stored as columns so that many processes can map one copy."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from services.recommender.columns import StringColumn, check_offsets, ragged

_NO_YEAR = np.iinfo(np.int16).min

_COLUMNS = ("ids", "titles", "artists", "tag_names")
_DTYPES: dict[str, type[np.integer[Any]]] = {
    **{f"{column}_data": np.uint8 for column in _COLUMNS},
    **{f"{column}_offsets": np.int64 for column in _COLUMNS},
    "tags": np.int32,
    "tag_offsets": np.int64,
    "years": np.int16,
    "by_id": np.int32,
}


class UnknownSongError(LookupError):
    """No song of the catalogue has this id."""

    def __init__(self, song_id: str) -> None:
        super().__init__(f"There is no song with the id {song_id!r}; search for it by title first.")
        self.song_id = song_id


class DuplicateSongError(ValueError):
    """Two songs were given the same id."""

    def __init__(self, song_id: str) -> None:
        super().__init__(f"Two songs have the id {song_id!r}; give each song an id of its own.")
        self.song_id = song_id


@dataclass(frozen=True, slots=True)
class Song:
    """One song as people know it."""

    id: str
    title: str
    artist: str
    tags: tuple[str, ...] = ()
    year: int | None = None


class Catalogue:
    """An ordered set of songs. A song's place in it, from 0, is its *position*.

    Strings lie in flat arrays, and ids are found by binary search in a sorted order, so a
    catalogue that is mapped from disk costs neither memory nor time to open.

    >>> songs = Catalogue.from_songs([Song("7", "Fade to Black", "Metallica", tags=("metal",))])
    >>> songs[songs.position("7")].artist
    'Metallica'

    Args:
        arrays: what `arrays()` of another catalogue returned.

    Raises:
        ValueError: the arrays are incomplete or do not fit together.
    """

    def __init__(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        _check_kinds(arrays)
        self._tags, self._tag_offsets = arrays["tags"], arrays["tag_offsets"]
        self._years, self._by_id = arrays["years"], arrays["by_id"]
        self.ids = _column(arrays, "ids")
        self.titles = _column(arrays, "titles")
        self.artists = _column(arrays, "artists")
        self.tag_names = _column(arrays, "tag_names")
        self._arrays = dict(arrays)
        self._check()

    @classmethod
    def from_songs(cls, songs: Iterable[Song]) -> "Catalogue":
        """Store songs in the order given.

        Raises:
            DuplicateSongError: two songs have one id.
            ValueError: a year does not fit 16 bits.
        """
        songs = list(songs)
        tag_numbers: dict[str, int] = {}
        for song in songs:
            for tag in song.tags:
                tag_numbers.setdefault(tag, len(tag_numbers))
        tags, tag_offsets = ragged([[tag_numbers[tag] for tag in song.tags] for song in songs])
        return cls(
            {
                **_arrays("ids", (song.id for song in songs)),
                **_arrays("titles", (song.title for song in songs)),
                **_arrays("artists", (song.artist for song in songs)),
                **_arrays("tag_names", tag_numbers),
                "tags": tags,
                "tag_offsets": tag_offsets,
                "years": _years(songs),
                "by_id": _order_by_id(songs),
            }
        )

    def arrays(self) -> dict[str, NDArray[Any]]:
        """All that the catalogue holds, by name; `Catalogue(arrays)` is the way back."""
        return dict(self._arrays)

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, position: int) -> Song:
        year = int(self._years[position])
        begin, end = self._tag_offsets[position], self._tag_offsets[position + 1]
        return Song(
            id=self.ids[position],
            title=self.titles[position],
            artist=self.artists[position],
            tags=tuple(self.tag_names[int(tag)] for tag in self._tags[begin:end]),
            year=None if year == _NO_YEAR else year,
        )

    def position(self, song_id: str) -> int:
        """Where the song with this id stands.

        Raises:
            UnknownSongError: no song has it.
            TypeError: it is not a string; a number is never taken for a position.
        """
        if not isinstance(song_id, str):
            raise TypeError(f"a song id is a string, not {type(song_id).__name__}")
        wanted = song_id.encode(errors="surrogatepass")
        low, high = 0, len(self)
        while low < high:
            middle = (low + high) // 2
            if self.ids.encoded(int(self._by_id[middle])) < wanted:
                low = middle + 1
            else:
                high = middle
        if low < len(self) and self.ids.encoded(position := int(self._by_id[low])) == wanted:
            return position
        raise UnknownSongError(song_id)

    def _check(self) -> None:
        songs = len(self)
        check_offsets(self._tag_offsets, len(self._tags))
        rows = {
            "titles": len(self.titles),
            "artists": len(self.artists),
            "tag_offsets": len(self._tag_offsets) - 1,
            "years": len(self._years),
            "by_id": len(self._by_id),
        }
        for name, count in rows.items():
            if count != songs:
                raise ValueError(f"{name} has {count} rows for {songs} songs")
        _check_range("tags", self._tags, len(self.tag_names))
        _check_range("by_id", self._by_id, songs)
        ids = self.ids.all_encoded()
        if any(ids[row] >= ids[after] for row, after in pairwise(self._by_id.tolist())):
            raise ValueError("by_id does not order the ids")


def _arrays(name: str, strings: Iterable[str]) -> dict[str, NDArray[Any]]:
    column = StringColumn.from_strings(strings)
    return {f"{name}_data": column.data, f"{name}_offsets": column.offsets}


def _column(arrays: Mapping[str, NDArray[Any]], name: str) -> StringColumn:
    return StringColumn(arrays[f"{name}_data"], arrays[f"{name}_offsets"])


def _years(songs: list[Song]) -> NDArray[np.int16]:
    for song in songs:
        if song.year is not None and not _NO_YEAR < song.year <= np.iinfo(np.int16).max:
            raise ValueError(f"the year {song.year} of song {song.id!r} is out of range")
    return np.array([_NO_YEAR if song.year is None else song.year for song in songs], np.int16)


def _order_by_id(songs: list[Song]) -> NDArray[np.int32]:
    encoded = [song.id.encode() for song in songs]
    order = sorted(range(len(songs)), key=encoded.__getitem__)
    for row, following in pairwise(order):
        if encoded[row] == encoded[following]:
            raise DuplicateSongError(songs[row].id)
    return np.array(order, np.int32)


def _check_kinds(arrays: Mapping[str, NDArray[Any]]) -> None:
    for name, dtype in _DTYPES.items():
        if name not in arrays:
            raise ValueError(f"the array {name!r} is missing")
        if arrays[name].ndim != 1 or arrays[name].dtype != dtype:
            raise ValueError(f"{name} is not one row of {np.dtype(dtype)}")


def _check_range(name: str, values: NDArray[Any], limit: int) -> None:
    if len(values) and (values.min() < 0 or values.max() >= limit):
        raise ValueError(f"{name} holds numbers outside 0 to {limit - 1}")
