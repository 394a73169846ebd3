"""Each baseline keeps the contract, and its scores are those of its definition."""

import doctest
import math
from collections.abc import Callable
from dataclasses import asdict, replace
from itertools import permutations
from typing import Any

import numpy as np
import pytest
from gensim.models import Word2Vec
from hypothesis import given
from numpy.typing import NDArray

from services.recommender.evaluation.baselines import interface
from services.recommender.evaluation.baselines.als import Als
from services.recommender.evaluation.baselines.incidence import incidence
from services.recommender.evaluation.baselines.interface import Baseline
from services.recommender.evaluation.baselines.item_knn import ItemKnn
from services.recommender.evaluation.baselines.popularity import Popularity
from services.recommender.evaluation.baselines.rules import Association, Markov, SequentialRules
from services.recommender.evaluation.baselines.session_knn import SessionKnn
from services.recommender.evaluation.baselines.word2vec import Book
from services.recommender.playlists import Corpus, Playlists
from services.recommender.training import PRESETS
from tests.unit.recommender.evaluation.baseline_suite import BaselineSuite, PersonalBaselineSuite
from tests.unit.recommender.evaluation.strategies import SONGS, history_lists, playlist_lists

Lists = list[list[int]]


def scored(baseline: Baseline, playlists: Lists, histories: Lists) -> NDArray[np.float32]:
    """Scores of all songs after each history; those of the history itself are set to 0."""
    baseline.fit(Playlists.from_lists(playlists), SONGS)
    scores = baseline.scores(Playlists.from_lists(histories))
    return cleared(scores, histories)


def cleared(scores: NDArray[Any], histories: Lists) -> NDArray[Any]:
    for row, history in zip(scores, histories, strict=True):
        row[history] = 0
    return scores


def plays(playlists: Lists) -> NDArray[np.int64]:
    return np.bincount([song for songs in playlists for song in songs], minlength=SONGS)


class TestPopularity(BaselineSuite):
    @classmethod
    def make(cls) -> Baseline:
        return Popularity()

    @given(playlists=playlist_lists, histories=history_lists)
    def test_scores_are_plays(self, playlists: Lists, histories: Lists) -> None:
        expected = cleared(np.tile(plays(playlists), (len(histories), 1)), histories)
        np.testing.assert_array_equal(scored(Popularity(), playlists, histories), expected)


class TestMarkov(PersonalBaselineSuite):
    @classmethod
    def make(cls) -> Baseline:
        return Markov()

    def test_songs_that_followed_equally_often_are_ordered_by_popularity(self) -> None:
        playlists = [[0, 1], [0, 2], [3, 2], [3, 4], [5, 4], [6, 4]]
        baseline = Markov()
        baseline.fit(Playlists.from_lists(playlists), 7)
        positions, _ = baseline.recommend(Playlists.from_lists([[0]]), 3)
        assert positions.tolist() == [[2, 1, 4]]


class TestSequentialRules(PersonalBaselineSuite):
    @classmethod
    def make(cls) -> Baseline:
        return SequentialRules()

    def test_no_rule_spans_more_than_ten_places(self) -> None:
        baseline = SequentialRules()
        baseline.fit(Playlists.from_lists([list(range(12))]), 12)
        scores = baseline.scores(Playlists.from_lists([[0]]))[0]
        assert scores[10] == pytest.approx(1 / 10 + 1e-3)
        assert scores[11] == pytest.approx(1e-3)


class TestAssociation(PersonalBaselineSuite):
    @classmethod
    def make(cls) -> Baseline:
        return Association()

    def test_no_rule_spans_more_than_twenty_places(self) -> None:
        baseline = Association()
        baseline.fit(Playlists.from_lists([list(range(22))]), 22)
        scores = baseline.scores(Playlists.from_lists([[21]]))[0]
        assert scores[1] == pytest.approx(1 + 1e-3)
        assert scores[0] == pytest.approx(1e-3)


@pytest.mark.parametrize(
    ("make", "pair", "seed"),
    [
        (Markov, lambda distance: distance == 1, lambda age: age == 0),
        (
            SequentialRules,
            lambda distance: 1 / distance if 1 <= distance <= 10 else 0,
            lambda age: 0.9**age,
        ),
        (Association, lambda distance: abs(distance) <= 20, lambda age: 0.9**age),
    ],
)
@given(playlists=playlist_lists, histories=history_lists)
def test_rules_are_counts_of_pairs_then_popularity(
    make: Callable[[], Baseline],
    pair: Callable[[int], float],
    seed: Callable[[int], float],
    playlists: Lists,
    histories: Lists,
) -> None:
    """`pair` is by how many places apart they are, `seed` by how many songs came after it."""
    expected = np.zeros((len(histories), SONGS))
    for row, history in zip(expected, histories, strict=True):
        for age, song in enumerate(reversed(history)):
            for songs in playlists:
                for i, j in permutations(range(len(songs)), 2):
                    if songs[i] == song:
                        row[songs[j]] += seed(age) * pair(j - i)
        row /= row.max() or 1
        row += 1e-3 * plays(playlists) / plays(playlists).max()
    found = scored(make(), playlists, histories)
    np.testing.assert_allclose(found, cleared(expected, histories), rtol=1e-4, atol=1e-6)


