"""The songs that a model knows, stored as columns so that many processes can map one copy."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from services.recommender.columns import StringColumn, check_offsets, offsets_of, ragged, taken
from services.recommender.compiled import BYTES, INTS, INTS_32, compiled, compiled_for

NO_YEAR = np.iinfo(np.int16).min

_COLUMNS = ("ids", "titles", "artists", "tag_names")
_DTYPES: dict[str, type[np.integer[Any]]] = {
    **{f"{column}_data": np.uint8 for column in _COLUMNS},
    **{f"{column}_offsets": np.int64 for column in _COLUMNS},
    "tags": np.int32,
    "tag_offsets": np.int64,
    "years": np.int16,
    "artist_numbers": np.int32,
    "id_slots": np.int32,
}
_NO_ARTIST = frozenset({"", "-"})


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

    Strings lie in flat arrays, and ids are found in a hash table that is another, so a catalogue
    that is mapped from disk costs neither memory nor time to open.

    >>> songs = Catalogue.from_songs([Song("7", "Fade to Black", "Metallica", tags=("metal",))])
    >>> songs[songs.position("7")].artist
    'Metallica'

    Attributes:
        ids: The songs' ids.
        titles: Their titles.
        artists: Their artists.
        artist_numbers: int32 (n,), equal for songs of one artist, whatever the case of its letters;
            -1 where the artist is not known.
        tag_names: All tags.
        tags: int32 (t,), rows of `tag_names`, song after song.
        tag_offsets: int64 (n + 1,), where each song's tags begin and end.
        years: int16 (n,), `NO_YEAR` where the year is not known.

    Args:
        arrays: what `arrays()` of another catalogue returned.

    Raises:
        ValueError: the arrays are incomplete or do not fit together.
    """

    def __init__(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        _check_kinds(arrays)
        self.tags, self.tag_offsets = arrays["tags"], arrays["tag_offsets"]
        self.artist_numbers = arrays["artist_numbers"]
        self.years = arrays["years"]
        self._slots = arrays["id_slots"]
        self.ids = StringColumn.among(arrays, "ids")
        self.titles = StringColumn.among(arrays, "titles")
        self.artists = StringColumn.among(arrays, "artists")
        self.tag_names = StringColumn.among(arrays, "tag_names")
        self._arrays = {name: arrays[name] for name in _DTYPES}
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
                "artist_numbers": number_artists(song.artist for song in songs),
                "id_slots": hash_ids([song.id.encode() for song in songs]),
            }
        )

    def take(self, rows: NDArray[np.int64]) -> "Catalogue":
        """Some of the songs, each at most once, in the order given."""
        tags, tag_offsets = taken(self.tags, self.tag_offsets, rows)
        tags, used = _by_first(tags)
        columns = {
            "ids": (ids := self.ids.take(rows)),
            "titles": self.titles.take(rows),
            "artists": self.artists.take(rows),
            "tag_names": self.tag_names.take(used),
        }
        artists = self.artist_numbers[rows].copy()
        artists[artists >= 0], _ = _by_first(artists[artists >= 0])
        return Catalogue(
            {
                **{f"{name}_data": column.data for name, column in columns.items()},
                **{f"{name}_offsets": column.offsets for name, column in columns.items()},
                "tags": tags,
                "tag_offsets": tag_offsets,
                "years": self.years[rows],
                "artist_numbers": artists,
                "id_slots": hash_ids(ids.all_encoded()),
            }
        )

    def arrays(self) -> dict[str, NDArray[Any]]:
        """All that the catalogue holds, by name; `Catalogue(arrays)` is the way back."""
        return dict(self._arrays)

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, position: int) -> Song:
        year = int(self.years[position])
        begin, end = self.tag_offsets[position], self.tag_offsets[position + 1]
        return Song(
            id=self.ids[position],
            title=self.titles[position],
            artist=self.artists[position],
            tags=tuple(self.tag_names[int(tag)] for tag in self.tags[begin:end]),
            year=None if year == NO_YEAR else year,
        )

    def positions(self, song_ids: Sequence[str]) -> NDArray[np.int64]:
        """Where the songs with these ids stand, int64; -1 for an id that no song has.

        Raises:
            TypeError: one is no string; a number is never taken for a position.
        """
        try:
            encoded = [song_id.encode(errors="surrogatepass") for song_id in song_ids]
        except AttributeError:
            raise TypeError("a song id is a string") from None
        offsets = offsets_of(map(len, encoded))
        return self.positions_in(
            np.frombuffer(b"".join(encoded), np.uint8), offsets[:-1], np.diff(offsets)
        )

    def positions_in(
        self, text: NDArray[np.uint8], begins: NDArray[np.int64], lengths: NDArray[np.int64]
    ) -> NDArray[np.int64]:
        """As `positions`, of ids that stand in UTF-8 somewhere in a text.

        Args:
            text: uint8.
            begins: int64 (n,), where each id begins.
            lengths: int64 (n,), how many bytes it has.
        """
        found: NDArray[np.int64] = _look_up(
            text, begins, lengths, self._slots, self.ids.data, self.ids.offsets
        )
        return found

    def position(self, song_id: str) -> int:
        """Where the song with this id stands.

        Raises:
            UnknownSongError: no song has it.
            TypeError: it is no string.
        """
        position = int(self.positions([song_id])[0])
        if position < 0:
            raise UnknownSongError(song_id)
        return position

    def tagged(self, tag: str) -> NDArray[np.int64]:
        """Positions of the songs that have a tag, ascending; none for a tag that is not known."""
        number = self._tag_numbers.get(tag)
        if number is None:
            return np.empty(0, np.int64)
        songs, offsets = self._songs_by_tag
        return songs[offsets[number] : offsets[number + 1]]

    @cached_property
    def _tag_numbers(self) -> dict[str, int]:
        return {self.tag_names[number]: number for number in range(len(self.tag_names))}

    @cached_property
    def _songs_by_tag(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        songs = np.repeat(np.arange(len(self)), np.diff(self.tag_offsets))
        offsets = offsets_of(np.bincount(self.tags, minlength=len(self.tag_names)))
        return songs[np.argsort(self.tags, kind="stable")], offsets

    def _check(self) -> None:
        songs = len(self)
        check_offsets(self.tag_offsets, len(self.tags), "tag_offsets")
        rows = {
            "titles": len(self.titles),
            "artists": len(self.artists),
            "tag_offsets": len(self.tag_offsets) - 1,
            "years": len(self.years),
            "artist_numbers": len(self.artist_numbers),
        }
        for name, count in rows.items():
            if count != songs:
                raise ValueError(f"{name} has {count} rows for {songs} songs")
        _check_range("tags", self.tags, 0, len(self.tag_names))
        _check_range("artist_numbers", self.artist_numbers, -1, songs)
        if not np.array_equal(self._arrays["id_slots"], hash_ids(self.ids.all_encoded())):
            raise ValueError("id_slots does not lead to the ids")


def _arrays(name: str, strings: Iterable[str]) -> dict[str, NDArray[Any]]:
    column = StringColumn.from_strings(strings)
    return {f"{name}_data": column.data, f"{name}_offsets": column.offsets}


def _years(songs: list[Song]) -> NDArray[np.int16]:
    for song in songs:
        if song.year is not None and not NO_YEAR < song.year <= np.iinfo(np.int16).max:
            raise ValueError(f"the year {song.year} of song {song.id!r} is out of range")
    return np.array([NO_YEAR if song.year is None else song.year for song in songs], np.int16)


def _by_first(numbers: NDArray[np.int32]) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """Numbers anew from 0, in the order in which they first come, and the old ones so."""
    old, first, places = np.unique(numbers, return_index=True, return_inverse=True)
    order = np.argsort(first)
    anew = np.empty(len(old), np.int32)
    anew[order] = np.arange(len(old), dtype=np.int32)
    return anew[places], old[order].astype(np.int64)


def number_artists(artists: Iterable[str]) -> NDArray[np.int32]:
    """Number artists in the order of their first song, -1 for those that are not known."""
    numbers: dict[str, int] = {}
    return np.array(
        [
            -1 if artist in _NO_ARTIST else numbers.setdefault(artist.casefold(), len(numbers))
            for artist in artists
        ],
        np.int32,
    )


def hash_ids(song_ids: Sequence[bytes]) -> NDArray[np.int32]:
    """A hash table of ids with open addressing: positions at or behind their id's CRC-32, or -1.

    It has a power of two of slots, at least twice as many as there are ids, given in UTF-8.

    Raises:
        DuplicateSongError: two songs have one id.
    """
    last = (1 << (2 * len(song_ids)).bit_length()) - 1
    slots = [-1] * (last + 1)
    for position, song_id in enumerate(song_ids):
        slot = crc32(song_id) & last
        while slots[slot] >= 0:
            if song_ids[slots[slot]] == song_id:
                raise DuplicateSongError(song_id.decode())
            slot = (slot + 1) & last
        slots[slot] = position
    return np.array(slots, np.int32)


def _crc_steps() -> NDArray[np.uint32]:
    """What each byte does to a CRC-32, as zlib computes it."""
    steps = np.arange(256)
    for _ in range(8):
        steps = (steps >> 1) ^ (0xEDB88320 * (steps & 1))
    return steps.astype(np.uint32)


_CRC_STEPS = _crc_steps()


@compiled
def _crc32(data: NDArray[np.uint8]) -> int:
    crc = np.uint32(0xFFFFFFFF)
    for byte in data:
        crc = _CRC_STEPS[(crc ^ byte) & 0xFF] ^ (crc >> np.uint32(8))
    return int(crc ^ np.uint32(0xFFFFFFFF))


@compiled
def _equal(one: NDArray[np.uint8], other: NDArray[np.uint8]) -> bool:
    if len(one) != len(other):
        return False
    for k in range(len(one)):  # noqa: SIM110 - compiled, it beats a generator
        if one[k] != other[k]:
            return False
    return True


@compiled_for(BYTES, INTS, INTS, INTS_32, BYTES, INTS)
def _look_up(
    text: NDArray[np.uint8],
    begins: NDArray[np.int64],
    lengths: NDArray[np.int64],
    slots: NDArray[np.int32],
    ids: NDArray[np.uint8],
    offsets: NDArray[np.int64],
) -> NDArray[np.int64]:
    """Find the ids that stand at some places of a text in the table that `hash_ids` makes."""
    found = np.empty(len(lengths), np.int64)
    last = len(slots) - 1
    for row in range(len(lengths)):
        wanted = text[begins[row] : begins[row] + lengths[row]]
        slot = _crc32(wanted) & last
        while slots[slot] >= 0 and not _equal(
            wanted, ids[offsets[slots[slot]] : offsets[slots[slot] + 1]]
        ):
            slot = (slot + 1) & last
        found[row] = slots[slot]
    return found


def _check_kinds(arrays: Mapping[str, NDArray[Any]]) -> None:
    for name, dtype in _DTYPES.items():
        if name not in arrays:
            raise ValueError(f"the array {name!r} is missing")
        if arrays[name].ndim != 1 or arrays[name].dtype != dtype:
            raise ValueError(f"{name} is not one row of {np.dtype(dtype)}")


def _check_range(name: str, values: NDArray[Any], least: int, limit: int) -> None:
    if len(values) and (values.min() < least or values.max() >= limit):
        raise ValueError(f"{name} holds numbers outside {least} to {limit - 1}")
