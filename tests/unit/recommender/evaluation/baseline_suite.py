"""What every baseline promises; each baseline's test class inherits it."""

from abc import ABC, abstractmethod
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from services.recommender.evaluation.baselines.interface import Baseline
from services.recommender.playlists import Corpus, Playlists
from tests.unit.recommender.evaluation.conftest import KINDS, SONGS

UNPLAYED = SONGS  # a song more than there are in any playlist


def random_lists(count: int) -> list[list[int]]:
    """Histories of no to eight songs, some of them twice in one."""
    random = np.random.default_rng(0)
    return [random.integers(0, SONGS, size=k % 9).tolist() for k in range(count)]


class BaselineSuite(ABC):
    @classmethod
    @abstractmethod
    def make(cls) -> Baseline: ...

    @pytest.fixture(scope="class")
    @classmethod
    def fitted(cls, kinds_corpus: Corpus) -> Baseline:
        baseline = cls.make()
        baseline.fit(kinds_corpus.playlists, SONGS + 1)
        return baseline

    def test_songs_are_listed_once_best_first_and_none_of_the_history(
        self, fitted: Baseline
    ) -> None:
        lists = random_lists(200)
        positions, scores = fitted.recommend(Playlists.from_lists(lists), 7)
        assert positions.shape == scores.shape == (len(lists), 7)
        assert positions.dtype == np.int64
        assert scores.dtype == np.float32
        for row, line, history in zip(positions, scores, lists, strict=True):
            listed = row[row >= 0].tolist()
            assert row[len(listed) :].tolist() == [-1] * (7 - len(listed))
            assert len(set(listed)) == len(listed)
            assert not set(listed) & set(history)
            assert np.all(np.diff(line[: len(listed)]) <= 0)
            assert np.isfinite(line[: len(listed)]).all()

    def test_every_song_is_scored(self, fitted: Baseline) -> None:
        scores = fitted.scores(Playlists.from_lists([[0], [3, 6], []]))
        assert scores.shape == (3, SONGS + 1)
        assert scores.dtype == np.float32
        assert np.isfinite(scores).all()

    def test_a_song_that_is_never_played_is_never_recommended(self, fitted: Baseline) -> None:
        histories = Playlists.from_lists([[0], [1, 4], [UNPLAYED], [UNPLAYED, 2], []])
        positions, _ = fitted.recommend(histories, SONGS + 1)
        assert UNPLAYED not in positions

    def test_a_list_longer_than_the_catalogue_is_filled_up(self, fitted: Baseline) -> None:
        positions, scores = fitted.recommend(Playlists.from_lists([[0]]), SONGS + 20)
        assert positions.shape == scores.shape == (1, SONGS + 20)
        assert positions[0, SONGS:].tolist() == [-1] * 20

    def test_a_history_is_answered_alike_alone_and_among_others(self, fitted: Baseline) -> None:
        lists = random_lists(1_100)
        together = fitted.scores(Playlists.from_lists(lists))
        listed, _ = fitted.recommend(Playlists.from_lists(lists), 5)
        assert len(listed) == len(lists)
        for number in (0, 511, 512, 1_099):
            alone = fitted.scores(Playlists.from_lists([lists[number]]))
            np.testing.assert_allclose(alone[0], together[number], rtol=1e-4, atol=1e-5)

    def test_songs_that_score_the_same_are_listed_by_position(self, fitted: Baseline) -> None:
        positions, scores = fitted.recommend(Playlists.from_lists([[0], [1, 2, 3], [7]]), SONGS)
        for row, line in zip(positions, scores, strict=True):
            songs, values = row[row >= 0], line[row >= 0]
            level = values[1:] == values[:-1]
            assert np.all(songs[1:][level] > songs[:-1][level])

    def test_the_same_playlists_give_the_same_scores(
        self, fitted: Baseline, kinds_corpus: Corpus
    ) -> None:
        again = self.make()
        again.fit(Playlists.from_lists([[0, 1], [1, 2]]), 3)  # which is forgotten
        again.fit(kinds_corpus.playlists, SONGS + 1)
        histories = Playlists.from_lists([[0], [3, 6], [1, 1, 4]])
        np.testing.assert_array_equal(again.scores(histories), fitted.scores(histories))

    def test_what_it_is_given_is_left_as_it_is(self, kinds_corpus: Corpus) -> None:
        histories = Playlists.from_lists([[6, 0, 6], [9, 3, 3], []])
        playlists = kinds_corpus.playlists
        given: list[NDArray[Any]] = [histories.songs, histories.offsets]
        given += [playlists.songs, playlists.offsets]
        before = [array.copy() for array in given]
        baseline = self.make()
        baseline.fit(playlists, SONGS + 1)
        baseline.recommend(histories, 5)
        for array, copy in zip(given, before, strict=True):
            np.testing.assert_array_equal(array, copy)

    def test_no_histories_have_no_answers(self, fitted: Baseline) -> None:
        positions, scores = fitted.recommend(Playlists.from_lists([]), 5)
        assert positions.shape == scores.shape == (0, 5)

    def test_the_smallest_corpus_is_learnt_from(self) -> None:
        baseline = self.make()
        baseline.fit(Playlists.from_lists([[0, 1]]), 2)
        positions, _ = baseline.recommend(Playlists.from_lists([[0], [1], [0, 1]]), 2)
        assert set(positions[0].tolist()) <= {1, -1}
        assert set(positions[1].tolist()) <= {0, -1}
        assert positions[2].tolist() == [-1, -1]


class PersonalBaselineSuite(BaselineSuite):
    """And of those that look at the history: they know which songs go with it."""

    def test_songs_of_the_kind_that_was_played_are_recommended(self, fitted: Baseline) -> None:
        lists = [[song, (song + KINDS) % SONGS] for song in range(SONGS)]
        positions, _ = fitted.recommend(Playlists.from_lists(lists), 2)
        same = positions % KINDS == np.arange(SONGS)[:, None] % KINDS
        assert np.mean(same) > 0.9
