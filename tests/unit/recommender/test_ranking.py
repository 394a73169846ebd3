"""Ranking: the best songs, in an order that can be worked out by hand."""

from dataclasses import replace

import numpy as np
import pytest
from gensim.models import KeyedVectors
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from services.recommender.catalogue import Catalogue, Song
from services.recommender.model import SongModel
from services.recommender.ranking import RECENCY, Ranking, next_songs, popular, similar

NONE = np.empty(0, np.int64)
SIZES = st.integers(1, 12)


def positions(model: SongModel, *, least: int = 0) -> st.SearchStrategy[NDArray[np.int64]]:
    numbers = st.lists(st.integers(0, len(model) - 1), min_size=least, max_size=len(model) + 3)
    return numbers.map(lambda chosen: np.array(chosen, np.int64))


@pytest.fixture(scope="module")
def blank(tiny_model: SongModel) -> SongModel:
    """A model to be filled with other vectors."""
    return tiny_model


def model_of(
    blank: SongModel, vectors: list[list[int]], output: list[list[int]], counts: list[int]
) -> SongModel:
    """A model of small whole numbers, whose products have no rounding."""
    return replace(
        blank,
        catalogue=Catalogue.from_songs(Song(str(k), "", "") for k in range(len(vectors))),
        vectors=np.array(vectors, np.float32),
        output_vectors=np.array(output, np.float32),
        play_counts=np.array(counts, np.int64),
    )


@st.composite
def models(draw: st.DrawFn, blank: SongModel) -> SongModel:
    size = draw(SIZES)
    matrices = st.lists(
        st.lists(st.integers(-3, 3), min_size=2, max_size=2), min_size=size, max_size=size
    )
    counts = draw(st.lists(st.integers(0, 5), min_size=size, max_size=size))
    return model_of(blank, draw(matrices), draw(matrices), sorted(counts, reverse=True))


def by_hand(scores: NDArray[np.float64], limit: int, excluded: set[int]) -> list[int]:
    """All songs sorted by score and then position; the first `limit` that may be in the answer."""
    order = sorted(range(len(scores)), key=lambda song: (-scores[song], song))
    return [song for song in order if song not in excluded][:limit]


def check_form(ranking: Ranking, limit: int, excluded: set[int], songs: int) -> None:
    found = ranking.positions.tolist()
    assert ranking.positions.dtype == np.int64
    assert ranking.scores.dtype == np.float64
    assert len(found) == len(ranking.scores) == min(limit, songs - len(excluded))
    assert not set(found) & excluded
    assert len(set(found)) == len(found)
    assert np.all(np.diff(ranking.scores) <= 0)
    for k in range(len(found) - 1):
        assert ranking.scores[k] > ranking.scores[k + 1] or found[k] < found[k + 1]


class TestSimilar:
    def test_order_and_scores_are_those_of_gensim(self, tiny_model: SongModel) -> None:
        keyed = KeyedVectors(vector_size=tiny_model.vectors.shape[1])
        keys = [tiny_model.catalogue.ids[song] for song in range(len(tiny_model))]
        keyed.add_vectors(keys, tiny_model.vectors)
        for position, key in enumerate(keys):
            expected = keyed.most_similar(key, topn=len(keys))
            ranking = similar(tiny_model, position, len(keys))
            assert [keys[song] for song in ranking.positions] == [key for key, _ in expected]
            np.testing.assert_allclose(
                ranking.scores, [score for _, score in expected], rtol=0, atol=1e-6
            )

    @given(data=st.data())
    def test_equals_a_full_sort_of_cosines(self, blank: SongModel, data: st.DataObject) -> None:
        model = data.draw(models(blank))
        seed = data.draw(st.integers(0, len(model) - 1))
        limit = data.draw(st.integers(1, 20))
        ranking = similar(model, seed, limit)
        check_form(ranking, limit, {seed}, len(model))
        exact = model.vectors.astype(np.float64)
        lengths = np.linalg.norm(exact, axis=1) * np.linalg.norm(exact[seed])
        cosines = np.divide(
            exact @ exact[seed], lengths, out=np.zeros(len(model)), where=lengths > 0
        )
        best = cosines[by_hand(cosines, limit, {seed})]
        np.testing.assert_allclose(cosines[ranking.positions], best, rtol=0, atol=1e-6)
        np.testing.assert_allclose(ranking.scores, best, rtol=0, atol=1e-6)

    def test_a_song_without_direction_is_like_no_other(self, blank: SongModel) -> None:
        model = model_of(blank, [[0, 0], [1, 0], [0, 1]], [[0, 0]] * 3, [1, 1, 1])
        assert similar(model, 0, 5).scores.tolist() == [0, 0]

    def test_a_model_of_one_song_has_nothing_like_it(self, blank: SongModel) -> None:
        assert len(similar(model_of(blank, [[1, 1]], [[1, 1]], [1]), 0, 5).positions) == 0


