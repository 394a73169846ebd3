"""Indexes of faiss: any factory string, one file for all processes, no thread of its own."""

import logging
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

pytest.importorskip("faiss", reason="needs faiss: pip install 'segue[faiss]'")

import faiss

from services.recommender.index import faiss as faiss_index
from services.recommender.index.exact import ExactIndex
from services.recommender.index.faiss import FaissIndex, IndexCacheError
from services.recommender.index.interface import VectorIndex, Vectors
from services.recommender.index.uri import IndexURI, IndexURIError
from tests.unit.recommender.index.index_suite import (
    SONGS,
    VECTORS,
    VectorIndexSuite,
    asked,
    mask,
    songs,
)

IVF = "faiss://IVF4,Flat?nprobe=4"
HNSW = "faiss://HNSW32,Flat?efConstruction=200&efSearch=400"
FAST_SCAN = "faiss://RR16,IVF4,PQ16x4fs,RFlat?nprobe=4&k_factor_rf=20"


def open_faiss(uri: str, vectors: Vectors = VECTORS, cache: Path | None = None) -> FaissIndex:
    return FaissIndex(IndexURI.parse(uri), vectors, cache)


class FaissSuite(VectorIndexSuite):
    uri: ClassVar[str]

    @classmethod
    def make(cls, vectors: Vectors) -> VectorIndex:
        return open_faiss(cls.uri, vectors)


class TestFlat(FaissSuite):
    uri = "faiss://Flat"


class TestIVF(FaissSuite):
    uri = IVF


class TestHNSW(FaissSuite):
    uri = HNSW


class TestFastScan(FaissSuite):
    uri = FAST_SCAN


