"""Which of the songs that fit are chosen, where an answer is to be varied."""

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


def choose(
    scores: Floats,
    artists: NDArray[np.int32],
    vectors: NDArray[np.float32],
    limit: int,
    max_per_artist: int | None,
    diversity: float,
) -> Ints:
    """Choose songs one after the other by maximal marginal relevance.

    The method is Carbonell and Goldstein's (1998). A song's relevance is its score as a part of the
    highest; it loses by its cosine with the most similar song that was chosen before. Songs of an
    artist who has enough are passed over.

    Args:
        scores: float64 (m,), non-increasing.
        artists: int32 (m,), a number for each artist; negative for an artist who is not known, and
            of whom there may be any number.
        vectors: float32 (m, d), of length 1.
        limit: Most songs to choose.
        max_per_artist: Most songs of one artist.
        diversity: How much likeness counts against relevance, 0 to 1.

    Returns:
        int64, the rows that were chosen, ascending.
    """
    allowed = np.ones(len(scores), np.bool_)
    if diversity == 0.0:
        if max_per_artist is not None:
            allowed = (artists < 0) | (_earlier_of_same(artists) < max_per_artist)
        return np.flatnonzero(allowed)[:limit]
    relevance = (
        (1 - diversity) * scores / max(np.abs(scores).max(initial=0.0), np.finfo(float).tiny)
    )
    likeness = np.full(len(scores), -1.0)
    chosen: list[int] = []
    while len(chosen) < limit and allowed.any():
        worth = np.where(allowed, relevance - diversity * likeness, -np.inf)
        best = int(np.argmax(worth))
        chosen.append(best)
        allowed[best] = False
        likeness = np.maximum(likeness, vectors @ vectors[best])
        artist = artists[best]
        if max_per_artist is not None and artist >= 0:
            same = artists == artist
            if np.count_nonzero(same[chosen]) >= max_per_artist:
                allowed &= ~same
    return np.sort(np.array(chosen, np.int64))


def _earlier_of_same(groups: NDArray[np.int32]) -> Ints:
    """How many earlier rows are of the same group, for each row."""
    order = np.argsort(groups, kind="stable")
    starts = np.flatnonzero(np.diff(groups[order], prepend=groups.min(initial=0) - 1))
    counts = np.arange(len(groups)) - np.repeat(starts, np.diff(starts, append=len(groups)))
    earlier = np.empty(len(groups), np.int64)
    earlier[order] = counts
    return earlier
