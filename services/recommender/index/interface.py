"""What an index is asked, what it answers, and what it promises."""

from abc import ABC, abstractmethod
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Vectors = NDArray[np.float32]
Mask = NDArray[np.bool_]

_LARGEST = 1e15
"""No number may be further from 0, so that no product overflows float32."""


class VectorIndexError(Exception):
    """An index cannot be used; the message says why and what to do."""


class IndexUnavailableError(VectorIndexError):
    """The server that holds the index does not answer; the same search may succeed later."""


class Neighbours(NamedTuple):
    """The best k vectors for each of q queries, best first.

    Attributes:
        positions: int64 (q, k): rows of the vectors, each at most once for a query; vectors with
            equal scores by position.
        scores: float32 (q, k): inner products of query and vector, non-increasing along a row.
    """

    positions: NDArray[np.int64]
    scores: NDArray[np.float32]


class VectorIndex(ABC):
    """Finds, among n vectors, those with the largest inner product with a query.

    For cosines, normalise the vectors and the queries.

    Several threads may search at a time. A search computes in the thread that calls it, and numpy
    and faiss release Python's lock meanwhile. Only numpy's BLAS may take more threads, as many as
    the process lets it have; a server that answers many should let it have one
    (`OPENBLAS_NUM_THREADS=1`).

    Args:
        vectors: float32 (n, d), n ≥ 1; may be mapped from disk. They are not copied, and must not
            change.

    Raises:
        ValueError: the vectors have another form, or hold numbers that are not finite or are
            larger than 1e15.

    Attributes:
        measured_recall: Share of the exact answers that were found in a trial; 1 if all of them
            always are.
    """

    measured_recall = 1.0

    def __init__(self, vectors: Vectors) -> None:
        if len(vectors) == 0:
            raise ValueError("there is no vector to search among")
        _check_matrix("the vectors", vectors)
        self._vectors = vectors

    def search(self, queries: Vectors, limit: int, allowed: Mask | None = None) -> Neighbours:
        """Find the best vectors for each query.

        Args:
            queries: float32 (q, d).
            limit: Most vectors for a query, at least 1.
            allowed: bool (n,): which vectors may be found; all of them when None.

        Returns:
            For each query the best k, where k is `limit`, or as many as are allowed if they are
            fewer: no answer is shorter or padded.

        Raises:
            ValueError: an argument has another form, or a query a number that is not finite.
            IndexUnavailableError: the index lies on a server that does not answer.
        """
        self._check(queries, limit, allowed)
        candidates = len(self._vectors) if allowed is None else int(np.count_nonzero(allowed))
        count = min(limit, candidates)
        if count == 0 or len(queries) == 0:
            shape = (len(queries), count)
            return Neighbours(np.empty(shape, np.int64), np.empty(shape, np.float32))
        return self._search(queries, count, None if candidates == len(self._vectors) else allowed)

    @abstractmethod
    def close(self) -> None:
        """Release what the index holds; no search may follow. May be called twice."""

    @abstractmethod
    def _search(self, queries: Vectors, count: int, allowed: Mask | None) -> Neighbours:
        """As `search`, for at least one query and 1 ≤ count ≤ how many are allowed."""

    def _check(self, queries: Vectors, limit: int, allowed: Mask | None) -> None:
        _check_matrix("the queries", queries)
        songs, dimensions = self._vectors.shape
        if queries.shape[1] != dimensions:
            raise ValueError(f"the queries have {queries.shape[1]} dimensions, not {dimensions}")
        if limit < 1:
            raise ValueError(f"the limit must be at least 1, not {limit}")
        if allowed is not None and (allowed.dtype != np.bool_ or allowed.shape != (songs,)):
            raise ValueError(f"allowed is {allowed.dtype} {allowed.shape}, not bool ({songs},)")


def _check_matrix(name: str, matrix: Vectors) -> None:
    if matrix.ndim != 2 or matrix.dtype != np.float32 or matrix.shape[1] == 0:
        raise ValueError(f"{name} are {matrix.dtype} {matrix.shape}, not float32 (rows, columns)")
    # A comparison with NaN is false.
    if len(matrix) and not (matrix.min() >= -_LARGEST and matrix.max() <= _LARGEST):
        raise ValueError(f"{name} hold numbers that are not finite or beyond {_LARGEST:g}")