class TestNextSongs:
    @given(data=st.data())
    def test_one_seed_equals_a_full_sort_of_products(
        self, blank: SongModel, data: st.DataObject
    ) -> None:
        model = data.draw(models(blank))
        seeds = data.draw(positions(model, least=1))[:1]
        exclude = data.draw(positions(model))
        limit = data.draw(st.integers(1, 20))
        ranking = next_songs(model, seeds, np.ones(1), limit, exclude)
        excluded = {*seeds.tolist(), *exclude.tolist()}
        check_form(ranking, limit, excluded, len(model))
        logits = model.output_vectors.astype(np.float64) @ model.vectors[seeds[0]]
        assert ranking.positions.tolist() == by_hand(logits, limit, excluded)
        np.testing.assert_allclose(ranking.scores, 1 / (1 + np.exp(-logits[ranking.positions])))

    @settings(max_examples=200)
    @given(data=st.data())
    def test_many_seeds_count_by_weight_and_recency(
        self, blank: SongModel, data: st.DataObject
    ) -> None:
        model = data.draw(models(blank))
        seeds = data.draw(positions(model, least=1))
        weights = np.array(
            data.draw(
                st.lists(
                    st.floats(-100, -0.01) | st.floats(0.01, 100),
                    min_size=len(seeds),
                    max_size=len(seeds),
                )
            )
        )
        exclude = data.draw(positions(model))
        limit = data.draw(st.integers(1, 20))
        ranking = next_songs(model, seeds, weights, limit, exclude)
        excluded = {*seeds.tolist(), *exclude.tolist()}
        check_form(ranking, limit, excluded, len(model))
        shares = [w * RECENCY ** (len(seeds) - 1 - k) for k, w in enumerate(weights)]
        products = model.output_vectors.astype(np.float64) @ model.vectors[seeds].T
        logits = products @ np.array(shares) / sum(map(abs, shares))
        best = logits[by_hand(logits, limit, excluded)]
        np.testing.assert_allclose(logits[ranking.positions], best, rtol=0, atol=1e-4)
        np.testing.assert_allclose(ranking.scores, 1 / (1 + np.exp(-best)), rtol=0, atol=1e-4)

    def test_the_latest_seed_counts_most(self, blank: SongModel) -> None:
        model = model_of(
            blank, [[1, 0], [0, 1], [0, 0], [0, 0]], [[0, 0], [0, 0], [1, 0], [0, 1]], [1] * 4
        )
        for seeds, expected in (([0, 1], [3, 2]), ([1, 0], [2, 3])):
            ranking = next_songs(model, np.array(seeds), np.ones(2), 2, NONE)
            assert ranking.positions.tolist() == expected

    def test_a_negative_weight_turns_the_order_round(self, blank: SongModel) -> None:
        model = model_of(blank, [[1, 0]] + [[0, 0]] * 3, [[0, 0], [1, 0], [2, 0], [3, 0]], [1] * 4)
        for weight, expected in ((1.0, [3, 2, 1]), (-1.0, [1, 2, 3])):
            ranking = next_songs(model, np.array([0]), np.array([weight]), 3, NONE)
            assert ranking.positions.tolist() == expected

    def test_the_model_itself_is_left_as_it_is(self, tiny_model: SongModel) -> None:
        before = tiny_model.vectors.copy(), tiny_model.output_vectors.copy()
        next_songs(tiny_model, np.array([0, 3]), np.ones(2), 5, np.array([1]))
        np.testing.assert_array_equal(tiny_model.vectors, before[0])
        np.testing.assert_array_equal(tiny_model.output_vectors, before[1])

    def test_nothing_is_left_when_every_song_is_excluded(self, tiny_model: SongModel) -> None:
        everything = np.arange(len(tiny_model))
        ranking = next_songs(tiny_model, np.array([0]), np.ones(1), 5, everything)
        assert ranking.positions.shape == ranking.scores.shape == (0,)


class TestPopular:
    @given(data=st.data())
    def test_equals_a_full_sort_of_shares(self, blank: SongModel, data: st.DataObject) -> None:
        model = data.draw(models(blank))
        exclude = data.draw(positions(model))
        limit = data.draw(st.integers(1, 20))
        ranking = popular(model, limit, exclude)
        excluded = set(exclude.tolist())
        check_form(ranking, limit, excluded, len(model))
        shares = model.play_counts / max(1, model.play_counts.sum())
        assert ranking.positions.tolist() == by_hand(shares, limit, excluded)
        assert ranking.scores.tolist() == shares[ranking.positions].tolist()

    def test_scores_of_all_songs_are_shares_of_one_whole(self, tiny_model: SongModel) -> None:
        ranking = popular(tiny_model, 10_000, NONE)
        assert ranking.positions.tolist() == list(range(len(tiny_model)))
        assert ranking.scores.sum() == pytest.approx(1)

    def test_play_counts_are_left_as_they_are(self, tiny_model: SongModel) -> None:
        before = tiny_model.play_counts.copy()
        popular(tiny_model, 5, np.array([0]))
        np.testing.assert_array_equal(tiny_model.play_counts, before)

    def test_nothing_is_left_when_every_song_is_excluded(self, tiny_model: SongModel) -> None:
        ranking = popular(tiny_model, 5, np.arange(len(tiny_model)))
        assert ranking.positions.shape == ranking.scores.shape == (0,)
