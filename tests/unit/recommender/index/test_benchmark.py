"""The benchmark's songs are like those of a model, and its queries are none of them."""

import numpy as np
import pytest

from benchmarks.index import make_sessions, make_world, million


def test_songs_are_like_those_of_a_model() -> None:
    world = make_world(9_741)
    offsets = world.inputs.mean(axis=0), world.outputs.mean(axis=0)
    lengths = np.linalg.norm(offsets, axis=1)
    assert offsets[0] @ offsets[1] < -0.9 * lengths.prod()
    centred = world.outputs - offsets[1]
    variances = np.linalg.eigvalsh(np.cov(centred.T))[::-1]
    shares = np.cumsum(variances) / variances.sum()
    np.testing.assert_allclose(shares[[3, 15, 31]], [0.35, 0.66, 0.80], atol=0.08)
    centred /= np.linalg.norm(centred, axis=1, keepdims=True)
    cosines = np.sort(centred[::20] @ centred.T, axis=1)[:, ::-1]
    np.testing.assert_allclose(
        np.median(cosines, axis=0)[[1, 10, 50]], [0.76, 0.69, 0.62], atol=0.06
    )


def test_queries_are_none_of_the_songs() -> None:
    world = make_world(2_000)
    for seeds in (1, 5):
        queries = make_sessions(world, 50, seeds)
        assert queries.shape == (50, 64)
        assert queries.dtype == np.float32
        assert np.linalg.norm(world.outputs[:, np.newaxis] - queries, axis=2).min() > 1


@pytest.mark.parametrize("uri", ["exact://", "faiss://IVF8,Flat?nprobe=8"])
def test_everything_is_found_by_an_index_that_looks_at_everything(uri: str) -> None:
    if uri.startswith("faiss"):
        pytest.importorskip("faiss", reason="needs faiss: pip install 'segue[faiss]'")
    figures = million(songs=2_000, uri=uri, queries=20)
    assert {timing.recall for timing in figures.kinds.values()} == {1.0}
    assert all(0 < timing.median_ms <= timing.p99_ms for timing in figures.kinds.values())