class TestSearch:
    def test_lists_that_hold_too_few_are_made_up_for(self) -> None:
        found = open_faiss("faiss://IVF64,Flat?nprobe=1").search(asked(1, 9), 100)
        expected = ExactIndex(VECTORS).search(asked(1, 9), 100)
        np.testing.assert_array_equal(found.positions, expected.positions)

    @pytest.mark.parametrize("uri", [IVF, HNSW, FAST_SCAN])
    def test_it_runs_in_one_thread_and_leaves_the_number_of_others(
        self, uri: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        index = open_faiss(uri)
        threads = []
        search = index._index.search

        def spy(*args: Any, **kwargs: Any) -> Any:
            threads.append(faiss.omp_get_max_threads())
            return search(*args, **kwargs)

        monkeypatch.setattr(index._index, "search", spy)
        before = faiss.omp_get_max_threads()
        faiss.omp_set_num_threads(3)
        try:
            index.search(asked(1), 5, mask(1, 0.5))
            assert faiss.omp_get_max_threads() == 3
        finally:
            faiss.omp_set_num_threads(before)
        assert threads == [1]

    @pytest.mark.parametrize(
        "uri", ["faiss://IVF16,Flat?nprobe={}", "faiss://RR16,IVF16,Flat,RFlat?nprobe={}"]
    )
    def test_search_parameters_hold_with_a_filter_too(self, uri: str) -> None:
        """With more lists probed, more of the best are found."""
        queries, allowed = asked(2, 50), mask(2, 0.5)
        least = ExactIndex(VECTORS).search(queries, 10, allowed).scores[:, -1:] - 1e-4
        recalls = [
            np.mean(open_faiss(uri.format(probes)).search(queries, 10, allowed).scores >= least)
            for probes in (1, 4, 16)
        ]
        assert recalls[0] < recalls[1] < recalls[2] == 1


class TestCache:
    @pytest.fixture
    def cache(self, tmp_path: Path) -> Path:
        return tmp_path / "not there yet" / "indexes"

    @pytest.fixture
    def built(self, monkeypatch: pytest.MonkeyPatch) -> list[str]:
        """The factory strings of the indexes that are built from now on."""
        strings = []
        build = faiss_index._build

        def spy(uri: IndexURI, vectors: Vectors) -> Any:
            strings.append(uri.target)
            return build(uri, vectors)

        monkeypatch.setattr(faiss_index, "_build", spy)
        return strings

    @pytest.mark.parametrize("uri", ["faiss://Flat", IVF, HNSW, FAST_SCAN])
    def test_an_index_is_built_once_and_answers_the_same_again(
        self, cache: Path, built: list[str], uri: str
    ) -> None:
        first = open_faiss(uri, cache=cache).search(asked(1), 9, mask(1, 0.5))
        again = open_faiss(uri, cache=cache).search(asked(1), 9, mask(1, 0.5))
        np.testing.assert_array_equal(first.positions, again.positions)
        assert len(built) == 1
        assert [file.suffix for file in cache.iterdir()] == [".faiss"]

    @pytest.mark.parametrize("uri", ["faiss://Flat", IVF, HNSW, FAST_SCAN])
    def test_the_file_is_mapped_so_that_processes_share_it(self, cache: Path, uri: str) -> None:
        maps = Path("/proc/self/maps")
        if not maps.exists():
            pytest.skip("what is mapped can only be seen on Linux")
        index = open_faiss(uri, cache=cache)
        (file,) = cache.iterdir()
        lines = [line for line in maps.read_text().splitlines() if line.endswith(str(file))]
        assert lines
        assert all(" r--" in line for line in lines)
        index.close()
        assert str(file) not in maps.read_text()

    def test_only_what_is_built_otherwise_is_built_anew(
        self, cache: Path, built: list[str]
    ) -> None:
        for uri in ("HNSW8", "HNSW8?efSearch=9", "HNSW8?efConstruction=9", "HNSW16"):
            open_faiss(f"faiss://{uri}", cache=cache)
        open_faiss("faiss://HNSW8", songs(1), cache)
        assert built == ["HNSW8", "HNSW8", "HNSW16", "HNSW8"]
        assert len(list(cache.iterdir())) == 4

    @pytest.mark.parametrize("place", [0, 0.01, 0.5, 0.99, -1])
    def test_a_damaged_file_is_built_anew(
        self, cache: Path, built: list[str], place: float, caplog: pytest.LogCaptureFixture
    ) -> None:
        expected = open_faiss(HNSW, cache=cache).search(asked(1), 9)
        (file,) = cache.iterdir()
        data = bytearray(file.read_bytes())
        data[int(place * len(data)) if place >= 0 else -1] ^= 1
        file.write_bytes(data)
        with caplog.at_level(logging.WARNING):
            found = open_faiss(HNSW, cache=cache).search(asked(1), 9)
        np.testing.assert_array_equal(found.positions, expected.positions)
        assert len(built) == 2
        assert "damaged" in caplog.text
        open_faiss(HNSW, cache=cache)
        assert len(built) == 2

    @pytest.mark.parametrize("length", [0, 1, 32, 1000])
    def test_a_file_that_was_cut_off_is_built_anew(
        self, cache: Path, built: list[str], length: int
    ) -> None:
        open_faiss(IVF, cache=cache)
        (file,) = cache.iterdir()
        file.write_bytes(file.read_bytes()[:length])
        open_faiss(IVF, cache=cache).search(asked(1), 9)
        assert len(built) == 2

    def test_an_index_in_use_survives_that_its_file_is_replaced(self, cache: Path) -> None:
        index = open_faiss(HNSW, cache=cache)
        expected = index.search(asked(1), 9).positions
        (file,) = cache.iterdir()
        file.unlink()
        open_faiss(HNSW, cache=cache)
        np.testing.assert_array_equal(index.search(asked(1), 9).positions, expected)

    def test_a_place_that_cannot_be_written_is_named(self, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        with pytest.raises(IndexCacheError, match=r"file/.*: the index cannot be written: .*check"):
            open_faiss(IVF, cache=tmp_path / "file")

    def test_nothing_is_left_behind_when_writing_fails(
        self, cache: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def full(index: Any, name: str) -> None:
            Path(name).write_bytes(b"half")
            raise RuntimeError("no space left")

        monkeypatch.setattr(faiss, "write_index", full)
        with pytest.raises(IndexCacheError, match="no space left"):
            open_faiss(IVF, cache=cache)
        assert list(cache.iterdir()) == []


class TestRefusal:
    @pytest.mark.parametrize(
        ("uri", "problem"),
        [
            ("faiss://", "could not parse"),
            ("faiss://nonsense", "could not parse index string nonsense"),
            ("faiss://IVF(", "unbalanced parentheses"),
            (f"faiss://IVF{SONGS + 1},Flat", "training points"),
            ("faiss://Flat?nprobe=3", "could not set parameter nprobe"),
            ("faiss://IVF4,Flat?nprob=3", "could not set parameter nprob"),
            ("faiss://IVF4,Flat?efConstruction=3", "could not set parameter efConstruction"),
            ("faiss://LSH", "METRIC_L2"),
            ("faiss://PQ8x4fs", "cannot filter"),
        ],
    )
    def test_what_faiss_cannot_do_is_told_in_a_sentence(self, uri: str, problem: str) -> None:
        with pytest.raises(IndexURIError) as caught:
            open_faiss(uri)
        assert str(caught.value).startswith(f"{uri}: ")
        assert problem in str(caught.value)
        assert "choose" in str(caught.value)
        assert "cpp" not in str(caught.value)
