"""Corpora in CSV: one row a play.

The first line names the columns, in any order: `playlist_id`, `position`, `song_id`, `title` and
`artist`, and where there are any `tags`, with `;` between them, and `year`. Others are ignored.
"""

import csv
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from operator import itemgetter
from pathlib import Path
from reprlib import repr as shorten

from services.recommender.catalogue import Song
from services.recommender.formats.plays import PlayTable
from services.recommender.formats.problems import Kind, Report
from services.recommender.formats.songs import Facts, SongTable
from services.recommender.formats.text import Lines, parse_number, tidy
from services.recommender.playlists import Corpus

PATTERNS = ("*.csv",)

_PLACE = ("playlist_id", "position", "song_id")
_FACTS = ("title", "artist", "tags", "year")
_NEEDED = (*_PLACE, "title", "artist")
_LAST_YEAR = 9999


@dataclass(frozen=True, slots=True)
class _Columns:
    """Where the columns of a file stand, by name; after the last one where there is none."""

    width: int
    place: Callable[[Sequence[str]], tuple[str, ...]]
    facts: Callable[[Sequence[str]], tuple[str, ...]]

    @classmethod
    def of(cls, names: list[str]) -> "_Columns":
        at = {name: column for column, name in enumerate(names)}
        width = len(names)
        place = itemgetter(*(at[name] for name in _PLACE))
        return cls(width, place, itemgetter(*(at.get(name, width) for name in _FACTS)))


def read_csv(path: Path, report: Report) -> Corpus:
    """Read a CSV file, or all of a folder, in the order of their names, as one corpus.

    Rows may come in any order: playlists are ordered by their first row, the plays of each by
    `position`. A playlist may go on in another file. What a song's first row says of it is kept.

    Raises:
        CorpusError: a file cannot be read, or `report` raises it.
    """
    songs, plays = SongTable(_song), PlayTable(report)
    for file in sorted(path.glob(PATTERNS[0])) if path.is_dir() else [path]:
        plays.begin(file)
        _read_file(Lines(file, report), songs, plays)
    return Corpus(path.resolve().name, songs.catalogue(), plays.playlists())


def _read_file(lines: Lines, songs: SongTable, plays: PlayTable) -> None:
    rows = _rows(lines)
    columns = _columns(lines, next(rows, None))
    if columns is None:
        return
    for row in rows:
        if len(row) != columns.width:
            problem = f"has {len(row)} fields instead of {columns.width}, as line 1 names them."
            lines.report(Kind.SYNTAX, problem)
            continue
        row.append("")
        _read_play(row, columns, lines, songs, plays)


def _read_play(
    row: list[str], columns: _Columns, lines: Lines, songs: SongTable, plays: PlayTable
) -> None:
    playlist_id, digits, song_id = map(str.strip, columns.place(row))
    position = parse_number(digits)
    if position is None:
        problem = f"position {shorten(digits)} is not a number; write it as digits, from 0 on."
        lines.report(Kind.VALUE, problem)
    elif not playlist_id:
        lines.report(Kind.VALUE, "the playlist id is empty; give each playlist an id of its own.")
    else:
        song = songs.position(song_id, columns.facts(row), lines.report)
        if song is not None:
            plays.append(playlist_id, position, song, lines.number)


def _rows(lines: Lines) -> Iterator[list[str]]:
    """The rows that are not empty; those that break the rules of CSV are reported and left out."""
    reader = csv.reader(lines, strict=True)
    while True:
        begin = lines.number + 1
        try:
            row = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            problem = f"the row that begins here breaks the rules of CSV: {error}."
            lines.report(Kind.SYNTAX, problem, line=begin)
        else:
            if row:
                yield row


def _columns(lines: Lines, header: list[str] | None) -> _Columns | None:
    names = [name.strip() for name in header or ()]
    missing = [name for name in _NEEDED if name not in names]
    if missing:
        problem = f"lacks the columns {', '.join(missing)}; name them on line 1, separated by ','."
        lines.report(Kind.SYNTAX, problem, line=1)
        return None
    for name in (*_NEEDED, *_FACTS):
        if names.count(name) > 1:
            lines.report(Kind.DUPLICATE, f"names the column {name} twice; remove one of the two.")
            return None
    return _Columns.of(names)


def _song(song_id: str, facts: Facts) -> Song:
    title, artist, tags, year = facts
    return Song(
        song_id,
        tidy(title),
        tidy(artist),
        tuple(dict.fromkeys(tag for tag in map(tidy, tags.split(";")) if tag)),
        _year(year.strip()),
    )


def _year(text: str) -> int | None:
    if not text:
        return None
    year = parse_number(text)
    if year is None or year > _LAST_YEAR:
        raise ValueError(f"year {shorten(text)} is not a year; write four digits or nothing.")
    return year