class TestItemKnn(PersonalBaselineSuite):
    @classmethod
    def make(cls) -> Baseline:
        return ItemKnn()

    @given(playlists=playlist_lists, histories=history_lists)
    def test_scores_are_those_of_the_definition(self, playlists: Lists, histories: Lists) -> None:
        def shared(first: int, second: int) -> float:
            return sum(1 / len(set(songs)) for songs in playlists if {first, second} <= set(songs))

        def cosine(seed: int, song: int) -> float:
            lengths = math.pow(shared(seed, seed), 0.7) * math.pow(shared(song, song), 0.3)
            return shared(seed, song) / (lengths + 1)

        expected = np.array(
            [
                [
                    0 if song in history else sum(cosine(seed, song) for seed in set(history))
                    for song in range(SONGS)
                ]
                for history in histories
            ]
        )
        np.testing.assert_allclose(
            scored(ItemKnn(), playlists, histories), expected, rtol=1e-4, atol=1e-6
        )


class TestSessionKnn(PersonalBaselineSuite):
    @classmethod
    def make(cls) -> Baseline:
        return SessionKnn()

    @given(playlists=playlist_lists, histories=history_lists)
    def test_scores_are_those_of_the_definition(self, playlists: Lists, histories: Lists) -> None:
        """Where there are fewer playlists than neighbours."""

        def idf(song: int) -> float:
            return math.log(len(playlists) / max(1, sum(song in songs for songs in playlists)))

        expected = np.zeros((len(histories), SONGS))
        for row, history in zip(expected, histories, strict=True):
            for songs in playlists:
                common = set(songs) & set(history)
                if not common:
                    continue
                similarity = sum(map(idf, common)) / math.sqrt(len(set(songs)))
                age = next(k for k, song in enumerate(reversed(history)) if song in common)
                for song in set(songs) - set(history):
                    row[song] += similarity * 0.9**age * (1 + idf(song))
        np.testing.assert_allclose(
            scored(SessionKnn(), playlists, histories), expected, rtol=1e-4, atol=1e-6
        )

    def test_only_the_hundred_nearest_playlists_count(self) -> None:
        near = [[0, 1, 2]] * 100  # two songs in common with the history
        far = [[1, 3]] * 5
        other = [[4, 5]] * 50  # without which no song would tell playlists apart
        baseline = SessionKnn()
        histories = Playlists.from_lists([[0, 1]])
        baseline.fit(Playlists.from_lists(near + far + other), 6)
        assert baseline.scores(histories)[0, 3] == 0
        baseline.fit(Playlists.from_lists(near[1:] + far + other), 6)
        assert baseline.scores(histories)[0, 3] > 0


class TestAls(PersonalBaselineSuite):
    @classmethod
    def make(cls) -> Baseline:
        return Als()

    def test_a_history_is_folded_in_by_the_closed_form(self, kinds_corpus: Corpus) -> None:
        """Hu, Koren and Volinsky (2008), equation 4."""
        baseline = Als()
        baseline.fit(kinds_corpus.playlists, len(kinds_corpus.catalogue))
        songs = baseline._model.item_factors.astype(np.float64)
        history = [0, 3, 9]
        chosen = songs[history]
        confidence = 8.0
        matrix = songs.T @ songs + (confidence - 1) * chosen.T @ chosen + 30 * np.eye(128)
        taste = np.linalg.solve(matrix, confidence * chosen.sum(axis=0))
        scores = baseline.scores(Playlists.from_lists([history]))
        np.testing.assert_allclose(scores[0], songs @ taste, rtol=1e-3, atol=1e-4)


class TestBook(PersonalBaselineSuite):
    @classmethod
    def make(cls) -> Baseline:
        return Book()

    def test_scores_are_cosines_of_the_mean_vector(self, kinds_corpus: Corpus) -> None:
        sentences = [[str(song) for song in p.tolist()] for p in kinds_corpus.playlists]
        word2vec = Word2Vec(sentences, **asdict(replace(PRESETS["book"], workers=1)))
        baseline = Book()
        baseline.fit(kinds_corpus.playlists, len(kinds_corpus.catalogue))
        scores = baseline.scores(Playlists.from_lists([[0, 9, 9]]))
        mean = np.mean([word2vec.wv[song] for song in ("0", "9", "9")], axis=0)
        expected = word2vec.wv.cosine_similarities(
            mean, [word2vec.wv[str(song)] for song in range(len(kinds_corpus.catalogue))]
        )
        np.testing.assert_allclose(scores[0], expected, rtol=1e-4, atol=1e-5)


def test_incidence_says_once_that_a_playlist_has_a_song() -> None:
    matrix = incidence(Playlists.from_lists([[2, 0, 2], [], [1]]), 3)
    assert matrix.toarray().tolist() == [[1, 0, 1], [0, 0, 0], [0, 1, 0]]


def test_the_example_is_true() -> None:
    assert doctest.testmod(interface).attempted > 0
    assert doctest.testmod(interface).failed == 0
