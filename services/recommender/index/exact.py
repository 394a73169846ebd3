"""The exact index: every vector is compared with the query."""

import numpy as np
from numpy.typing import NDArray

from services.recommender.index.interface import Mask, Neighbours, VectorIndex, Vectors

_PRODUCTS_AT_ONCE = 2**25
"""Queries are taken together as long as their products fit in 128 MB."""

_GATHERED_SHARE = 1 / 8
"""Up to this share of the vectors, copying those that are allowed beats comparing them all."""


class ExactIndex(VectorIndex):
    """Finds the best vectors by one matrix product; nothing is built, kept or held open."""

    def close(self) -> None:
        """Do nothing: the vectors are the caller's."""

    def _search(self, queries: Vectors, count: int, allowed: Mask | None) -> Neighbours:
        rows = None if allowed is None else np.flatnonzero(allowed)
        matrix = self._vectors
        gathered = rows is not None and len(rows) <= _GATHERED_SHARE * len(matrix)
        if gathered:
            matrix = matrix[rows]
        positions = np.empty((len(queries), count), np.int64)
        scores = np.empty((len(queries), count), np.float32)
        step = max(1, _PRODUCTS_AT_ONCE // len(matrix))
        for begin in range(0, len(queries), step):
            products = queries[begin : begin + step] @ matrix.T
            if rows is not None and not gathered:
                products = products[:, rows]
            for query, row in enumerate(products, begin):
                positions[query] = best(row, count)
                scores[query] = row[positions[query]]
        return Neighbours(positions if rows is None else rows[positions], scores)


def best(scores: NDArray[np.floating], count: int) -> NDArray[np.int64]:
    """Positions of the largest scores, best first and equal scores by position; int64 (count,).

    Nothing but the answer is sorted.

    Args:
        scores: (n,), without NaN.
        count: 1 to n.
    """
    least = np.partition(scores, -count)[-count]
    above = np.flatnonzero(scores > least)
    level = np.flatnonzero(scores == least)[: count - len(above)]
    chosen = np.concatenate((above, level))
    return chosen[np.argsort(-scores[chosen], kind="stable")]
