"""How much of the exact answer an index finds."""

import numpy as np

from services.recommender.index.exact import ExactIndex
from services.recommender.index.interface import Mask, VectorIndex, Vectors

RECALL_AT = 10
"""How many of the best vectors are looked for."""

_ROUNDING = 1e-5
"""Error of a float32 product, relative to the vectors' lengths, by which a score may be less."""


def recall(
    index: VectorIndex, vectors: Vectors, queries: Vectors, allowed: Mask | None = None
) -> float:
    """Recall@10: the share of the 10 best vectors that an index finds, the mean over queries.

    A vector that was found counts when its score reaches that of the tenth best, as in
    ann-benchmarks (Aumüller, Bernhardsson and Faithfull, 2020).

    Args:
        index: The index, of `vectors`.
        vectors: float32 (n, d).
        queries: float32 (q, d), q ≥ 1.
        allowed: bool (n,), at least one of them; which vectors may be found.
    """
    best = ExactIndex(vectors).search(queries, RECALL_AT, allowed)
    lengths = np.linalg.norm(vectors[best.positions[:, -1]], axis=1)
    rounding = _ROUNDING * np.linalg.norm(queries, axis=1) * lengths
    least = best.scores[:, -1] - rounding
    found = index.search(queries, RECALL_AT, allowed)
    return float(np.mean(found.scores >= least[:, np.newaxis]))
