"""Ranking: the best songs, in an order that can be worked out by hand."""

from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from gensim.models import KeyedVectors
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from services.recommender.blend import Blend
from services.recommender.index.exact import ExactIndex
from services.recommender.model import SongModel
from services.recommender.ranking import SHORTLIST, Query, Ranker, Ranking
from tests.song_models import song_model, song_models

VECTORS_ALONE = Blend(vector_share=1.0)


def ranker_of(model: SongModel) -> Ranker:
    return Ranker(model, ExactIndex(model.unit_vectors), ExactIndex(model.output_vectors))


def query(*seeds: int, **options: Any) -> Query:
    return Query(np.array(seeds, np.int64), np.ones(len(seeds)))._replace(**options)


def following(model: SongModel, asked: Query) -> Ranking:
    return ranker_of(model).next_songs([asked])[0]


@st.composite
def queries(draw: st.DrawFn, model: SongModel) -> Query:
    songs = st.integers(0, len(model) - 1)
    seeds = draw(st.lists(songs, max_size=6))
    weights = draw(st.lists(st.floats(-10, 10), min_size=len(seeds), max_size=len(seeds)))
    return Query(
        np.array(seeds, np.int64),
        np.array(weights, np.float64),
        limit=draw(st.integers(1, 20)),
        excluded=np.array(draw(st.lists(songs)), np.int64),
        max_per_artist=draw(st.none() | st.integers(1, 3)),
        diversity=draw(st.sampled_from([0.0, 0.3, 1.0])),
        exact=draw(st.booleans()),
    )


def by_hand(scores: NDArray[np.float64], limit: int, barred: set[int]) -> list[int]:
    """All songs sorted by score and then position; the first `limit` that may be in the answer."""
    order = sorted(range(len(scores)), key=lambda song: (-scores[song], song))
    return [song for song in order if song not in barred][:limit]


class TestSimilar:
    def test_order_and_scores_are_those_of_gensim(self, tiny_model: SongModel) -> None:
        keyed = KeyedVectors(vector_size=tiny_model.vectors.shape[1])
        keys = [tiny_model.catalogue.ids[song] for song in range(len(tiny_model))]
        keyed.add_vectors(keys, tiny_model.vectors)
        ranker = ranker_of(tiny_model)
        for position, key in enumerate(keys):
            expected = keyed.most_similar(key, topn=len(keys))
            ranking = ranker.similar(position, len(keys))
            assert [keys[song] for song in ranking.positions] == [key for key, _ in expected]
            np.testing.assert_allclose(
                ranking.scores, [score for _, score in expected], rtol=0, atol=1e-6
            )

    @given(data=st.data(), exact=st.booleans())
    def test_equals_a_full_sort_of_cosines(self, data: st.DataObject, exact: bool) -> None:
        model = data.draw(song_models())
        seed = data.draw(st.integers(0, len(model) - 1))
        limit = data.draw(st.integers(1, 20))
        ranking = ranker_of(model).similar(seed, limit, exact=exact)
        vectors = model.vectors.astype(np.float64)
        lengths = np.linalg.norm(vectors, axis=1) * np.linalg.norm(vectors[seed])
        products = vectors @ vectors[seed]
        cosines = np.divide(products, lengths, out=np.zeros(len(model)), where=lengths > 0)
        best = cosines[by_hand(cosines, limit, {seed})]
        np.testing.assert_allclose(cosines[ranking.positions], best, rtol=0, atol=1e-6)
        np.testing.assert_allclose(ranking.scores, best, rtol=0, atol=1e-6)

    def test_a_song_without_direction_is_like_no_other(self) -> None:
        model = song_model([[0, 0], [1, 0], [0, 1]], [[0, 0]] * 3)
        assert ranker_of(model).similar(0, 5).scores.tolist() == [0, 0]

    def test_a_model_of_one_song_has_nothing_like_it(self) -> None:
        model = song_model([[1, 1]], [[1, 1]])
        assert len(ranker_of(model).similar(0, 5).positions) == 0


