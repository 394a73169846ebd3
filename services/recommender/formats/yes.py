"""Corpora in the Yes.com format.

The format is described at https://www.cs.cornell.edu/~shuochen/lme/data_page.html.
"""

import html
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path
from reprlib import repr as shorten

from services.recommender.catalogue import Catalogue, Song
from services.recommender.formats.problems import CorpusError, Kind, Problem, Report, refuse_errors
from services.recommender.formats.songs import check_song
from services.recommender.formats.text import Lines, parse_number, tidy
from services.recommender.playlists import Corpus, Playlists, PlaylistsBuilder

PATTERNS = ("train.txt", "song_hash.txt")

_COUNTS_LINE = 2
_BACKSLASH = re.compile(r"\\(.?)")


def read_yes(path: Path, report: Report) -> Corpus:
    """Read a folder in the Yes.com format, or the one in which a file of it lies.

    `train.txt` and `song_hash.txt` are needed; `tags.txt` and `tag_hash.txt` are read when they
    are there. Playlists of fewer than two songs hold no transition and are left out. Rows of
    `song_hash.txt` whose id lies beyond the songs that `train.txt` counts are left out too.

    Raises:
        CorpusError: a file cannot be read, or `report` raises it.
    """
    folder = path if path.is_dir() else path.resolve().parent
    train = Lines(folder / "train.txt", report)
    lines = iter(train)
    counts = _counts(train, lines)
    catalogue = read_songs(folder, len(counts), report)
    return Corpus(folder.resolve().name, catalogue, _playlists(train, lines, counts, catalogue))


def read_songs(folder: Path, count: int | None = None, report: Report = refuse_errors) -> Catalogue:
    """Read the songs of a folder in the Yes.com format, with their tags when those are there.

    Args:
        folder: Where `song_hash.txt` lies.
        count: How many songs the playlists count; rows with ids from `count` on are left out.
            None: one more than the highest id.
        report: Told each problem.

    Raises:
        CorpusError: a file cannot be read, or `report` raises it.
    """
    lines = Lines(folder / "song_hash.txt", report)
    songs: dict[int, Song] = {}
    for line in lines:
        song = _song(line, lines)
        if song is None:
            continue
        song_id = int(song.id)
        if song_id in songs:
            problem = f"song id {song_id} was given before; remove one of the two rows."
            lines.report(Kind.DUPLICATE, problem)
            continue
        if count is not None and song_id >= count:
            lines.report(Kind.EXTRA, f"song id {song_id} is beyond the {count} songs in train.txt.")
        songs[song_id] = song
    if not songs:
        problem = "holds no song; write one a line: id, title, artist."
        raise CorpusError(Problem(Kind.EMPTY, lines.path, None, problem))
    count = max(songs) + 1 if count is None else count
    tags = _tags(folder, count, report)
    return Catalogue.from_songs(
        replace(song, tags=tags.get(song_id, ()))
        for song_id, song in songs.items()
        if song_id < count
    )


def _counts(train: Lines, lines: Iterator[str]) -> list[int | None]:
    """How often each song appears, by the second line; the first has as many external ids."""
    header = [line.split() for line in islice(lines, _COUNTS_LINE)]
    if len(header) != train.number or train.number < _COUNTS_LINE:
        problem = (
            "lacks its first two lines; line 1 holds an external id for each song, line 2 how "
            "often each song appears."
        )
        raise CorpusError(Problem(Kind.SYNTAX, train.path, None, problem))
    external, counts = header
    if len(external) != len(counts):
        problem = (
            f"there are {len(counts)} counts here but {len(external)} ids on line 1; both lines "
            "need one entry for each song."
        )
        train.report(Kind.COUNT, problem)
    return [_number(train, "count", count) for count in counts]


