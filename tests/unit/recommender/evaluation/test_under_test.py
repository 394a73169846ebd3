"""The model under test answers as the server does, in other positions."""

import numpy as np
import pytest

from services.recommender.catalogue import Catalogue, Song
from services.recommender.evaluation.under_test import ModelUnderTest
from services.recommender.index.exact import ExactIndex
from services.recommender.model import SongModel
from services.recommender.playlists import Corpus, Playlists
from services.recommender.ranking import Query, Ranker
from tests.song_models import song_model


@pytest.fixture(scope="module")
def served(tiny_model: SongModel, tiny_corpus: Corpus) -> ModelUnderTest:
    return ModelUnderTest(tiny_model, tiny_corpus.catalogue)


def ids(corpus: Corpus, positions: list[int]) -> list[str]:
    return [corpus.catalogue.ids[position] for position in positions]


def test_songs_are_those_of_the_ranking_by_id(
    served: ModelUnderTest, tiny_model: SongModel, tiny_corpus: Corpus
) -> None:
    ranker = Ranker(
        tiny_model, ExactIndex(tiny_model.unit_vectors), ExactIndex(tiny_model.output_vectors)
    )
    histories = [[0], [3, 6, 9], [4, 4, 1]]
    positions, scores = served.recommend(Playlists.from_lists(histories), 5)
    for row, line, history in zip(positions, scores, histories, strict=True):
        seeds = [tiny_model.catalogue.position(song) for song in ids(tiny_corpus, history)]
        [best] = ranker.next_songs([Query(np.array(seeds), np.ones(len(seeds)), 5)])
        assert ids(tiny_corpus, row.tolist()) == [
            tiny_model.catalogue.ids[song] for song in best.positions.tolist()
        ]
        assert line.tolist() == best.scores.tolist()


def test_a_history_of_no_song_that_the_model_knows_gets_popular_songs(
    served: ModelUnderTest, tiny_model: SongModel, tiny_corpus: Corpus
) -> None:
    unplayed = tiny_corpus.catalogue.position("unplayed")
    positions, _ = served.recommend(Playlists.from_lists([[], [unplayed]]), 3)
    popular = [tiny_model.catalogue.ids[song] for song in range(3)]
    assert [ids(tiny_corpus, row.tolist()) for row in positions] == [popular, popular]


def test_a_list_that_is_too_short_is_filled_up(
    served: ModelUnderTest, tiny_model: SongModel
) -> None:
    positions, _ = served.recommend(Playlists.from_lists([[0]]), len(tiny_model) + 3)
    assert positions[0, -4:].tolist() == [-1] * 4
    assert len(set(positions[0, :-4].tolist())) == len(tiny_model) - 1


def test_songs_that_the_model_left_out_are_passed_over() -> None:
    """They are neither recommended nor, in a history, in the way."""
    model = song_model(vectors=[[1, 0]] * 3, outputs=[[0, 0], [1, 0], [2, 0]])
    ids = ("left out", "2@written", "0@written", "1@written")
    served = ModelUnderTest(model, Catalogue.from_songs(Song(i, "", "") for i in ids))
    positions, _ = served.recommend(Playlists.from_lists([[2], [2, 0], [0]]), 4)
    assert positions[:2].tolist() == [[1, 3, -1, -1]] * 2
    assert sorted(positions[2].tolist()) == [-1, 1, 2, 3]
