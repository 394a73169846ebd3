"""The formats that playlists come in; `read_corpus` finds out which."""

from collections.abc import Callable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from services.recommender.formats import csv, mpd, yes
from services.recommender.formats.problems import (
    CorpusError,
    Kind,
    Problem,
    Report,
    refuse_errors,
)
from services.recommender.formats.text import unreadable
from services.recommender.playlists import Corpus

__all__ = ["CorpusError", "read_corpus"]


@dataclass(frozen=True, slots=True)
class _Format:
    name: str
    patterns: tuple[str, ...]
    read: Callable[[Path, Report], Corpus]

    def has(self, file: str) -> bool:
        return any(fnmatchcase(file, pattern) for pattern in self.patterns)


_FORMATS = (
    _Format("Yes.com", yes.PATTERNS, yes.read_yes),
    _Format("CSV", csv.PATTERNS, csv.read_csv),
    _Format("Million Playlist Dataset", mpd.PATTERNS, mpd.read_mpd),
)


def read_corpus(path: Path, report: Report = refuse_errors) -> Corpus:
    """Read a corpus in whichever format it is, by the names of its files.

    - Yes.com: `train.txt` and `song_hash.txt`.
    - CSV: `*.csv`, a row a play.
    - Spotify Million Playlist Dataset: `mpd.slice.*.json`.

    Playlists keep the order of the files; those of fewer than two songs are left out.

    Args:
        path: A folder, or one file.
        report: Told each problem; by default the first error is raised.

    Raises:
        CorpusError: it is malformed; the message says where and what to do.
    """
    corpus = _format(path).read(path, report)
    if not len(corpus.playlists):
        problem = "there is no playlist of at least two songs; add some."
        raise CorpusError(Problem(Kind.EMPTY, path, None, problem))
    return corpus


def _format(path: Path) -> _Format:
    try:
        names = sorted(file.name for file in path.iterdir()) if path.is_dir() else [path.name]
    except OSError as error:
        raise unreadable(path, error) from None
    found = {format_: name for format_ in _FORMATS for name in names if format_.has(name)}
    if len(found) == 1:
        return next(iter(found))
    if found:
        files = " and ".join(f"{name} ({format_.name})" for format_, name in found.items())
        problem = f"holds files of several formats: {files}; give each a folder of its own."
    elif path.exists():
        known = ", ".join(f"{' and '.join(f.patterns)} ({f.name})" for f in _FORMATS)
        problem = f"holds no corpus; its files must be named {known}."
    else:
        raise unreadable(path, FileNotFoundError())
    raise CorpusError(Problem(Kind.FILE, path, None, problem))
