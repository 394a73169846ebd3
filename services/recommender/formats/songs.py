"""Songs that are told of anew with every play, gathered into a catalogue."""

from collections.abc import Callable
from reprlib import repr as shorten

from services.recommender.catalogue import Catalogue, Song
from services.recommender.formats.problems import Kind
from services.recommender.formats.text import check_id, check_length

Facts = tuple[str, ...]
"""What a row says of its song besides the id, as it is written there."""

Tell = Callable[[Kind, str], None]
"""Tells a problem of the row that is being read."""


class SongTable:
    """Songs in the order in which they first come.

    Args:
        make: Makes a song of its id and the facts; ValueError when they give none, and why.
    """

    def __init__(self, make: Callable[[str, Facts], Song]) -> None:
        self._make = make
        self._positions: dict[str, int] = {}
        self._facts: list[Facts] = []
        self._songs: list[Song] = []
        self._ambiguous: set[int] = set()

    def position(self, song_id: str, facts: Facts, tell: Tell) -> int | None:
        """Where the song stands, or None when the facts give no song and that was told."""
        position = self._positions.get(song_id)
        if position is not None and self._facts[position] == facts:
            return position
        try:
            song = self._make(song_id, facts)
            check_song(song)
        except ValueError as error:
            tell(Kind.VALUE, str(error))
            return None
        if position is None:
            return self._append(song, facts)
        if song != self._songs[position] and position not in self._ambiguous:
            self._ambiguous.add(position)
            tell(Kind.CONFLICT, f"song id {shorten(song_id)} was described in another way before.")
        return position

    def catalogue(self) -> Catalogue:
        """All songs."""
        return Catalogue.from_songs(self._songs)

    def _append(self, song: Song, facts: Facts) -> int:
        position = len(self._songs)
        self._positions[song.id] = position
        self._facts.append(facts)
        self._songs.append(song)
        return position


def check_song(song: Song) -> None:
    """Raise ValueError, with what to do, when an id or a text of a song cannot be used."""
    check_id(song.id)
    for text in (song.title, song.artist, *song.tags):
        check_length(text)