class TestEveryAnswer:
    @settings(max_examples=300, deadline=None)
    @given(st.data())
    def test_keeps_what_the_query_asks(self, data: st.DataObject) -> None:
        model = data.draw(song_models())
        asked = data.draw(queries(model))
        ranking = following(model, asked)
        found = ranking.positions.tolist()
        assert len(set(found)) == len(found) == len(ranking.scores) <= asked.limit
        assert not set(found) & {*asked.seeds.tolist(), *asked.excluded.tolist()}
        assert np.all(np.diff(ranking.scores) <= 0)
        assert np.isfinite(ranking.scores).all()
        if asked.max_per_artist is not None:
            artists = Counter(model.catalogue.artists[song].casefold() for song in found)
            artists.pop("", None)
            assert max(artists.values(), default=0) <= asked.max_per_artist

    @settings(max_examples=200, deadline=None)
    @given(st.data())
    def test_is_as_long_as_the_catalogue_allows(self, data: st.DataObject) -> None:
        model = data.draw(song_models())
        asked = data.draw(queries(model))
        barred = {*asked.seeds.tolist(), *asked.excluded.tolist()}
        allowed = [song for song in range(len(model)) if song not in barred]
        most = Counter[str]()
        for song in allowed:
            artist = model.catalogue.artists[song].casefold() or f"nobody {song}"
            most[artist] = min(most[artist] + 1, asked.max_per_artist or len(model))
        assert len(following(model, asked).positions) == min(asked.limit, most.total())

    @settings(max_examples=100, deadline=None)
    @given(st.data())
    def test_is_the_same_each_time_and_in_a_batch(self, data: st.DataObject) -> None:
        model = data.draw(song_models())
        asked = data.draw(st.lists(queries(model), min_size=1, max_size=6))
        ranker = ranker_of(model)
        for batch in (ranker.next_songs(asked), ranker.next_songs(asked)):
            for one, together in zip(asked, batch, strict=True):
                [alone] = ranker.next_songs([one])
                assert alone.positions.tolist() == together.positions.tolist()
                assert alone.scores.tolist() == together.scores.tolist()

    def test_is_the_same_among_hundreds(self, tiny_model: SongModel) -> None:
        ranker = ranker_of(tiny_model)
        asked = [query(k % 60, (7 * k + 1) % 60) for k in range(600)]
        for one, together in zip(asked, ranker.next_songs(asked), strict=True):
            assert ranker.next_songs([one])[0].positions.tolist() == together.positions.tolist()

    @settings(max_examples=100, deadline=None)
    @given(st.data())
    def test_is_explained_by_contributions_that_add_up(self, data: st.DataObject) -> None:
        model = data.draw(song_models())
        asked = data.draw(queries(model))
        ranking = following(model, asked)
        if not ranking.by_seeds:
            return
        contributions, from_playlists = ranker_of(model).reasons(asked, ranking)
        assert contributions.shape == (len(ranking.positions), len(asked.seeds))
        np.testing.assert_allclose(contributions.sum(axis=1), ranking.scores, atol=1e-9)
        np.testing.assert_allclose(from_playlists.sum(axis=1), ranking.from_playlists, atol=1e-9)
        assert not contributions[:, asked.weights == 0].any()

    def test_is_explained_though_its_seed_counts_next_to_nothing(self) -> None:
        model = song_model([[0, 0]] * 3, [[0, 0]] * 3, [[0, 1]], blend=Blend(vector_share=0))
        asked = query(0, weights=np.array([1e-107]))
        ranking = following(model, asked)
        contributions, _ = ranker_of(model).reasons(asked, ranking)
        np.testing.assert_allclose(contributions[:, 0], ranking.scores)


