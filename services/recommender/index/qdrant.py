"""The index of a Qdrant server, for more songs than the memory of one machine holds."""

import logging
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from numpy.typing import NDArray
from qdrant_client import QdrantClient, models
from qdrant_client.common.client_exceptions import QdrantException
from qdrant_client.http.exceptions import ApiException

from services.recommender.index.approximate import ApproximateIndex, fingerprint
from services.recommender.index.interface import IndexUnavailableError, Mask, Vectors
from services.recommender.index.uri import IndexURI, IndexURIError

_log = logging.getLogger("segue.index")

_IN_MEMORY = ":memory:"
_PORT = 6333
_BATCH = 1_000
_TIMEOUT_S = 30
_POLL_S = 1.0
_BUSY = models.CollectionStatus.YELLOW


class QdrantIndex(ApproximateIndex):
    """A collection of a Qdrant server, filled when it is not there or not complete.

    Its name is made from the vectors, so that processes with the same model share one. What is not
    allowed is left out here, from an answer that is longer by that much: to send a filter, which
    could only list ids, with every request would cost more.

    Args:
        client: Where the collection is; the index closes it.
        vectors: As `VectorIndex` takes them.
        hnsw_ef: How many vectors the server's search keeps in view; its own default when None.

    Raises:
        IndexUnavailableError: the server does not answer, or refuses.
    """

    def __init__(self, client: QdrantClient, vectors: Vectors, hnsw_ef: int | None = None) -> None:
        super().__init__(vectors)
        self._client = client
        self._parameters = models.SearchParams(hnsw_ef=hnsw_ef)
        self._collection = f"segue-{fingerprint(vectors)}"
        with _answering():
            self._fill()
            self._await_indexing()

    @classmethod
    def at(cls, uri: IndexURI, vectors: Vectors) -> "QdrantIndex":
        """Connect to `qdrant://host:port`, or to nothing with `qdrant://:memory:`, for tests.

        Raises:
            IndexURIError: this names no server, or none that answers, or an unknown parameter.
        """
        unknown = uri.parameters.keys() - {"hnsw_ef"}
        if unknown:
            raise IndexURIError(uri.text, f"{min(unknown)} is not known here; hnsw_ef is")
        ef = uri.parameters.get("hnsw_ef")
        client = _client(uri)
        try:
            return cls(client, vectors, None if ef is None else int(ef))
        except IndexUnavailableError as error:
            client.close()
            raise IndexURIError(uri.text, str(error)) from None

    def close(self) -> None:
        """Close the connection; the collection stays."""
        self._client.close()

    def _candidates(self, queries: Vectors, count: int, allowed: Mask | None) -> NDArray[np.int64]:
        limit = count if allowed is None else _longer(count, allowed)
        requests = [
            models.QueryRequest(query=query, limit=limit, params=self._parameters)
            for query in queries.tolist()
        ]
        with _answering():
            answers = self._client.query_batch_points(self._collection, requests)
        positions = np.full((len(queries), limit), -1, np.int64)
        for row, answer in zip(positions, answers, strict=True):
            row[: len(answer.points)] = [point.id for point in answer.points]
        return positions

    def _fill(self) -> None:
        client, name, songs = self._client, self._collection, len(self._vectors)
        if not client.collection_exists(name):
            self._create()
        if client.count(name, exact=True).count != songs:
            _log.info("filling the collection %s; this happens once", name)
            client.upload_collection(
                name, self._vectors, ids=range(songs), batch_size=_BATCH, wait=True
            )

    def _create(self) -> None:
        space = models.VectorParams(size=self._vectors.shape[1], distance=models.Distance.DOT)
        try:
            self._client.create_collection(self._collection, vectors_config=space)
        except ApiException:
            # Another process may have been faster.
            if not self._client.collection_exists(self._collection):
                raise

    def _await_indexing(self) -> None:
        """Wait until the server has built its graph, since its recall is measured next."""
        while (status := self._client.get_collection(self._collection).status) == _BUSY:
            time.sleep(_POLL_S)
        if status == models.CollectionStatus.RED:
            raise IndexUnavailableError(
                f"the server could not index the collection {self._collection}; look into its log"
            )


def _client(uri: IndexURI) -> QdrantClient:
    if uri.target == _IN_MEMORY:
        return QdrantClient(_IN_MEMORY)
    place = re.fullmatch(r"([\w.-]+|\[[\da-fA-F:]+\])(?::(\d{1,5}))?", uri.target)
    port = int(place[2] or _PORT) if place else 0
    if place is None or not 0 < port < 2**16:
        raise IndexURIError(uri.text, "names no server; give qdrant://host:port")
    # The check of versions would only print a warning when nobody answers.
    address = f"http://{place[1]}:{port}"
    return QdrantClient(url=address, timeout=_TIMEOUT_S, check_compatibility=False)


def _longer(count: int, allowed: Mask) -> int:
    """How long an answer holds `count` vectors that are allowed, most likely.

    It surely does when what is not allowed has room in it; else twice as many are expected.
    """
    songs, candidates = len(allowed), int(np.count_nonzero(allowed))
    return min(songs, count + min(songs - candidates, 2 * count * songs // candidates))


@contextmanager
def _answering() -> Iterator[None]:
    """Tell in a sentence what the client raises."""
    try:
        yield
    except (ApiException, QdrantException) as error:
        reason = " ".join(str(error).split())[:300]
        raise IndexUnavailableError(
            f"the Qdrant server gives no answer: {reason}; check that it runs and can be reached"
        ) from error
