"""What is learnt from, and what is held out."""

import zlib
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from services.recommender.evaluation.errors import EvaluationError
from services.recommender.evaluation.ragged import lengths_of, take
from services.recommender.playlists import Corpus, Playlists

UNSEEN = -1
"""Stands in held-out playlists for a song that the training part never plays."""

_FOLDS = 10


class Part(StrEnum):
    """Which playlists are held out: for the report, or to choose settings by."""

    TEST = "test"
    VALIDATION = "validation"


_FOLD = {Part.TEST: 0, Part.VALIDATION: 1}


@dataclass(frozen=True, slots=True)
class Split:
    """A corpus in two parts, with one numbering of songs.

    Attributes:
        training: Its catalogue holds the songs that its playlists play, and no other.
        held_out: Playlists of positions in the training part's catalogue, or `UNSEEN`.
        part: Which ones are held out.
    """

    training: Corpus
    held_out: Playlists
    part: Part


def split(corpus: Corpus, part: Part) -> Split:
    """Hold a tenth of the playlists out.

    Of the playlists of at least two songs, numbered from 0 in their order, playlist n is a test
    playlist where `crc32(str(n)) % 10` is 0, a validation playlist where it is 1, and else a
    training playlist. So the parts do not change with the machine or with chance, and training
    sees neither of the other two.

    Raises:
        EvaluationError: no playlist is held out, or none is left to learn from.
    """
    playlists = take(corpus.playlists, np.flatnonzero(lengths_of(corpus.playlists) > 1))
    folds = np.array([zlib.crc32(str(n).encode()) % _FOLDS for n in range(len(playlists))])
    training = take(playlists, np.flatnonzero(folds >= len(Part)))
    held_out = take(playlists, np.flatnonzero(folds == _FOLD[part]))
    for name, chosen in (("training", training), (part, held_out)):
        if not len(chosen):
            raise EvaluationError(
                f"the {name} part of {corpus.name} is empty: about one playlist in ten is held "
                f"out, and there are {len(playlists)} of two songs or more; use a larger corpus"
            )
    seen = np.bincount(training.songs, minlength=len(corpus.catalogue)) > 0
    positions = np.where(seen, np.cumsum(seen) - 1, UNSEEN).astype(np.int32)
    catalogue = corpus.catalogue.take(np.flatnonzero(seen))
    return Split(
        Corpus(corpus.name, catalogue, Playlists(positions[training.songs], training.offsets)),
        Playlists(positions[held_out.songs], held_out.offsets),
        part,
    )