def _playlists(
    train: Lines, lines: Iterator[str], counts: list[int | None], catalogue: Catalogue
) -> Playlists:
    positions = {catalogue.ids[position]: position for position in range(len(catalogue))}
    appearances: Counter[str] = Counter()
    playlists = PlaylistsBuilder()
    for line in lines:
        ids = line.split()
        appearances.update(ids)
        try:
            playlist = [positions[song_id] for song_id in ids]
        except KeyError:
            for song_id in dict.fromkeys(ids):
                if song_id not in positions:
                    _report_unknown(train, song_id, len(counts))
            continue
        if len(playlist) > 1:
            playlists.append(playlist)
        else:
            train.report(Kind.SHORT, f"the playlist has {len(playlist)} songs.")
    for number, count in enumerate(counts):
        found = appearances[str(number)]
        if count is not None and found != count:
            problem = (
                f"song id {number} should appear {count} times but appears {found} times in "
                "the playlists; the file is incomplete or was edited: fetch it again."
            )
            train.report(Kind.COUNT, problem, line=_COUNTS_LINE)
    return playlists.build()


def _report_unknown(train: Lines, song_id: str, songs: int) -> None:
    number = _number(train, "song id", song_id)
    if number is None:
        return
    if number >= songs:
        problem = f"song id {number} is out of range; lines 1 and 2 count {songs} songs, from 0 on."
    else:
        problem = f"song id {song_id} is not in song_hash.txt; add its row there."
    train.report(Kind.UNKNOWN, problem)


def _song(line: str, lines: Lines) -> Song | None:
    columns = line.split("\t")
    if len(columns) != 3:
        problem = (
            f"has {len(columns)} columns instead of 3; write the id, the title and the artist "
            "with a tab between them."
        )
        lines.report(Kind.SYNTAX, problem)
        return None
    number = _number(lines, "song id", columns[0].strip())
    if number is None:
        return None
    song = Song(str(number), _text(columns[1]), _text(columns[2]))
    try:
        check_song(song)
    except ValueError as error:
        lines.report(Kind.VALUE, str(error))
        return None
    return song


def _tags(folder: Path, count: int, report: Report) -> dict[int, tuple[str, ...]]:
    """The tags of songs by id, where there is a `tags.txt`."""
    lines = Lines(folder / "tags.txt", report)
    if not lines.path.exists():
        return {}
    names = _tag_names(Lines(folder / "tag_hash.txt", report))
    tags = {}
    for line in lines:
        ids = [] if line.strip() == "#" else line.split()
        tags[lines.number - 1] = tuple(
            name for tag in ids if (name := _tag(lines, names, tag)) is not None
        )
    if lines.number != count:
        problem = (
            f"has {lines.number} lines for {count} songs; line k + 1 holds the tags of song id k, "
            "'#' for none."
        )
        report(Problem(Kind.COUNT, lines.path, None, problem))
    return tags


def _tag(lines: Lines, names: dict[int, str], tag: str) -> str | None:
    number = _number(lines, "tag id", tag)
    if number is None:
        return None
    if number not in names:
        lines.report(Kind.UNKNOWN, f"tag id {tag} is not in tag_hash.txt; add its row there.")
    return names.get(number)


def _tag_names(lines: Lines) -> dict[int, str]:
    names: dict[int, str] = {}
    for line in lines:
        tag_id, comma, name = line.partition(",")
        if not comma:
            problem = "has no comma; write the tag's id, a comma, its name."
            lines.report(Kind.SYNTAX, problem)
            continue
        tag = _number(lines, "tag id", tag_id.strip())
        if tag in names:
            problem = f"tag id {tag} was given before; remove one of the two rows."
            lines.report(Kind.DUPLICATE, problem)
        elif tag is not None:
            names[tag] = name.strip()
    return names


def _text(field: str) -> str:
    r"""A title or artist without the JSON escapes (`\/`), HTML entities and stray spaces.

    The source cut some texts at a quotation mark, which left a backslash at the end.
    """
    plain = _BACKSLASH.sub(lambda escape: " " if escape[1] in "tnr" else escape[1], field)
    return tidy(html.unescape(plain))


def _number(lines: Lines, what: str, text: str) -> int | None:
    number = parse_number(text)
    if number is None:
        problem = f"{what} {shorten(text)} is not a number; write it as digits, from 0 on."
        lines.report(Kind.VALUE, problem)
    return number
