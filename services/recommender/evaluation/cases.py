"""The questions that every model is asked: after these songs, which comes next?"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from services.recommender.columns import offsets_of, spans
from services.recommender.evaluation.errors import EvaluationError
from services.recommender.evaluation.ragged import Numbers, lengths_of
from services.recommender.evaluation.split import UNSEEN
from services.recommender.playlists import Playlists

LAST_PLACE = 50
"""The last place of a playlist, from 0, whose song is a target."""


@dataclass(frozen=True, slots=True)
class Cases:
    """n cases, playlist after playlist, in the order of play.

    Attributes:
        histories: The n histories, without the songs that training never saw; one may be empty.
        targets: The song that came next, int32 (n,).
        playlists: Number of the playlist that each is from, int64 (n,).
        places: The target's place in it, from 1, int64 (n,): so many songs were played before.
        repeats: Whether the target is in the history, bool (n,).
        unseen: How many cases there are not, because training never saw the target.
    """

    histories: Playlists
    targets: NDArray[np.int32]
    playlists: Numbers
    places: Numbers
    repeats: NDArray[np.bool]
    unseen: int

    def __len__(self) -> int:
        return len(self.targets)


def next_song_cases(held_out: Playlists) -> Cases:
    """Ask for every song of a playlist but the first, up to `LAST_PLACE`.

    Args:
        held_out: Playlists of positions, or `UNSEEN`.

    Raises:
        EvaluationError: every target would be unseen or repeated.
    """
    songs, begins = held_out.songs, held_out.offsets[:-1]
    counts = np.minimum(lengths_of(held_out) - 1, LAST_PLACE)
    playlists = np.repeat(np.arange(len(held_out)), counts)
    places = spans(np.ones_like(counts), counts)
    targets = songs[begins[playlists] + places]
    seen = targets != UNSEEN
    playlists, places, targets = playlists[seen], places[seen], targets[seen]

    history = songs[spans(begins[playlists], places)]
    owners = np.repeat(np.arange(len(targets)), places)
    repeats = np.bincount(owners[history == targets[owners]], minlength=len(targets)) > 0
    if repeats.all():
        raise EvaluationError(
            "no song is left to ask for: each was played before in its playlist, or training "
            "never saw it; use a larger corpus"
        )
    known = history != UNSEEN
    lengths = np.bincount(owners[known], minlength=len(targets))
    return Cases(
        histories=Playlists(history[known], offsets_of(lengths)),
        targets=targets,
        playlists=playlists,
        places=places,
        repeats=repeats,
        unseen=int(np.count_nonzero(~seen)),
    )
