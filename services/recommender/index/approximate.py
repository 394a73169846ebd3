"""What approximate indexes share: exact scores, and an exact answer where they find too little."""

import hashlib
from abc import abstractmethod

import numpy as np
from numpy.typing import NDArray

from services.recommender.index.exact import ExactIndex
from services.recommender.index.interface import Mask, Neighbours, VectorIndex, Vectors

_LEAST_SHARE = 1 / 20
"""Where fewer of the vectors are allowed, all of these are compared with the query.

Among so few an exact answer costs no more than an approximate one, which loses recall: the walk
over a graph meets few vectors that are allowed, and the lists that are probed hold few.
"""


class ApproximateIndex(VectorIndex):
    """An index that proposes candidates; their scores are computed here, from the vectors.

    So scores and the order of what was found are exact; only the choice is approximate. When the
    proposals for a query are too few, the query is answered exactly.
    """

    def __init__(self, vectors: Vectors) -> None:
        super().__init__(vectors)
        self._exact = ExactIndex(vectors)

    @abstractmethod
    def _candidates(self, queries: Vectors, count: int, allowed: Mask | None) -> NDArray[np.int64]:
        """Propose vectors for each query: int64 (q, at least `count`), each once in a row.

        Some may be missing, which is -1, and some may be not allowed: these are left out.
        """

    def _search(self, queries: Vectors, count: int, allowed: Mask | None) -> Neighbours:
        if allowed is not None and np.count_nonzero(allowed) < _LEAST_SHARE * len(allowed):
            return self._exact.search(queries, count, allowed)
        found = self._score(queries, self._candidates(queries, count, allowed), count, allowed)
        short = np.isneginf(found.scores[:, -1])
        if short.any():
            missing = self._exact.search(queries[short], count, allowed)
            found.positions[short], found.scores[short] = missing
        return found

    def _score(
        self, queries: Vectors, candidates: NDArray[np.int64], count: int, allowed: Mask | None
    ) -> Neighbours:
        """The best `count` of the candidates; where they are too few, the last scores are -inf."""
        usable = candidates >= 0
        if allowed is not None:
            usable &= allowed[candidates]
        scores = np.einsum("qd,qcd->qc", queries, self._vectors[candidates])
        scores[~usable] = -np.inf
        order = np.lexsort((candidates, -scores), axis=1)[:, :count]
        return Neighbours(
            np.take_along_axis(candidates, order, axis=1), np.take_along_axis(scores, order, axis=1)
        )


def fingerprint(vectors: Vectors, *settings: str) -> str:
    """A name for what an index is built from: 32 hexadecimal digits."""
    digest = hashlib.sha256(repr((vectors.shape, settings)).encode())
    digest.update(np.ascontiguousarray(vectors).data)
    return digest.hexdigest()[:32]
