"""How the evidence of playlists and of vectors becomes one score.

Each is turned into shares of the songs at hand that add up to 1, and a score is their weighted
mean. So a score is an estimate of how likely the song comes next, among those songs, and its parts
can be told.
"""

import numpy as np
from numba import njit
from numpy.typing import NDArray

from services.recommender.compiled import (
    FLOAT,
    FLOAT_ROWS,
    FLOATS,
    INT,
    INT_ROWS,
    INTS,
    VECTORS,
    compiled,
    compiled_for,
)

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Vectors = NDArray[np.float32]


@compiled_for(FLOATS, INTS, FLOAT)
def seed_shares(weights: Floats, offsets: Ints, recency: float) -> Floats:
    """What each seed counts in its query, by weight and age; absolute values add up to 1.

    Args:
        weights: float64 (s,), query after query, in each the latest last.
        offsets: int64 (q + 1,), where each query begins and ends.
        recency: What a seed counts, compared with the one played after it.

    Returns:
        float64 (s,).
    """
    shares = np.empty(len(weights))
    for query in range(len(offsets) - 1):
        begin, end = offsets[query], offsets[query + 1]
        total, fading = 0.0, 1.0
        for row in range(end - 1, begin - 1, -1):
            shares[row] = weights[row] * fading
            total += abs(shares[row])
            fading *= recency
        shares[begin:end] /= total
    return shares


@compiled_for(INTS, FLOATS, INTS, FLOAT, VECTORS)
def tastes(
    positions: Ints, weights: Floats, offsets: Ints, recency: float, vectors: Vectors
) -> Vectors:
    """Mean vector of each query's seeds, weighted by their `seed_shares`, float32 (q, d)."""
    shares = seed_shares(weights, offsets, recency)
    result = np.zeros((len(offsets) - 1, vectors.shape[1]), np.float32)
    for query in range(len(offsets) - 1):
        for seed in range(offsets[query], offsets[query + 1]):
            for k in range(vectors.shape[1]):
                result[query, k] += np.float32(shares[seed]) * vectors[positions[seed], k]
    return result


# Here the order of additions may change, so that they run side by side; it is the same each time.
@njit(cache=True, nogil=True, fastmath=True)
def _dot(one: Vectors, other: Vectors) -> float:
    total = np.float32(0.0)
    for k in range(len(one)):
        total += one[k] * other[k]
    return float(total)


@compiled
def _score(
    positions: Ints, evidence: Floats, taste: Vectors, outputs: Vectors, vector_share: float
) -> tuple[Floats, Floats]:
    """Scores of one query's songs, and the part of them that rests on playlists."""
    parts = np.zeros(len(positions))
    total = np.abs(evidence).sum()
    share = vector_share if total > 0.0 else 1.0
    if total > 0.0:
        parts[:] = (1.0 - share) * evidence / total
    likely = np.empty(len(positions))
    for row in range(len(positions)):
        likely[row] = _dot(outputs[positions[row]], taste)
    likely = np.exp(likely - likely.max())
    return parts + share * likely / likely.sum(), parts


@compiled
def _best(positions: Ints, scores: Floats, limit: int) -> Ints:
    """Rows of the highest scores, best first, at most `limit`; equal ones by position.

    Insertion into a short list beats a sort, as nearly all scores are not among the best.
    """
    order = np.empty(min(limit, len(scores)), np.int64)
    for row in range(len(scores)):
        slot = min(row, len(order))
        while slot > 0 and (
            scores[order[slot - 1]] < scores[row]
            or (
                scores[order[slot - 1]] == scores[row]
                and positions[order[slot - 1]] > positions[row]
            )
        ):
            slot -= 1
            if slot + 1 < len(order):
                order[slot + 1] = order[slot]
        if slot < len(order):
            order[slot] = row
    return order


@compiled_for(INT_ROWS, FLOAT_ROWS, INTS, VECTORS, VECTORS, FLOAT, INT)
def blend(
    positions: Ints,
    evidence: Floats,
    counts: Ints,
    taste: Vectors,
    outputs: Vectors,
    vector_share: float,
    limit: int,
) -> tuple[Ints, Floats, Floats]:
    """Score the songs at hand for each query, and choose the best.

    Args:
        positions: int64 (q, m), positions of songs.
        evidence: float64 (q, m), what playlists say, in any unit.
        counts: int64 (q,), how many of the m songs there are; those behind are no songs.
        taste: float32 (q, d), mean input vectors of the seeds.
        outputs: float32 (n, d), output vectors of all songs.
        vector_share: Weight of the vectors, 0 to 1; where playlists say nothing it is 1.
        limit: How many are chosen.

    Returns:
        Positions, int64 (q, limit), best first, equally good ones by position; their scores, and
        the part of them that rests on playlists, float64 (q, limit). Where there are fewer songs,
        what stands behind them means nothing. The scores of all songs of a query add up to 1
        unless evidence is negative.
    """
    best = np.empty((len(positions), limit), np.int64)
    best_scores, best_parts = np.empty(best.shape), np.empty(best.shape)
    for query in range(len(positions)):
        mine = positions[query, : counts[query]]
        if len(mine) == 0:
            continue
        scores, parts = _score(
            mine, evidence[query, : counts[query]], taste[query], outputs, vector_share
        )
        order = _best(mine, scores, limit)
        for row in range(len(order)):
            best[query, row] = mine[order[row]]
            best_scores[query, row] = scores[order[row]]
            best_parts[query, row] = parts[order[row]]
    return best, best_scores, best_parts
