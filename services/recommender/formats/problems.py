"""What can be wrong with a corpus, and who is told.

A reader tells each problem to a `Report`, and goes on without the row if that returns. So training,
which refuses the first error, and `segue data check`, which lists them all, read with one parser.
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path


class Kind(StrEnum):
    """Kinds of problem. The errors come first; a corpus with warnings alone is used as it is."""

    FILE = "files that are missing or cannot be read"
    TEXT = "lines that are not text"
    SYNTAX = "rows and files that break the format"
    VALUE = "values that cannot be used"
    DUPLICATE = "ids or positions given twice"
    UNKNOWN = "songs or tags that are used but not described"
    COUNT = "counts that do not hold"
    EMPTY = "corpora with nothing to learn from"

    OPEN = "files whose last line does not end: they may be cut"
    CONFLICT = "songs described in two ways: the first is kept"
    SHORT = "playlists of fewer than two songs: left out"
    GAP = "positions that a playlist skips"
    EXTRA = "songs beyond those that are counted: left out"
    UNPLAYED = "songs that are never played"
    TWIN = "songs with the title and artist of another"
    NAMELESS = "songs without a title or an artist"

    @property
    def is_error(self) -> bool:
        """Whether a corpus with such a problem is refused."""
        return self not in _WARNINGS


_WARNINGS = frozenset(
    {
        Kind.OPEN,
        Kind.CONFLICT,
        Kind.SHORT,
        Kind.GAP,
        Kind.EXTRA,
        Kind.UNPLAYED,
        Kind.TWIN,
        Kind.NAMELESS,
    }
)


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong: in which file, on which line (from 1, None for all of it), what."""

    kind: Kind
    path: Path
    line: int | None
    text: str

    def __str__(self) -> str:
        place = self.path.name or str(self.path)
        return f"{place}: {self.text}" if self.line is None else f"{place}:{self.line}: {self.text}"


Report = Callable[[Problem], None]
"""Told each problem. If it raises, reading ends; if it returns, reading goes on without the row."""


class CorpusError(ValueError):
    """A corpus cannot be read; the message says which file and line, what is wrong, what to do."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(str(problem))
        self.problem = problem


def refuse_errors(problem: Problem) -> None:
    """Raise an error as `CorpusError`, and pass over a warning."""
    if problem.kind.is_error:
        raise CorpusError(problem)
