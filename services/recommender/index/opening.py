"""Open the index that a URI names, and see that it finds what it should."""

from pathlib import Path

import numpy as np

from services.recommender.index.exact import ExactIndex
from services.recommender.index.interface import VectorIndex, VectorIndexError, Vectors
from services.recommender.index.recall import RECALL_AT, recall
from services.recommender.index.uri import IndexURI, IndexURIError

EXACT = "exact://"
"""The index that needs nothing and misses nothing."""

_QUERIES = 200
_SEED = 1


class IndexRecallError(VectorIndexError):
    """An approximate index misses too much; the message says how much and what to change."""

    def __init__(self, uri: str, measured: float, least: float, among: str) -> None:
        super().__init__(
            f"{uri}: finds {measured:.1%} of the {RECALL_AT} best {among}, less than {least:.1%}; "
            "raise what a search looks at (nprobe, efSearch, k_factor_rf, hnsw_ef), "
            "choose a finer index, or use exact://"
        )
        self.measured = measured
        self.least = least


def open_index(
    uri: str,
    vectors: Vectors,
    *,
    least_recall: float = 0.95,
    cache: Path | None = None,
    queries: Vectors | None = None,
) -> VectorIndex:
    """Open an index of vectors; an approximate one is first compared with an exact search.

    Args:
        uri: `exact://`; `faiss://` and a factory string, such as `faiss://IVF1024,Flat?nprobe=64`;
            or `qdrant://host:port`. Search parameters follow a `?`: those of
            `faiss.ParameterSpace`, or Qdrant's `hnsw_ef`.
        vectors: float32 (n, d), n ≥ 1, as `VectorIndex` takes them.
        least_recall: Least recall@10, with and without a filter, on a sample of 200 queries.
        cache: Folder in which faiss indexes are kept once they are built, so that processes map
            one copy; None keeps them in memory.
        queries: float32 (m, d), m ≥ 1, to sample from: what will be asked, or things like it. By
            default the vectors themselves, whose answers may be easier or harder to find.

    Raises:
        IndexURIError: the URI is wrong, its package is missing, or its server cannot be reached.
        IndexRecallError: the index misses too much.
        IndexCacheError: the index cannot be written to the cache.
        IndexUnavailableError: the server stopped answering while recall was measured.
        ValueError: the vectors or the queries have another form.
    """
    index = _open(IndexURI.parse(uri), vectors, cache)
    try:
        if not isinstance(index, ExactIndex):
            asked = vectors if queries is None else queries
            index.measured_recall = _check_recall(index, uri, vectors, asked, least_recall)
    except BaseException:
        index.close()
        raise
    return index


def _open(uri: IndexURI, vectors: Vectors, cache: Path | None) -> VectorIndex:
    try:
        match uri.scheme:
            case "exact":
                return _exact(uri, vectors)
            case "faiss":
                from services.recommender.index.faiss import FaissIndex

                return FaissIndex(uri, vectors, cache)
            case "qdrant":
                from services.recommender.index.qdrant import QdrantIndex

                return QdrantIndex.at(uri, vectors)
    except ModuleNotFoundError as error:
        problem = f"needs {error.name}; run `pip install 'segue[{uri.scheme}]'`"
        raise IndexURIError(uri.text, problem) from None
    raise IndexURIError(uri.text, "is no index; give exact://, faiss://… or qdrant://…")


def _exact(uri: IndexURI, vectors: Vectors) -> ExactIndex:
    if uri.target or uri.parameters:
        raise IndexURIError(uri.text, "the exact index takes no settings; give exact://")
    return ExactIndex(vectors)


def _check_recall(
    index: VectorIndex, uri: str, vectors: Vectors, queries: Vectors, least: float
) -> float:
    """The least recall measured; raises IndexRecallError where it is too little."""
    if len(queries) == 0:
        raise ValueError("there is no query to measure recall with")
    random = np.random.default_rng(_SEED)
    rows = random.choice(len(queries), min(_QUERIES, len(queries)), replace=False)
    sample = np.ascontiguousarray(queries[np.sort(rows)])
    tenth = random.permutation(len(vectors)) <= len(vectors) // 10
    lowest = 1.0
    for among, allowed in (("vectors", None), ("vectors where a filter allows a tenth", tenth)):
        measured = recall(index, vectors, sample, allowed)
        if measured < least:
            raise IndexRecallError(uri, measured, least, among)
        lowest = min(lowest, measured)
    return lowest
