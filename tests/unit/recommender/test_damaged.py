"""Files cut at every byte and with every bit flipped: refused, or read with every play in place."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from services.recommender.formats import CorpusError, read_corpus
from tests.unit.recommender.format_suite import (
    csv_files,
    mpd_files,
    playlists_of,
    write,
    yes_files,
)

PLAYLISTS = [["1", "0"], ["0", "1", "2"]]
YES = yes_files(PLAYLISTS) | {"tags.txt": "0\n#\n0\n", "tag_hash.txt": "0, a\n"}
SLICE = "mpd.slice.0-1.json"


def flipped(data: bytes, *, where: bytes) -> Iterator[bytes]:
    """The data with each bit flipped of each byte that is one of those."""
    for place, byte in enumerate(data):
        if byte in where:
            for bit in range(8):
                yield data[:place] + bytes([byte ^ 1 << bit]) + data[place + 1 :]


def cut(data: bytes) -> Iterator[bytes]:
    return (data[:length] for length in range(len(data)))


def outcomes(folder: Path, file: str, contents: Iterator[bytes]) -> list[list[list[str]] | None]:
    """The playlists that are read for each content of a file; None where it is refused."""
    read: list[list[list[str]] | None] = []
    for content in contents:
        (folder / file).write_bytes(content)
        try:
            read.append(playlists_of(read_corpus(folder)))
        except CorpusError:
            read.append(None)
    return read


def check(read: list[list[list[str]] | None]) -> None:
    assert None in read
    assert all(playlists in (None, PLAYLISTS) for playlists in read)


@pytest.mark.parametrize("file", YES)
def test_yes_cut_anywhere(tmp_path: Path, file: str) -> None:
    write(tmp_path, YES)
    check(outcomes(tmp_path, file, cut(YES[file].encode())))


@pytest.mark.parametrize("file", YES)
def test_yes_with_any_bit_flipped(tmp_path: Path, file: str) -> None:
    write(tmp_path, YES)
    check(outcomes(tmp_path, file, flipped(YES[file].encode(), where=bytes(range(256)))))


def small_slice() -> bytes:
    content = json.loads(next(iter(mpd_files(PLAYLISTS).values())))
    for playlist in content["playlists"]:
        del playlist["name"]
        for track in playlist["tracks"]:
            del track["duration_ms"]
    return json.dumps({"playlists": content["playlists"]}).encode()


def test_mpd_cut_anywhere(tmp_path: Path) -> None:
    read = outcomes(tmp_path, SLICE, cut(small_slice()))
    assert read == [None] * len(read)


def test_mpd_with_any_bit_flipped_of_what_gives_it_structure(tmp_path: Path) -> None:
    check(outcomes(tmp_path, SLICE, flipped(small_slice(), where=b'{}[],:"')))


def test_csv_cut_anywhere_within_a_row(tmp_path: Path) -> None:
    """Cut between two rows it is a shorter file, of which nothing tells that there was more."""
    data = csv_files(PLAYLISTS)["plays.csv"].encode()
    for content, playlists in zip(
        cut(data), outcomes(tmp_path, "plays.csv", cut(data)), strict=True
    ):
        if playlists is not None and not content.endswith(b"\n"):
            plays = sum(map(len, playlists))
            begun = content.count(b"\n")
            # The row that is the first of a playlist makes none by itself.
            assert plays in (begun, begun - 1)


def test_csv_with_any_bit_flipped_of_what_gives_it_structure(tmp_path: Path) -> None:
    data = csv_files(PLAYLISTS)["plays.csv"].encode()
    header, rows = data[: data.index(b"\n")], data[data.index(b"\n") :]
    check(outcomes(tmp_path, "plays.csv", (header + r for r in flipped(rows, where=b",\n"))))
