"""Plays in any order, put together into playlists."""

from array import array
from bisect import bisect_right
from pathlib import Path
from reprlib import repr as shorten

import numpy as np
from numpy.typing import NDArray

from services.recommender.columns import offsets_of
from services.recommender.formats.problems import Kind, Problem, Report
from services.recommender.playlists import Playlists

# Positions are smaller, so a step between two playlists is never.
_NEXT_PLAYLIST = 2**31


class PlayTable:
    """Plays in the order of the files: sixteen bytes each, however many there are."""

    def __init__(self, report: Report) -> None:
        self._report = report
        self._numbers: dict[str, int] = {}
        self._playlists, self._positions = array("i"), array("i")
        self._songs, self._lines = array("i"), array("i")
        self._files: list[Path] = []
        self._first_rows: list[int] = []

    def __contains__(self, playlist_id: str) -> bool:
        return playlist_id in self._numbers

    def begin(self, path: Path) -> None:
        """Say of which file the next plays are."""
        self._files.append(path)
        self._first_rows.append(len(self._songs))

    def append(self, playlist_id: str, position: int, song: int, line: int | None = None) -> None:
        """Add a play.

        Args:
            playlist_id: Id of its playlist.
            position: Where in the playlist, 0 ≤ position < 2³¹.
            song: Position of its song in the catalogue.
            line: Where in the file it stands, if the format has lines.
        """
        self._playlists.append(self._numbers.setdefault(playlist_id, len(self._numbers)))
        self._positions.append(position)
        self._songs.append(song)
        self._lines.append(line or 0)

    def playlists(self) -> Playlists:
        """Playlists of two songs and more, in the order in which the files first name them."""
        ids = list(self._numbers)
        order = self._order(ids)
        songs = np.frombuffer(self._songs, np.int32)[order]
        playlists = np.frombuffer(self._playlists, np.int32)[order]
        lengths = np.bincount(playlists, minlength=len(ids))
        alone = np.flatnonzero(lengths == 1)
        firsts = order[np.searchsorted(playlists, alone)]
        for playlist, row in zip(alone.tolist(), firsts.tolist(), strict=True):
            self._tell(Kind.SHORT, row, f"playlist {shorten(ids[playlist])} has one song.")
        enough = lengths > 1
        return Playlists(songs[np.repeat(enough, lengths)], offsets_of(lengths[enough]))

    def _order(self, ids: list[str]) -> NDArray[np.int64]:
        """Rows by playlist and position; of several in one place, the first."""
        places = np.frombuffer(self._playlists, np.int32).astype(np.int64) << 32
        places |= np.frombuffer(self._positions, np.int32)
        # Stable, so that the later of two is the one refused; and fast on rows that are in order.
        order = np.argsort(places, kind="stable")
        places = places[order]
        steps = places[1:] - places[:-1]
        for row in order[1:][steps == 0].tolist():
            playlist, position = shorten(ids[self._playlists[row]]), self._positions[row]
            problem = f"playlist {playlist} has position {position} already; remove one of the two."
            self._tell(Kind.DUPLICATE, row, problem)
        for row in order[1:][(steps > 1) & (steps < _NEXT_PLAYLIST)].tolist():
            playlist, position = shorten(ids[self._playlists[row]]), self._positions[row]
            problem = f"playlist {playlist} has position {position} but not {position - 1}."
            self._tell(Kind.GAP, row, problem)
        return order[np.concatenate(([True], steps != 0))[: len(order)]]

    def _tell(self, kind: Kind, row: int, problem: str) -> None:
        file = self._files[bisect_right(self._first_rows, row) - 1]
        self._report(Problem(kind, file, self._lines[row] or None, problem))
