"""All that is wrong with a corpus, and what it holds when nothing is."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from reprlib import repr as shorten

import numpy as np

from services.recommender.formats import read_corpus
from services.recommender.formats.problems import CorpusError, Kind, Problem
from services.recommender.model import CorpusStatistics
from services.recommender.playlists import Corpus


@dataclass(slots=True)
class Findings:
    """The problems of a corpus: how many of each kind, and the first few.

    Attributes:
        shown: How many of a kind are kept.
        counts: How many there are, by kind.
        examples: The first of them, by kind.
        statistics: What the corpus holds; None when it has an error.
    """

    shown: int
    counts: dict[Kind, int] = field(default_factory=dict)
    examples: dict[Kind, list[Problem]] = field(default_factory=dict)
    statistics: CorpusStatistics | None = None

    @property
    def sound(self) -> bool:
        """Whether there is no error; there may be warnings."""
        return not any(kind.is_error for kind in self.counts)

    def note(self, problem: Problem) -> None:
        """Count a problem."""
        kind = problem.kind
        self.counts[kind] = self.counts.get(kind, 0) + 1
        examples = self.examples.setdefault(kind, [])
        if len(examples) < self.shown:
            examples.append(problem)


def check_corpus(path: Path, shown: int) -> Findings:
    """Read a corpus to its end, as `read_corpus` does, and gather what is wrong with it.

    Args:
        path: A folder, or one file.
        shown: How many problems of a kind to keep; all are counted.
    """
    findings = Findings(shown)
    try:
        corpus = read_corpus(path, findings.note)
    except CorpusError as error:
        findings.note(error.problem)
    if findings.sound:
        for problem in _doubts(path, corpus):
            findings.note(problem)
        findings.statistics = CorpusStatistics(
            name=corpus.name,
            songs=len(corpus.catalogue),
            playlists=len(corpus.playlists),
            plays=len(corpus.playlists.songs),
        )
    return findings


def _doubts(path: Path, corpus: Corpus) -> Iterator[Problem]:
    """What is odd about the songs of a corpus that can be used."""
    plays = np.bincount(corpus.playlists.songs, minlength=len(corpus.catalogue))
    first_of: dict[tuple[str, str], str] = {}
    for position in range(len(corpus.catalogue)):
        song = corpus.catalogue[position]
        song_id = f"song id {shorten(song.id)}"
        if not plays[position]:
            yield Problem(Kind.UNPLAYED, path, None, f"{song_id} is in none of the playlists.")
        if not song.title or not song.artist:
            lacking = "artist" if song.title else "title"
            yield Problem(Kind.NAMELESS, path, None, f"{song_id} has no {lacking}.")
            continue
        first = first_of.setdefault((song.title.casefold(), song.artist.casefold()), song.id)
        if first != song.id:
            problem = f"{song_id} has the title and artist of {shorten(first)}."
            yield Problem(Kind.TWIN, path, None, problem)
