"""Opening an index by its URI: which one it is, and whether it finds what it should."""

import sys
from pathlib import Path

import numpy as np
import pytest

from services.recommender.index import opening
from services.recommender.index.exact import ExactIndex
from services.recommender.index.interface import VectorIndex, VectorIndexError, Vectors
from services.recommender.index.opening import EXACT, IndexRecallError, open_index
from services.recommender.index.recall import recall
from services.recommender.index.uri import IndexURI, IndexURIError
from tests.unit.recommender.index.index_suite import VECTORS, asked, mask, songs

BAD = "faiss://IVF32,Flat?nprobe=1"
GOOD = "faiss://IVF32,Flat?nprobe=32"


@pytest.fixture
def needs_faiss() -> None:
    pytest.importorskip("faiss", reason="needs faiss: pip install 'segue[faiss]'")


class TestURI:
    def test_it_is_taken_apart(self) -> None:
        uri = IndexURI.parse("faiss://OPQ16_64,IVF1024(HNSW32),PQ16?nprobe=8&k_factor_rf=1.5")
        assert uri.scheme == "faiss"
        assert uri.target == "OPQ16_64,IVF1024(HNSW32),PQ16"
        assert uri.parameters == {"nprobe": 8, "k_factor_rf": 1.5}
        assert IndexURI.parse("qdrant://[::1]:6333").target == "[::1]:6333"

    @pytest.mark.parametrize(
        "uri",
        [
            "",
            "exact",
            "faiss:Flat",
            "EXACT://",
            "http://host",
            "exact://somewhere",
            "exact://?nprobe=3",
            "faiss://Flat?nprobe",
            "faiss://Flat?nprobe=",
            "faiss://Flat?nprobe=many",
            "faiss://Flat?nprobe=-3",
            "faiss://Flat?nprobe=0",
            "faiss://Flat?nprobe=nan",
            "faiss://Flat?nprobe=inf",
            "faiss://Flat?nprobe=3&nprobe=4",
        ],
    )
    def test_one_that_means_nothing_is_refused(self, uri: str) -> None:
        with pytest.raises(IndexURIError) as caught:
            open_index(uri, VECTORS)
        assert str(caught.value).startswith(f"{uri}: ")
        assert isinstance(caught.value, VectorIndexError)


