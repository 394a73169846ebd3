"""Playlists and the songs in them, and how a corpus of both is read from the Yes.com format.

The format is described at https://www.cs.cornell.edu/~shuochen/lme/data_page.html.
"""

import html
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from services.recommender.catalogue import Catalogue, Song
from services.recommender.columns import check_offsets, offsets_of, ragged

_BACKSLASH = re.compile(r"\\(.?)")
_HEADER_LINES = 2


class CorpusError(ValueError):
    """A corpus cannot be read: which file, which line (from 1, None for all of it), and why."""

    def __init__(self, path: Path, line: int | None, problem: str) -> None:
        place = path.name if line is None else f"{path.name}:{line}"
        super().__init__(f"{place}: {problem}")
        self.path = path
        self.line = line
        self.problem = problem


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

    def renumbered(self, rows: NDArray[np.int64], songs: int) -> "Playlists":
        """The playlists with row k of `rows` called k; songs that are not among them are dropped.

        Args:
            rows: int64, numbers below `songs`, each once.
            songs: How many songs there are now.
        """
        numbers = np.full(songs, -1, np.int32)
        numbers[rows] = np.arange(len(rows), dtype=np.int32)
        renumbered = numbers[self.songs]
        kept = renumbered >= 0
        return Playlists(renumbered[kept], offsets_of(kept)[self.offsets])

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, number: int) -> NDArray[np.int32]:
        if not 0 <= number < len(self):
            raise IndexError(f"playlist {number} of {len(self)}")
        return self.songs[self.offsets[number] : self.offsets[number + 1]]

    def __iter__(self) -> Iterator[NDArray[np.int32]]:
        return (self[number] for number in range(len(self)))


@dataclass(frozen=True, slots=True)
class Corpus:
    """Songs, and playlists whose numbers are positions in `catalogue`."""

    name: str
    catalogue: Catalogue
    playlists: Playlists


def read_yes(folder: Path) -> Corpus:
    """Read a folder in the Yes.com format.

    `train.txt` and `song_hash.txt` are needed; `tags.txt` and `tag_hash.txt` are read when they
    are there. Playlists of fewer than two songs hold no transition and are left out. Rows of
    `song_hash.txt` whose id lies beyond the songs that `train.txt` counts are left out too.

    Raises:
        CorpusError: a file is missing or malformed; the message says where and what to do.
    """
    path = folder / "train.txt"
    lines = _lines(path)
    counts = _counts(path, lines)
    catalogue = read_songs(folder, len(counts))
    playlists = _playlists(path, lines, counts, catalogue)
    if not len(playlists):
        raise CorpusError(
            path,
            None,
            "there is no playlist of at least two songs; add playlists from line 3 on, one a "
            "line, as song ids with spaces between them.",
        )
    return Corpus(folder.resolve().name, catalogue, playlists)


def read_songs(folder: Path, count: int | None = None) -> Catalogue:
    """Read the songs of a folder in the Yes.com format, with their tags when those are there.

    Args:
        folder: where `song_hash.txt` lies.
        count: how many songs the playlists count; rows with ids from `count` on are left out.
            None: one more than the highest id.

    Raises:
        CorpusError: a file is missing or malformed; the message says where and what to do.
    """
    path = folder / "song_hash.txt"
    rows: dict[int, tuple[str, str]] = {}
    for number, line in enumerate(_lines(path), 1):
        columns = line.split("\t")
        if len(columns) != 3:
            raise CorpusError(
                path,
                number,
                f"has {len(columns)} columns instead of 3; write the id, the title and the artist "
                "with a tab between them.",
            )
        song_id = _number(path, number, "song id", columns[0].strip())
        if song_id in rows:
            raise CorpusError(
                path, number, f"song id {song_id} was given before; remove one of the two rows."
            )
        rows[song_id] = _text(columns[1]), _text(columns[2])
    if not rows:
        raise CorpusError(path, None, "holds no song; write one a line: id, title, artist.")
    count = max(rows) + 1 if count is None else count
    tags = _tags(folder, count)
    return Catalogue.from_songs(
        Song(str(song_id), title, artist, tags[song_id] if tags else ())
        for song_id, (title, artist) in rows.items()
        if song_id < count
    )