class TestNextSongs:
    @settings(deadline=None)
    @given(st.data())
    def test_by_vectors_alone_equals_a_full_sort_of_products(self, data: st.DataObject) -> None:
        model = replace(data.draw(song_models()), blend=VECTORS_ALONE)
        seed = data.draw(st.integers(0, len(model) - 1))
        excluded = data.draw(st.lists(st.integers(0, len(model) - 1)))
        ranking = following(model, query(seed, excluded=np.array(excluded, np.int64), limit=20))
        products = model.output_vectors.astype(np.float64) @ model.vectors[seed]
        expected = by_hand(products, 20, {seed, *excluded})
        assert ranking.positions.tolist() == expected
        likely = np.exp(products[expected])
        np.testing.assert_allclose(ranking.scores, likely / likely.sum())

    def test_by_playlists_and_vectors_is_the_weighted_mean_of_shares(self) -> None:
        model = song_model(
            [[1, 0], [0, 0], [0, 0]],
            [[0, 0], [0, 0], [np.log(3), 0]],
            [[0, 1], [0, 1], [0, 1], [0, 2], [2, 2]],
            blend=Blend(vector_share=0.4),
        )
        ranking = following(model, query(0))
        assert ranking.positions.tolist() == [1, 2]
        np.testing.assert_allclose(ranking.scores, [0.6 * 3 / 4 + 0.4 / 4, 0.6 / 4 + 0.4 * 3 / 4])
        np.testing.assert_allclose(ranking.from_playlists, [0.6 * 3 / 4, 0.6 / 4])

    def test_where_playlists_say_nothing_vectors_decide_alone(self) -> None:
        model = song_model([[1, 0]] * 3, [[0, 0], [1, 0], [2, 0]], [[1, 2]])
        ranking = following(model, query(0))
        assert ranking.positions.tolist() == [2, 1]
        assert ranking.scores.sum() == pytest.approx(1)
        assert not ranking.from_playlists.any()

    def test_the_latest_seed_counts_most(self) -> None:
        vectors = [[1, 0], [0, 1], [0, 0], [0, 0]]
        model = song_model(vectors, [[0, 0], [0, 0], [1, 0], [0, 1]], [[0, 2], [1, 3]])
        assert following(model, query(0, 1)).positions.tolist() == [3, 2]
        assert following(model, query(1, 0)).positions.tolist() == [2, 3]

    def test_a_negative_weight_turns_the_order_round(self) -> None:
        model = song_model([[1, 0]] + [[0, 0]] * 3, [[0, 0], [1, 0], [2, 0], [3, 0]])
        for weight, expected in ((1.0, [3, 2, 1]), (-1.0, [1, 2, 3])):
            asked = query(0, weights=np.array([weight]))
            assert following(model, asked).positions.tolist() == expected

    def test_a_shortlist_with_room_is_filled_by_vectors(self) -> None:
        count = SHORTLIST + 50
        outputs = [[float(k), 0.0] for k in range(count)]
        model = song_model([[0.01, 0]] * count, outputs, [[0, 1]])
        found = following(model, query(0, limit=SHORTLIST)).positions.tolist()
        assert found[0] == 1
        assert found[1:] == list(range(count - 1, count - SHORTLIST, -1))

    def test_many_excluded_songs_are_as_good_as_few(self) -> None:
        count = 3000
        model = song_model([[1, 0]] * count, [[k / count, 0] for k in range(count)])
        excluded = np.arange(count - 2000, count)
        ranking = following(model, query(0, excluded=excluded, limit=3))
        assert ranking.positions.tolist() == [999, 998, 997]

    def test_an_answer_of_few_artists_is_sought_among_all_songs(self) -> None:
        count = 5 * SHORTLIST * 10
        model = song_model(
            [[0.001, 0]] * count,
            [[float(k), 0] for k in range(count)],
            artists=["One", "Two"] + ["Many"] * (count - 2),
        )
        ranking = following(model, query(5, max_per_artist=1, limit=3))
        assert ranking.positions.tolist() == [count - 1, 1, 0]

    def test_the_model_itself_is_left_as_it_is(self, tiny_model: SongModel) -> None:
        before = tiny_model.vectors.copy(), tiny_model.output_vectors.copy()
        following(tiny_model, query(0, 3, excluded=np.array([1]), diversity=0.5))
        np.testing.assert_array_equal(tiny_model.vectors, before[0])
        np.testing.assert_array_equal(tiny_model.output_vectors, before[1])


class TestPopular:
    @given(st.data())
    def test_equals_a_full_sort_of_shares(self, data: st.DataObject) -> None:
        model = data.draw(song_models())
        excluded = data.draw(st.lists(st.integers(0, len(model) - 1)))
        limit = data.draw(st.integers(1, 20))
        ranking = following(model, query(excluded=np.array(excluded, np.int64), limit=limit))
        shares = model.play_counts / max(1, model.play_counts.sum())
        assert ranking.positions.tolist() == by_hand(shares, limit, set(excluded))
        assert ranking.scores.tolist() == shares[ranking.positions].tolist()
        assert not ranking.by_seeds

    def test_decides_where_all_seeds_weigh_nothing_and_leaves_them_out(self) -> None:
        model = song_model([[1, 1]] * 3, [[1, 1]] * 3, play_counts=[3, 2, 1])
        ranking = following(model, query(0, weights=np.zeros(1)))
        assert ranking.positions.tolist() == [1, 2]
        assert not ranking.by_seeds

    def test_decides_for_one_query_of_a_batch_alone(self) -> None:
        model = song_model([[1, 1]] * 3, [[1, 1]] * 3, play_counts=[3, 2, 1])
        answers = ranker_of(model).next_songs([query(0), query(), query(1)])
        assert [answer.by_seeds for answer in answers] == [True, False, True]

    def test_nothing_is_left_when_every_song_is_excluded(self, tiny_model: SongModel) -> None:
        everything = np.arange(len(tiny_model))
        for asked in (query(excluded=everything), query(0, excluded=everything)):
            ranking = following(tiny_model, asked)
            assert ranking.positions.shape == ranking.scores.shape == (0,)
