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


@compiled_for(INTS, FLOATS, INTS, VECTORS)
def tastes(positions: Ints, shares: Floats, offsets: Ints, vectors: Vectors) -> Vectors:
    """Mean vector of each query's seeds, weighted by their shares, float32 (q, d)."""
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


@compiled_for(INT_ROWS, FLOAT_ROWS, VECTORS, VECTORS, FLOAT)
def blend(
    positions: Ints, evidence: Floats, taste: Vectors, outputs: Vectors, vector_share: float
) -> tuple[Floats, Floats]:
    """Score the songs at hand for each query.

    Args:
        positions: int64 (q, m), positions of songs, then -1 where there are fewer.
        evidence: float64 (q, m), what playlists say, in any unit.
        taste: float32 (q, d), mean input vectors of the seeds.
        outputs: float32 (n, d), output vectors of all songs.
        vector_share: Weight of the vectors, 0 to 1; where playlists say nothing it is 1.

    Returns:
        Scores, and the part of them that rests on playlists, float64 (q, m); the scores of a query
        add up to 1 unless evidence is negative, and are -inf where there is no song.
    """
    scores = np.full(positions.shape, -np.inf)
    parts = np.zeros(positions.shape)
    for query in range(len(positions)):
        count = 0
        while count < positions.shape[1] and positions[query, count] >= 0:
            count += 1
        if count == 0:
            continue
        total = np.abs(evidence[query, :count]).sum()
        share = vector_share if total > 0.0 else 1.0
        if total > 0.0:
            parts[query, :count] = (1.0 - share) * evidence[query, :count] / total
        logits = np.empty(count)
        for row in range(count):
            logits[row] = _dot(outputs[positions[query, row]], taste[query])
        likely = np.exp(logits - logits.max())
        scores[query, :count] = parts[query, :count] + share * likely / likely.sum()
    return scores, parts


@compiled_for(FLOAT_ROWS, INT)
def best(scores: Floats, limit: int) -> Ints:
    """Columns of the highest scores of each row, int64 (q, limit); equal ones as they stand.

    Insertion into a short list beats a sort, as nearly all scores are not among the best.
    """
    order = np.empty((len(scores), limit), np.int64)
    for query in range(len(scores)):
        mine, row = order[query], scores[query]
        for column in range(len(row)):
            if column >= limit and row[column] <= row[mine[limit - 1]]:
                continue
            slot = min(column, limit - 1)
            while slot > 0 and row[mine[slot - 1]] < row[column]:
                mine[slot] = mine[slot - 1]
                slot -= 1
            mine[slot] = column
    return order
