"""Malformed corpora of all formats: each is refused with its file, and its line where it has one.

A reader may neither fall over nor pass over what it cannot read.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from services.recommender.formats import CorpusError, read_corpus
from services.recommender.formats.problems import Problem
from tests.unit.recommender.format_suite import (
    PLAYLISTS,
    csv_files,
    mpd_files,
    write,
    yes_files,
)

Contents = dict[str, bytes]

TAGS = {"tags.txt": "0 1\n#\n1\n#\n", "tag_hash.txt": "0, metal\n1, slow\n"}


def encoded(files: dict[str, str]) -> Contents:
    return {name: text.encode() for name, text in files.items()}


YES = encoded(yes_files(PLAYLISTS) | TAGS)
CSV = encoded(csv_files(PLAYLISTS))
MPD = encoded(mpd_files(PLAYLISTS))

TRAIN, SONGS, PLAYS, SLICE = "train.txt", "song_hash.txt", "plays.csv", "mpd.slice.0-999.json"
HUGE = 30_000_000


@dataclass(frozen=True)
class Case:
    """Files of which one is malformed, and where the error is looked for."""

    name: str
    files: Contents
    file: str
    line: int | None


def edited(base: Contents, file: str, line: int | None, old: bytes, new: bytes) -> Case:
    """A corpus with the first `old` replaced."""
    assert old in base[file]
    name = f"{file} {old[:24]!r} to {new[:24]!r}"
    return Case(name, base | {file: base[file].replace(old, new, 1)}, file, line)


def whole(base: Contents, file: str, line: int | None, name: str, content: bytes) -> Case:
    """A corpus with another content of a file."""
    return Case(f"{file} {name}", base | {file: content}, file, line)


def yes_cases() -> Iterator[Case]:
    train = YES[TRAIN].splitlines(keepends=True)
    for count in (0, 1):
        yield whole(YES, TRAIN, None, f"cut to {count} lines", b"".join(train[:count]))
    for count in (2, 3, 4, 5):
        yield whole(YES, TRAIN, 2, f"cut to {count} lines", b"".join(train[:count]))
    yield whole(YES, TRAIN, 2, "cut in the counts", YES[TRAIN][:12])
    yield whole(YES, TRAIN, 2, "cut in a playlist", YES[TRAIN][:-4])
    yield whole(YES, TRAIN, 2, "with a playlist twice", YES[TRAIN] + train[-1])
    yield whole(YES, TRAIN, None, "of old Macs", YES[TRAIN].replace(b"\n", b"\r"))
    yield whole(YES, TRAIN, 1, "in UTF-16", YES[TRAIN].decode().encode("utf-16"))
    yield whole(YES, TRAIN, 1, "of zeros", bytes(1000))
    yield whole(YES, TRAIN, 3, "of one huge number", b"".join(train[:2]) + b"1" * HUGE)
    yield whole(YES, TRAIN, 2, "of one huge playlist", b"".join(train[:2]) + b"1 " * 500_000)
    for old, new in (
        (b"2 0 1", b"2 0 one"),
        (b"2 0 1", b"2 0 -1"),
        (b"2 0 1", b"2 0 1.0"),
        (b"2 0 1", b"2 0 +1"),
        (b"2 0 1", b"2 0 01"),
        (b"2 0 1", b"2 0 4"),
        (b"2 0 1", b"2,0,1"),
        (b"2 0 1", b"2 0 \xd9\xa1"),
        (b"2 0 1", b"2 0 \xb9"),
        (b"2 0 1", b"2\x000 1"),
        (b"2 0 1 \n1", b"2 0 1 \x0b1"),
        (b"2 0 1", b"2 0 99999999999999999999"),
    ):
        yield edited(YES, TRAIN, 3, old, new)
    yield edited(YES, TRAIN, 2, b"2 2 2 3", b"2 2 2")
    yield edited(YES, TRAIN, 2, b"2 2 2 3", b"2 2 2 3 0")
    yield edited(YES, TRAIN, 2, b"2 2 2 3", b"2 2 2 x")
    yield edited(YES, TRAIN, 2, b"2 2 2 3", b"2 2 2 1e9")
    yield edited(YES, TRAIN, 2, b"2 2 2 3", b"3 2 2 3")
    yield edited(YES, TRAIN, 2, b"0 1 2 3 \n", b"0 1 2 \n")
    yield whole(YES, SONGS, None, "empty", b"")
    yield whole(YES, SONGS, 1, "of a newline", b"\n")
    yield whole(YES, SONGS, 4, "cut in a row", YES[SONGS][:-10])
    yield whole(YES, SONGS, 1, "with commas", YES[SONGS].replace(b"\t", b","))
    yield whole(YES, SONGS, 5, "with an empty line", YES[SONGS] + b"\n")
    yield whole(YES, SONGS, 1, "in Latin-1", YES[SONGS].decode().encode("latin-1"))
    yield whole(YES, SONGS, 1, "of old Macs", YES[SONGS].replace(b"\n", b"\r"))
    yield whole(YES, SONGS, 1, "of one huge line", b"x" * HUGE)
    yield whole(YES, SONGS, 5, "with a huge title", YES[SONGS] + b"4\t" + b"x" * HUGE + b"\ty\n")
    for old, new in (
        (b"1 \t", b"0 \t"),
        (b"1 \t", b"one\t"),
        (b"1 \t", b"\t"),
        (b"1 \t", b"1"),
        (b"1 \t", b"\x00\t"),
        (b"1 \t", b"1 \t\t"),
        (b"lo 1", b"lo \x001"),
        (b"lo 1", b"lo \x1b[31m"),
        (b"lo 1", b"lo \xff"),
        (b"lo 1", b"lo \xed\xa0\x80"),
    ):
        yield edited(YES, SONGS, 2, old, new)
    yield edited(YES, "tags.txt", 1, b"0 1", b"0 x")
    yield edited(YES, "tags.txt", 1, b"0 1", b"0 2")
    yield edited(YES, "tags.txt", 1, b"0 1", b"0 \xff")
    yield edited(YES, "tags.txt", 2, b"#", b"##")
    yield edited(YES, "tags.txt", None, b"#\n", b"")
    yield whole(YES, "tags.txt", None, "empty", b"")
    yield edited(YES, "tag_hash.txt", 2, b"1, slow", b"0, slow")
    yield edited(YES, "tag_hash.txt", 2, b"1, slow", b"slow")
    yield edited(YES, "tag_hash.txt", 2, b"1, slow", b"one, slow")
    yield edited(YES, "tag_hash.txt", 2, b"1, slow", b"1, sl\x00w")
    yield Case("tag_hash.txt empty", YES | {"tag_hash.txt": b""}, "tags.txt", 1)


def csv_cases() -> Iterator[Case]:
    header = CSV[PLAYS].splitlines(keepends=True)[0]
    rows = CSV[PLAYS].removeprefix(header)
    yield whole(CSV, PLAYS, 1, "empty", b"")
    yield whole(CSV, PLAYS, 1, "of newlines", b"\n\n")
    yield whole(CSV, PLAYS, 1, "without a header", rows)
    yield whole(CSV, PLAYS, 1, "with semicolons", CSV[PLAYS].replace(b",", b";"))
    yield whole(CSV, PLAYS, 1, "in UTF-16", CSV[PLAYS].decode().encode("utf-16"))
    yield whole(CSV, PLAYS, 2, "in Latin-1", CSV[PLAYS].decode().encode("latin-1"))
    yield whole(CSV, PLAYS, 1, "of old Macs", CSV[PLAYS].replace(b"\n", b"\r"))
    yield whole(CSV, PLAYS, 1, "of zeros", bytes(1000))
    yield whole(CSV, PLAYS, 10, "cut in a row", CSV[PLAYS][:-20])
    yield whole(CSV, PLAYS, 10, "cut in a quotation", CSV[PLAYS][:-10] + b',"')
    yield whole(CSV, PLAYS, 11, "with a row of one field", CSV[PLAYS] + b"\x20\n")
    yield whole(CSV, PLAYS, 11, "with a play twice", CSV[PLAYS] + rows.splitlines(True)[-1])
    yield whole(CSV, PLAYS, 11, "with a huge field", CSV[PLAYS] + b"p,9,0," + b"x" * HUGE)
    yield whole(CSV, PLAYS, 11, "with a huge row", CSV[PLAYS] + b"," * 1_000_000)
    yield whole(CSV, PLAYS, 1, "of one huge line", b"x" * HUGE)
    for column in (b"playlist_id", b"position", b"song_id", b"title", b"artist"):
        yield edited(CSV, PLAYS, 1, column, b"other")
        yield edited(CSV, PLAYS, 1, column, column.upper())
        yield edited(CSV, PLAYS, 1, header.strip(), header.strip() + b"," + column)
    for old, new in (
        (b"p0,1,", b"p0,one,"),
        (b"p0,1,", b"p0,,"),
        (b"p0,1,", b"p0,-1,"),
        (b"p0,1,", b"p0,1.0,"),
        (b"p0,1,", b"p0,1e0,"),
        (b"p0,1,", b"p0,0x1,"),
        (b"p0,1,", b"p0,\xd9\xa1,"),
        (b"p0,1,", b"p0,4294967296,"),
        (b"p0,1,", b"p0," + b"9" * 5000 + b","),
        (b"p0,1,", b"p0,0,"),
        (b"p0,1,", b",1,"),
        (b"p0,1,", b"p0 1,"),
        (b"p0,1,0,", b"p0,1,,"),
        (b"p0,1,0,", b"p0,1," + b"0" * 201 + b","),
        (b"lo 0", b"lo, 0"),
        (b"lo 0", b'lo 0,"'),
        (b",T\xc3\xadtulo 0", b',"T'),
        (b",T\xc3\xadtulo 0", b',"T"x'),
        (b"lo 0", b"lo \xff"),
        (b"lo 0", b"lo \x00"),
        (b"lo 0", b"lo \x0b"),
        (b"lo 0", b"lo \r0"),
        (b"lo 0", b"x" * 20_000),
    ):
        yield edited(CSV, PLAYS, 3, old, new)
    with_year = CSV[PLAYS].replace(b"artist\n", b"artist,year\n").replace(b"t 2\n", b"t 2,MCM\n", 1)
    yield whole(CSV, PLAYS, 2, "with a year in letters", with_year)
    yield Case("second of two files", CSV | {"q.csv": header + b"x\n"}, "q.csv", 2)


def mpd_cases() -> Iterator[Case]:
    text = MPD[SLICE]
    yield whole(MPD, SLICE, 1, "empty", b"")
    for part in (1, 2, 3, 5, 8, 13, 21):
        lines = text.splitlines(keepends=True)[:part]
        yield whole(MPD, SLICE, part + 1, f"cut to {part} lines", b"".join(lines))
    yield whole(MPD, SLICE, text.count(b"\n"), "cut at the end", text[:-2])
    yield whole(MPD, SLICE, 1, "in UTF-16", text.decode().encode("utf-16"))
    yield whole(MPD, SLICE, 12, "in Latin-1", text.decode().encode("latin-1"))
    yield whole(MPD, SLICE, 1, "of zeros", bytes(1000))
    yield whole(MPD, SLICE, 1, "nested deeply", b"[" * 1_000_000)
    yield whole(MPD, SLICE, 1, "of one huge line", b"x" * HUGE)
    yield whole(MPD, SLICE, None, "of a huge string", json.dumps("x" * HUGE).encode())
    yield whole(MPD, SLICE, None, "of a list", b"[]")
    yield whole(MPD, SLICE, None, "of null", b"null")
    yield whole(MPD, SLICE, None, "without playlists", b'{"info": {}}')
    yield whole(MPD, SLICE, None, "of playlists by name", b'{"playlists": {"mine": []}}')
    yield whole(MPD, SLICE, None, "of playlists of nothing", b'{"playlists": [null]}')
    nested = b'"name": ' + b"[" * 1000 + b"]" * 1000
    yield edited(MPD, SLICE, 5, b'"name": "mine"', nested)
    for old, new in (
        (b'"pos": 0', b'"pos": "0"'),
        (b'"pos": 0', b'"pos": 0.5'),
        (b'"pos": 0', b'"pos": -1'),
        (b'"pos": 0', b'"pos": null'),
        (b'"pos": 0', b'"pos": [0]'),
        (b'"pos": 0', b'"pos": 99999999999999999999'),
        (b'"pos": 0', b'"pos": 1'),
        (b'"pos": 0', b'"position": 0'),
        (b'"track_uri": "2"', b'"track_uri": 2'),
        (b'"track_uri": "2"', b'"track_uri": ""'),
        (b'"track_uri": "2"', b'"track_uri": "\\u0000"'),
        (b'"track_uri": "2"', b'"track_uri": "' + b"2" * 201 + b'"'),
        (b'"track_name"', b'"title"'),
        (b'"track_name": "', b'"track_name": "' + b"x" * 20_000),
        (b'"artist_name"', b'"artist"'),
        (b'"tracks": [', b'"tracks": [7,'),
        (b'"tracks"', b'"songs"'),
        (b'"pid": 0', b'"pid": "0"'),
        (b'"pid": 0', b'"pid": 1'),
        (b'"num_tracks": 3', b'"num_tracks": 4'),
        (b'"num_tracks": 3', b'"num_tracks": "3"'),
    ):
        yield edited(MPD, SLICE, None, old, new)
    for old, new in (
        (b'"pid": 0,', b'"pid": 0'),
        (b'"pid": 0,', b'"pid": 0,,'),
        (b'"pid": 0,', b"'pid': 0,"),
        (b'"pid": 0,', b'"pid" 0,'),
    ):
        yield edited(MPD, SLICE, 7 if new == b'"pid": 0' else 6, old, new)
    for old, new in (
        (b'"pos": 0', b'"pos": NaN'),
        (b'"pos": 0', b'"pos": 00'),
    ):
        yield edited(MPD, SLICE, 10, old, new)
    yield edited(MPD, SLICE, 11, b'"track_uri": "2"', b'"track_uri": "\x00"')
    yield edited(MPD, SLICE, 11, b'"track_uri": "2"', b'"track_uri": "\\ud800"')
    later = {"mpd.slice.1000-1999.json": text[:-40]}
    yield Case("second of two slices", MPD | later, "mpd.slice.1000-1999.json", None)


CASES = [*yes_cases(), *csv_cases(), *mpd_cases()]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_it_is_refused_with_file_and_line_as_a_check_finds_it(case: Case, tmp_path: Path) -> None:
    write(tmp_path, case.files)
    with pytest.raises(CorpusError) as caught:
        read_corpus(tmp_path)
    problem = caught.value.problem
    assert problem.path.name == case.file
    assert problem.line == case.line or case.line is None
    place = case.file if problem.line is None else f"{case.file}:{problem.line}"
    assert str(caught.value).startswith(f"{place}: ")
    assert len(str(caught.value)) < 400
    assert str(caught.value).isprintable()
    assert first_error(tmp_path) == problem


def first_error(folder: Path) -> Problem:
    """The first that is found when all are looked for."""
    found: list[Problem] = []
    try:
        read_corpus(folder, found.append)
    except CorpusError as error:
        found.append(error.problem)
    return next(problem for problem in found if problem.kind.is_error)
