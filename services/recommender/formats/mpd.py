"""Corpora of slices as the Spotify Million Playlist Dataset has them.

The format is described at https://www.aicrowd.com/challenges/spotify-million-playlist-dataset-challenge.
"""

import re
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import from_json

from services.recommender.catalogue import Song
from services.recommender.formats.plays import PlayTable
from services.recommender.formats.problems import CorpusError, Kind, Problem, Report
from services.recommender.formats.songs import Facts, SongTable, Tell
from services.recommender.formats.text import tidy, unreadable
from services.recommender.playlists import Corpus

PATTERNS = ("mpd.slice.*.json",)

_MAX_SLICE = 2**28
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_SYNTAX_ERROR = re.compile(r"(?P<what>.*) at line (?P<line>\d+) column (?P<column>\d+)")


class _Track(BaseModel):
    model_config = ConfigDict(strict=True)

    pos: Annotated[int, Field(ge=0, lt=2**31)]
    track_uri: str
    track_name: str
    artist_name: str


class _Playlist(BaseModel):
    model_config = ConfigDict(strict=True)

    pid: Annotated[int, Field(ge=0, lt=2**63)]
    num_tracks: int | None = None
    tracks: list[_Track]


def read_mpd(path: Path, report: Report) -> Corpus:
    """Read one slice, or all of a folder in the order of their numbers; one is in memory at a time.

    What a song's first track says of it is kept. JSON has no lines that a person would know, so
    all but broken syntax is told by the place in the file, such as `playlists[3].tracks[5].pos`.

    Raises:
        CorpusError: a file cannot be read, or `report` raises it.
    """
    songs, plays = SongTable(_song), PlayTable(report)
    for file in sorted(path.glob(PATTERNS[0]), key=_slice_order) if path.is_dir() else [path]:
        plays.begin(file)
        _read_slice(_Slice(file, report), songs, plays)
    return Corpus(path.resolve().name, songs.catalogue(), plays.playlists())


class _Slice:
    """One file, and who is told what is wrong with it."""

    def __init__(self, path: Path, report: Report) -> None:
        self._path = path
        self._report = report

    def tell(self, kind: Kind, problem: str, line: int | None = None) -> None:
        self._report(Problem(kind, self._path, line, problem))

    def tell_at(self, place: str, kind: Kind, problem: str) -> None:
        self.tell(kind, f"{place}: {problem}")

    def playlists(self) -> Iterator[tuple[str, _Playlist]]:
        """The playlists that can be used, each with its place in the file."""
        for number, found in enumerate(self._parse()):
            place = f"playlists[{number}]"
            try:
                playlist = _Playlist.model_validate(found)
            except ValidationError as error:
                for detail in error.errors(include_url=False, include_input=False):
                    where = place + "".join(_step(key) for key in detail["loc"])
                    self.tell_at(where, Kind.VALUE, f"{detail['msg']}; correct it or fetch again.")
            else:
                yield place, playlist

    def _parse(self) -> list[Any]:
        data = self._read()
        try:
            content = from_json(data, allow_inf_nan=False)
        except ValueError as error:
            found = _SYNTAX_ERROR.fullmatch(str(error))
            what, line = (found["what"], int(found["line"])) if found else (str(error), None)
            self.tell(Kind.SYNTAX, f"is not JSON: {what}; fetch the file again.", line)
            return []
        playlists = content.get("playlists") if isinstance(content, dict) else None
        if not isinstance(playlists, list):
            problem = 'holds no list of playlists; write {"playlists": [...]}.'
            self.tell(Kind.SYNTAX, problem)
            return []
        return playlists

    def _read(self) -> bytes:
        try:
            if self._path.stat().st_size > _MAX_SLICE:
                problem = f"is larger than {_MAX_SLICE:,} bytes; cut it into slices."
                raise CorpusError(Problem(Kind.FILE, self._path, None, problem))
            return self._path.read_bytes().removeprefix(_BYTE_ORDER_MARK)
        except OSError as error:
            raise unreadable(self._path, error) from None


def _read_slice(file: _Slice, songs: SongTable, plays: PlayTable) -> None:
    for place, playlist in file.playlists():
        _read_playlist(playlist, partial(file.tell_at, place), songs, plays)


def _read_playlist(playlist: _Playlist, tell: Tell, songs: SongTable, plays: PlayTable) -> None:
    playlist_id, count = str(playlist.pid), len(playlist.tracks)
    if playlist_id in plays:
        tell(Kind.DUPLICATE, f"pid {playlist_id} was given before; remove one of the two.")
        return
    if playlist.num_tracks not in (None, count):
        problem = f"num_tracks is {playlist.num_tracks} for {count} tracks; fetch the file again."
        tell(Kind.COUNT, problem)
    if not count:
        tell(Kind.SHORT, f"playlist {playlist_id} has no song.")
    for track in playlist.tracks:
        song = songs.position(track.track_uri, (track.track_name, track.artist_name), tell)
        if song is not None:
            plays.append(playlist_id, track.pos, song)


def _song(song_id: str, facts: Facts) -> Song:
    title, artist = facts
    return Song(song_id, tidy(title), tidy(artist))


def _step(key: int | str) -> str:
    return f"[{key}]" if isinstance(key, int) else f".{key}"


def _slice_order(path: Path) -> tuple[int, str]:
    found = re.match(r"mpd\.slice\.(\d+)", path.name)
    return (int(found[1]) if found else sys.maxsize), path.name
