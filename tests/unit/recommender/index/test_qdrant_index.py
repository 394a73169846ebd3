"""The index of a Qdrant server, against the client's local mode, which needs none."""

import socket
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("qdrant_client", reason="needs qdrant-client: pip install 'segue[qdrant]'")

from qdrant_client import QdrantClient, models
from qdrant_client.http.exceptions import ResponseHandlingException

from services.recommender.index import qdrant
from services.recommender.index.interface import IndexUnavailableError, VectorIndex, Vectors
from services.recommender.index.qdrant import QdrantIndex
from services.recommender.index.uri import IndexURI, IndexURIError
from tests.unit.recommender.index.index_suite import (
    SONGS,
    VECTORS,
    VectorIndexSuite,
    asked,
    mask,
    seeds,
    shares,
    songs,
)


class TestQdrantIndex(VectorIndexSuite):
    @classmethod
    def make(cls, vectors: Vectors) -> VectorIndex:
        return QdrantIndex.at(IndexURI.parse("qdrant://:memory:"), vectors)


@pytest.fixture
def client() -> Iterator[QdrantClient]:
    client = QdrantClient(":memory:")
    yield client
    client.close()


@pytest.fixture
def uploads(client: QdrantClient, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the collections that are filled from now on."""
    names = []
    upload = client.upload_collection

    def spy(name: str, *args: Any, **kwargs: Any) -> None:
        names.append(name)
        upload(name, *args, **kwargs)

    monkeypatch.setattr(client, "upload_collection", spy)
    return names


def fail(*args: Any, **kwargs: Any) -> Any:
    raise ResponseHandlingException(ConnectionError("connection reset"))


def collections(client: QdrantClient) -> list[str]:
    return [collection.name for collection in client.get_collections().collections]


class TestCollection:
    def test_it_is_filled_once(self, client: QdrantClient, uploads: list[str]) -> None:
        first = QdrantIndex(client, VECTORS).search(asked(1), 9)
        again = QdrantIndex(client, VECTORS).search(asked(1), 9)
        np.testing.assert_array_equal(first.positions, again.positions)
        assert uploads == collections(client)

    def test_other_vectors_have_another_one(self, client: QdrantClient) -> None:
        for vectors in (VECTORS, songs(1), songs(1)):
            QdrantIndex(client, vectors)
        assert len(collections(client)) == 2

    def test_one_that_is_not_complete_is_filled(
        self, client: QdrantClient, uploads: list[str]
    ) -> None:
        expected = QdrantIndex(client, VECTORS).search(asked(1), 9)
        (name,) = collections(client)
        client.delete(name, models.PointIdsList(points=list(range(0, SONGS, 3))))
        found = QdrantIndex(client, VECTORS).search(asked(1), 9)
        np.testing.assert_array_equal(found.positions, expected.positions)
        assert client.count(name).count == SONGS
        assert uploads == [name, name]

    def test_another_process_may_create_it_at_the_same_time(
        self, client: QdrantClient, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        create = client.create_collection

        def create_too_late(*args: Any, **kwargs: Any) -> None:
            create(*args, **kwargs)
            fail()

        monkeypatch.setattr(client, "create_collection", create_too_late)
        assert QdrantIndex(client, VECTORS).search(asked(1), 9).positions.shape == (3, 9)

    def test_it_is_searched_only_when_the_server_has_indexed_it(
        self, client: QdrantClient, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        statuses = ["yellow", "yellow", "green"]
        look = client.get_collection

        def indexing(name: str) -> models.CollectionInfo:
            status = models.CollectionStatus(statuses.pop(0))
            return look(name).model_copy(update={"status": status})

        monkeypatch.setattr(client, "get_collection", indexing)
        monkeypatch.setattr(qdrant, "_POLL_S", 0)
        QdrantIndex(client, VECTORS)
        assert statuses == []
        statuses.append("red")
        with pytest.raises(IndexUnavailableError, match="could not index"):
            QdrantIndex(client, VECTORS)


class TestServer:
    def test_it_is_told_how_far_to_look(
        self, client: QdrantClient, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        seen: list[object] = []
        query = client.query_batch_points

        def spy(name: str, requests: list[models.QueryRequest]) -> Any:
            seen.extend(request.params for request in requests)
            return query(name, [r.model_copy(update={"params": None}) for r in requests])

        monkeypatch.setattr(client, "query_batch_points", spy)
        monkeypatch.setattr(qdrant, "QdrantClient", lambda *args, **kwargs: client)
        index = QdrantIndex.at(IndexURI.parse("qdrant://host:1?hnsw_ef=77"), VECTORS)
        index.search(asked(1, 1), 9)
        assert seen == [models.SearchParams(hnsw_ef=77)]

    def test_one_that_cannot_be_reached_is_told(self) -> None:
        with socket.socket() as unused:
            unused.bind(("127.0.0.1", 0))
            uri = f"qdrant://127.0.0.1:{unused.getsockname()[1]}"
            with pytest.raises(IndexURIError, match="refused; check that it runs") as caught:
                QdrantIndex.at(IndexURI.parse(uri), VECTORS)
        assert str(caught.value).startswith(f"{uri}: ")

    def test_one_that_fails_later_is_told(
        self, client: QdrantClient, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        index = QdrantIndex(client, VECTORS)
        monkeypatch.setattr(client, "query_batch_points", fail)
        with pytest.raises(IndexUnavailableError, match="connection reset; check"):
            index.search(asked(1), 9)

    @pytest.mark.parametrize(
        ("uri", "problem"),
        [
            ("qdrant://", "names no server"),
            ("qdrant://a host:6333", "names no server"),
            ("qdrant://host:70000", "names no server"),
            ("qdrant://host:0", "names no server"),
            ("qdrant://host:port", "names no server"),
            ("qdrant://host/collection", "names no server"),
            ("qdrant://:memory:?ef=3", "ef is not known here; hnsw_ef is"),
        ],
    )
    def test_a_uri_that_names_none_is_refused(self, uri: str, problem: str) -> None:
        with pytest.raises(IndexURIError, match=problem):
            QdrantIndex.at(IndexURI.parse(uri), VECTORS)

    @pytest.mark.parametrize(
        ("uri", "address"),
        [
            ("qdrant://songs.internal", "http://songs.internal:6333"),
            ("qdrant://127.0.0.1:80", "http://127.0.0.1:80"),
            ("qdrant://[::1]:6333", "http://[::1]:6333"),
        ],
    )
    def test_a_uri_names_host_and_port(
        self, uri: str, address: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        asked_for = []

        def connect(**kwargs: Any) -> QdrantClient:
            asked_for.append(kwargs["url"])
            return QdrantClient(":memory:")

        monkeypatch.setattr(qdrant, "QdrantClient", connect)
        QdrantIndex.at(IndexURI.parse(uri), VECTORS)
        assert asked_for == [address]


@given(seed=seeds, share=shares, count=st.integers(1, SONGS))
def test_the_server_is_asked_for_as_many_more_as_may_be_left_out(
    seed: int, share: float, count: int
) -> None:
    allowed = mask(seed, share)
    allowed[0] = True
    excluded = SONGS - int(allowed.sum())
    length = qdrant._longer(count, allowed)
    assert count <= length <= min(SONGS, count + excluded)
    assert length == min(SONGS, count + excluded) or length * allowed.mean() >= 2 * count