def _counts(path: Path, lines: list[str]) -> list[int]:
    """How often each song appears, by the second line; the first has as many external ids."""
    if len(lines) < _HEADER_LINES:
        raise CorpusError(
            path,
            None,
            "lacks its first two lines; line 1 holds an external id for each song, line 2 how "
            "often each song appears.",
        )
    external, counts = lines[0].split(), lines[1].split()
    if len(external) != len(counts):
        raise CorpusError(
            path,
            2,
            f"there are {len(counts)} counts here but {len(external)} ids on line 1; both lines "
            "need one entry for each song.",
        )
    return [_number(path, 2, "count", count) for count in counts]


def _playlists(path: Path, lines: list[str], counts: list[int], catalogue: Catalogue) -> Playlists:
    positions = {catalogue.ids[position]: position for position in range(len(catalogue))}
    seen = np.zeros(len(catalogue), np.int64)
    playlists = []
    for number, line in enumerate(lines[_HEADER_LINES:], _HEADER_LINES + 1):
        try:
            playlist = [positions[song_id] for song_id in line.split()]
        except KeyError as error:
            raise _unknown_song(path, number, error.args[0], len(counts)) from None
        np.add.at(seen, playlist, 1)
        if len(playlist) > 1:
            playlists.append(playlist)
    for song_id, count in enumerate(counts):
        position = positions.get(str(song_id))
        found = 0 if position is None else seen[position]
        if found != count:
            raise CorpusError(
                path,
                2,
                f"song id {song_id} should appear {count} times but appears {found} times in "
                "the playlists; the file is incomplete or was edited: fetch it again.",
            )
    return Playlists.from_lists(playlists)


def _unknown_song(path: Path, line: int, song_id: str, songs: int) -> CorpusError:
    number = _number(path, line, "song id", song_id)
    if number >= songs:
        problem = (
            f"song id {song_id} is out of range; lines 1 and 2 count {songs} songs, from 0 on."
        )
    else:
        problem = f"song id {song_id} is not in song_hash.txt; add its row there."
    return CorpusError(path, line, problem)


def _tags(folder: Path, count: int) -> list[tuple[str, ...]] | None:
    """The tags of song 0, 1, … `count` - 1, or None where there is no `tags.txt`."""
    path = folder / "tags.txt"
    if not path.exists():
        return None
    names = _tag_names(folder / "tag_hash.txt")
    lines = _lines(path)
    if len(lines) != count:
        raise CorpusError(
            path,
            None,
            f"has {len(lines)} lines for {count} songs; line k + 1 holds the tags of song id k, "
            "'#' for none.",
        )
    return [
        () if line.strip() == "#" else tuple(_tag(path, number, names, tag) for tag in line.split())
        for number, line in enumerate(lines, 1)
    ]


def _tag(path: Path, line: int, names: dict[int, str], tag: str) -> str:
    number = _number(path, line, "tag id", tag)
    if number not in names:
        raise CorpusError(path, line, f"tag id {tag} is not in tag_hash.txt; add its row there.")
    return names[number]


def _tag_names(path: Path) -> dict[int, str]:
    names: dict[int, str] = {}
    for number, line in enumerate(_lines(path), 1):
        tag_id, comma, name = line.partition(",")
        if not comma:
            raise CorpusError(path, number, "has no comma; write the tag's id, a comma, its name.")
        tag = _number(path, number, "tag id", tag_id.strip())
        if tag in names:
            raise CorpusError(
                path, number, f"tag id {tag} was given before; remove one of the two rows."
            )
        names[tag] = name.strip()
    return names


def _text(field: str) -> str:
    r"""A title or artist without the JSON escapes (`\/`), HTML entities and stray spaces.

    The source cut some texts at a quotation mark, which left a backslash at the end.
    """
    plain = _BACKSLASH.sub(lambda escape: " " if escape[1] in "tnr" else escape[1], field)
    return " ".join(html.unescape(plain).split())


def _number(path: Path, line: int, what: str, text: str) -> int:
    # The format's numbers are small; what is longer than nine digits is no id and no count.
    if not re.fullmatch(r"[0-9]{1,9}", text):
        raise CorpusError(
            path, line, f"{what} {text!r} is not a number; write it as digits, from 0 on."
        )
    return int(text)


def _lines(path: Path) -> list[str]:
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise CorpusError(
            path,
            None,
            f"there is no such file in {path.parent}; give the folder of a corpus in the Yes.com "
            "format, or fetch one with `segue data download`.",
        ) from None
    except OSError as error:
        raise CorpusError(
            path, None, f"cannot be read: {error.strerror}; check {path.parent} and its rights."
        ) from None
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise CorpusError(path, line, "is not valid UTF-8; save the file as UTF-8.") from None
    lines = text.removeprefix("\ufeff").split("\n")
    return lines if lines[-1] else lines[:-1]