class TestOpenIndex:
    def test_the_exact_one_needs_nothing(self) -> None:
        index = open_index(EXACT, VECTORS, least_recall=1.0)
        assert isinstance(index, ExactIndex)

    @pytest.mark.parametrize(
        ("scheme", "package"), [("faiss", "faiss"), ("qdrant", "qdrant_client")]
    )
    def test_a_package_that_is_missing_is_named_with_its_extra(
        self, scheme: str, package: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setitem(sys.modules, package, None)
        monkeypatch.delitem(sys.modules, f"services.recommender.index.{scheme}", raising=False)
        with pytest.raises(
            IndexURIError, match=rf"{package}; run `pip install 'segue\[{scheme}\]'"
        ):
            open_index(f"{scheme}://x", VECTORS)

    @pytest.mark.usefixtures("needs_faiss")
    def test_one_that_finds_enough_is_kept_in_the_cache(self, tmp_path: Path) -> None:
        index = open_index(GOOD, VECTORS, cache=tmp_path)
        assert index.search(asked(1), 9, mask(1, 0.5)).positions.shape == (3, 9)
        assert len(list(tmp_path.iterdir())) == 1

    @pytest.mark.usefixtures("needs_faiss")
    def test_one_that_misses_too_much_is_refused_and_closed(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from services.recommender.index.faiss import FaissIndex

        closed = []
        monkeypatch.setattr(FaissIndex, "close", lambda index: closed.append(index))
        with pytest.raises(IndexRecallError) as caught:
            open_index(BAD, VECTORS, least_recall=0.9)
        assert 0.1 < caught.value.measured < 0.9 == caught.value.least
        told = str(caught.value)
        assert told.startswith(f"{BAD}: finds {caught.value.measured:.1%} of the 10 best vectors")
        assert "less than 90.0%; raise" in told
        assert len(closed) == 1

    @pytest.mark.usefixtures("needs_faiss")
    def test_what_is_required_is_the_callers_choice(self) -> None:
        with pytest.raises(IndexRecallError) as caught:
            open_index(BAD, VECTORS, least_recall=1.0)
        open_index(BAD, VECTORS, least_recall=0.5 * caught.value.measured).close()

    @pytest.mark.usefixtures("needs_faiss")
    def test_queries_like_those_to_come_are_what_counts(self) -> None:
        """A list is near to its own vectors, and not to what points the other way."""
        measured = []
        for queries in (None, -VECTORS):
            with pytest.raises(IndexRecallError) as caught:
                open_index(BAD, VECTORS, least_recall=1.0, queries=queries)
            measured.append(caught.value.measured)
        assert measured[1] != measured[0]

    @pytest.mark.usefixtures("needs_faiss")
    @pytest.mark.parametrize(
        ("queries", "problem"),
        [(VECTORS[:0], "no query"), (VECTORS[:, :3], "3 dimensions"), (VECTORS * 1e30, "beyond")],
    )
    def test_queries_that_measure_nothing_are_refused(self, queries: Vectors, problem: str) -> None:
        with pytest.raises(ValueError, match=problem):
            open_index(GOOD, VECTORS, queries=queries)

    @pytest.mark.usefixtures("needs_faiss")
    def test_recall_with_a_filter_counts_too(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def found(index: object, vectors: object, queries: object, allowed: object) -> float:
            return 1.0 if allowed is None else 0.5

        monkeypatch.setattr(opening, "recall", found)
        with pytest.raises(IndexRecallError, match=r"finds 50.0% .* where a filter allows a tenth"):
            open_index(GOOD, VECTORS)

    @pytest.mark.usefixtures("needs_faiss")
    @pytest.mark.parametrize("count", [1, 2, 11])
    def test_few_vectors_are_enough(self, count: int) -> None:
        index = open_index("faiss://HNSW8,Flat", songs(1, count))
        assert index.search(asked(1), 3).positions.shape == (3, min(3, count))


class Shifted(ExactIndex):
    """Misses, of the best ten, the first `missed`."""

    def __init__(self, missed: int) -> None:
        super().__init__(VECTORS)
        self._missed = missed

    def _search(self, queries, count, allowed):  # type: ignore[no-untyped-def]
        found = super()._search(queries, count + self._missed, allowed)
        return type(found)(found.positions[:, self._missed :], found.scores[:, self._missed :])


class TestRecall:
    @pytest.mark.parametrize("missed", [0, 1, 7, 10, 30])
    def test_it_is_the_share_of_the_best_ten_that_are_found(self, missed: int) -> None:
        index: VectorIndex = Shifted(missed)
        expected = max(0, 10 - missed) / 10
        assert recall(index, VECTORS, asked(1, 20)) == pytest.approx(expected)
        assert recall(index, VECTORS, asked(1, 20), mask(1, 0.5)) == pytest.approx(expected)

    def test_rounding_counts_for_nothing_even_where_scores_are_almost_zero(self) -> None:
        class Rounded(ExactIndex):
            def _search(self, queries, count, allowed):  # type: ignore[no-untyped-def]
                found = super()._search(queries, count, allowed)
                return type(found)(found.positions, found.scores - np.float32(1e-6))

        across = np.zeros((600, 2), np.float32)
        across[:, 1] = 1 + np.arange(600)
        asked_for = np.array([[1000, 0]], np.float32)
        assert recall(Rounded(across), across, asked_for) == 1

    def test_which_of_two_equals_is_found_does_not_matter(self) -> None:
        twice = np.concatenate((VECTORS, VECTORS))
        other_half = np.arange(len(twice)) >= len(VECTORS)

        class OneHalf(ExactIndex):
            def _search(self, queries, count, allowed):  # type: ignore[no-untyped-def]
                return super()._search(queries, count, other_half)

        found = recall(OneHalf(twice), twice, asked(1, 20))
        assert found == pytest.approx(0.5)
        assert recall(OneHalf(twice), twice, asked(1, 20), ~other_half) == 1
