"""Text files read line by line, and the values in them."""

import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from reprlib import repr as shorten

from services.recommender.formats.problems import CorpusError, Kind, Problem, Report

MAX_ID = 200
"""Longest id, in characters: the contract takes no longer ones."""

MAX_TEXT = 10_000
"""Longest title or artist, in characters. No song has one; a damaged file does."""

_MAX_LINE = 2**26
_NUMBER = re.compile(r"[0-9]{1,9}")
_CONTROL = re.compile(r"[\x00-\x1f]")
_CONTROL_IN_LINE = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f]")


class Lines:
    """Iterates over the lines of a UTF-8 file, with their ends; a byte order mark is passed over.

    A line that is not text is reported and left out.

    Attributes:
        number: Of the line given last, from 1.

    Raises:
        CorpusError: on iteration, when the file cannot be read.
    """

    def __init__(self, path: Path, report: Report) -> None:
        self.path = path
        self.number = 0
        self._report = report

    def __iter__(self) -> Iterator[str]:
        try:
            with self.path.open("rb") as stream:
                for line in iter(partial(stream.readline, _MAX_LINE), b""):
                    self.number += 1
                    text = self._decode(line)
                    if text is not None:
                        yield text
                    if not line.endswith(b"\n"):
                        self.report(Kind.OPEN, "has no line end; see whether the file is whole.")
        except OSError as error:
            raise unreadable(self.path, error) from None

    def report(self, kind: Kind, problem: str, line: int | None = None) -> None:
        """Tell a problem of the line given last, or of another."""
        self._report(Problem(kind, self.path, line or self.number, problem))

    def _decode(self, line: bytes) -> str | None:
        if len(line) == _MAX_LINE:
            problem = f"is longer than {_MAX_LINE:,} bytes; break it up."
            raise CorpusError(Problem(Kind.TEXT, self.path, self.number, problem))
        try:
            text = line.decode("utf-8-sig" if self.number == 1 else "utf-8")
        except UnicodeDecodeError:
            self.report(Kind.TEXT, "is not valid UTF-8; save the file as UTF-8.")
            return None
        if control := _CONTROL_IN_LINE.search(text):
            problem = f"holds the control character {control[0]!r}; remove it or fetch it again."
            self.report(Kind.TEXT, problem)
            return None
        return text


def unreadable(path: Path, error: OSError) -> CorpusError:
    """What to raise when a file or folder cannot be opened or read."""
    if isinstance(error, FileNotFoundError):
        problem = (
            f"there is no such file in {path.parent}; give the folder or file of a corpus, or "
            "fetch one with `segue data download`."
        )
    else:
        problem = f"cannot be read: {error.strerror}; check {path} and its rights."
    return CorpusError(Problem(Kind.FILE, path, None, problem))


def parse_number(text: str) -> int | None:
    """The number that digits stand for, or None; no number in a corpus has ten of them."""
    return int(text) if _NUMBER.fullmatch(text) else None


def tidy(text: str) -> str:
    """The text without control characters, line breaks, stray spaces and spaces in a row."""
    return " ".join(_CONTROL.sub(" ", text).split())


def check_id(song_id: str) -> None:
    """Raise ValueError, with what to do, when no request could name a song by this id."""
    if not 1 <= len(song_id) <= MAX_ID:
        length = f"has {len(song_id):,} characters" if song_id else "is empty"
        raise ValueError(f"a song id {length}; give it 1 to {MAX_ID}.")
    if _CONTROL.search(song_id):
        raise ValueError(f"song id {shorten(song_id)} holds a control character; remove it.")


def check_length(text: str) -> None:
    """Raise ValueError, with what to do, when a title, artist or tag is longer than any is."""
    if len(text) > MAX_TEXT:
        raise ValueError(
            f"the title, artist or tag {shorten(text)} has {len(text):,} characters of at most "
            f"{MAX_TEXT:,}; shorten it."
        )
