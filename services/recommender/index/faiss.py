"""The index of faiss: built once from a factory string, kept in a file that processes share.

Johnson, Douze and Jégou (2021), "Billion-scale similarity search with GPUs"; the strings are those
of `faiss.index_factory`.
"""

import hashlib
import logging
import mmap
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import faiss
import numpy as np
from numpy.typing import NDArray

from services.recommender.index.approximate import ApproximateIndex, fingerprint
from services.recommender.index.interface import Mask, VectorIndexError, Vectors
from services.recommender.index.uri import IndexURI, IndexURIError

_log = logging.getLogger("segue.index")

_BUILD_PARAMETERS = frozenset({"efConstruction"})
"""Parameters of building; the others are of searching and can be changed without building anew."""

_DIGEST_BYTES = hashlib.sha256().digest_size


class IndexCacheError(VectorIndexError):
    """The file of an index cannot be written."""

    def __init__(self, file: Path, reason: object) -> None:
        super().__init__(
            f"{file}: the index cannot be written: {reason}; check the place and its rights"
        )


class FaissIndex(ApproximateIndex):
    """Any index that `faiss.index_factory` makes and that can be searched with a filter.

    A search runs in the thread that calls it and no other. faiss releases Python's lock.

    Args:
        uri: The factory string and the parameters of `faiss.ParameterSpace`.
        vectors: As `VectorIndex` takes them.
        cache: Folder where built indexes are kept; None builds in memory.

    Raises:
        IndexURIError: faiss makes no such index of these vectors, or it knows no such parameter.
        IndexCacheError: the index cannot be written.
    """

    def __init__(self, uri: IndexURI, vectors: Vectors, cache: Path | None) -> None:
        super().__init__(vectors)
        try:
            self._index = _kept(uri, vectors, cache) if cache else _build(uri, vectors)
            _set(self._index, uri, uri.parameters.keys() - _BUILD_PARAMETERS)
        except RuntimeError as error:
            raise IndexURIError(uri.text, _problem(error)) from None
        self._check_filter(uri)

    def close(self) -> None:
        """Release the index and unmap its file."""
        self._index = None

    def _check_filter(self, uri: IndexURI) -> None:
        try:
            self._candidates(self._vectors[:1], 1, np.ones(len(self._vectors), np.bool_))
        except RuntimeError:
            problem = "faiss cannot filter such an index; choose one of Flat, SQ, HNSW or IVF"
            raise IndexURIError(uri.text, problem) from None

    def _candidates(self, queries: Vectors, count: int, allowed: Mask | None) -> NDArray[np.int64]:
        parameters = None if allowed is None else _filtered(self._index, _selector(allowed))
        with _one_thread():
            positions: NDArray[np.int64] = self._index.search(queries, count, params=parameters)[1]
        return positions


def _kept(uri: IndexURI, vectors: Vectors, cache: Path) -> faiss.Index:
    """Map the index from the cache, where it is built when there is no intact file of it."""
    building = {name: uri.parameters.get(name) for name in sorted(_BUILD_PARAMETERS)}
    file = cache / f"{fingerprint(vectors, faiss.__version__, uri.target, repr(building))}.faiss"
    if not _is_intact(file):
        _log.info("building %s of %d vectors; this happens once", uri.target, len(vectors))
        _write(_build(uri, vectors), file)
    return faiss.read_index(str(file), faiss.IO_FLAG_MMAP_IFC)


def _build(uri: IndexURI, vectors: Vectors) -> faiss.Index:
    dimensions = vectors.shape[1]
    index = faiss.index_factory(dimensions, uri.target, faiss.METRIC_INNER_PRODUCT)
    _set(index, uri, uri.parameters.keys() & _BUILD_PARAMETERS)
    index.train(vectors)
    index.add(vectors)
    return index


def _set(index: faiss.Index, uri: IndexURI, names: set[str]) -> None:
    for name in sorted(names):
        faiss.ParameterSpace().set_index_parameter(index, name, uri.parameters[name])


def _write(index: faiss.Index, file: Path) -> None:
    """Write an index and, behind it, its checksum, which faiss does not read."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=file.parent, prefix=".writing-") as scratch:
            made = Path(scratch) / file.name
            faiss.write_index(index, str(made))
            with made.open("r+b") as stream:
                stream.write(hashlib.file_digest(stream, "sha256").digest())
            made.replace(file)
    except (OSError, RuntimeError) as error:
        raise IndexCacheError(file, error) from None


def _is_intact(file: Path) -> bool:
    """Whether the file is there and holds what was written."""
    try:
        with (
            file.open("rb") as stream,
            mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as data,
            memoryview(data) as view,
            view[:-_DIGEST_BYTES] as index,
        ):
            intact = hashlib.sha256(index).digest() == view[-_DIGEST_BYTES:]
    except (OSError, ValueError):  # it is not there, or empty
        return False
    if not intact:
        _log.warning("%s was damaged; it is built anew", file)
    return intact


def _selector(allowed: Mask) -> faiss.IDSelector:
    return faiss.IDSelectorBitmap(np.packbits(allowed, bitorder="little"))


def _filtered(index: faiss.Index, selector: faiss.IDSelector) -> faiss.SearchParameters:
    """The parameters of a search with a filter, for an index and the indexes that it wraps.

    They take the place of what is set in the index, so that has to be repeated.
    """
    index = faiss.downcast_index(index)
    match index:
        case faiss.IndexRefine():
            return faiss.IndexRefineSearchParameters(
                k_factor=index.k_factor, base_index_params=_filtered(index.base_index, selector)
            )
        case faiss.IndexPreTransform():
            return faiss.SearchParametersPreTransform(index_params=_filtered(index.index, selector))
        case faiss.IndexHNSW():
            return faiss.SearchParametersHNSW(sel=selector, efSearch=index.hnsw.efSearch)
        case faiss.IndexIVF():
            return faiss.SearchParametersIVF(
                sel=selector, nprobe=index.nprobe, max_codes=index.max_codes
            )
    return faiss.SearchParameters(sel=selector)


@contextmanager
def _one_thread() -> Iterator[None]:
    """Keep faiss in this thread: OpenMP counts for each calling thread by itself."""
    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)
    try:
        yield
    finally:
        faiss.omp_set_num_threads(before)


def _problem(error: RuntimeError) -> str:
    """What faiss says, without the place in its source, and what to do."""
    reason = " ".join(str(error).split()).rpartition("Error: ")[2]
    reason = re.sub(r"^Error in .* at \S+:\d+: ", "", reason.rpartition("failed: ")[2])
    return f"faiss refuses: {reason}; choose another factory string or parameter, or use exact://"
