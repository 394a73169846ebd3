"""Songs, reasons and models as messages: every field says what the model says."""

from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pytest
from segue.recommender.v1 import model_pb2
from segue.recommender.v1 import recommender_service_pb2 as pb

from services.recommender.blend import Blend
from services.recommender.catalogue import Catalogue, Song
from services.recommender.live import Refusal
from services.recommender.messages import add_reasons, describe, refused, song_message
from services.recommender.model import Evaluation, Metrics, SongModel
from tests.song_models import served, song_model

SONGS = [
    Song("7", "Fade to Black", "Metallica", ("metal", "thrash metal"), 1984),
    Song("8", "Untitled", ""),
]


@pytest.fixture
def model() -> SongModel:
    """Two songs, of which the second is in no playlist."""
    model = song_model(
        [[1, 0], [0, 1]],
        [[1, 0], [0, 1]],
        [[0, 0, 0]],
        play_counts=[3, 0],
        blend=Blend(recency=0.5, proximity=0.25, backward=0.75, sharpness=2, vector_share=0.125),
    )
    return replace(model, catalogue=Catalogue.from_songs(SONGS), trained=1)


def test_a_song_is_told_as_the_corpus_spells_it(model: SongModel) -> None:
    song = song_message(model, 0)
    assert (song.id, song.title, song.artist) == ("7", "Fade to Black", "Metallica")
    assert list(song.tags) == ["metal", "thrash metal"]
    assert (song.year, song.play_count, song.placed) == (1984, 3, False)


def test_what_the_corpus_does_not_know_is_not_set(model: SongModel) -> None:
    song = song_message(model, 1)
    assert not song.HasField("year")
    assert (song.artist, list(song.tags), song.play_count) == ("", [], 0)


def test_a_song_whose_vectors_were_inferred_is_marked(model: SongModel) -> None:
    assert song_message(model, 1).placed


def test_reasons_come_by_size_whatever_their_sign_and_without_zeros() -> None:
    songs = [pb.ScoredSong(), pb.ScoredSong()]
    contributions = np.array([[0.1, -0.4, 0.0, 0.2], [0.0, 0.0, 0.0, 0.0]])
    add_reasons(songs, ["a", "b", "c", "d"], contributions, contributions / 2)
    assert list(songs[0].reasons) == [
        pb.Reason(seed_song_id="b", contribution=-0.4, from_playlists=-0.2),
        pb.Reason(seed_song_id="d", contribution=0.2, from_playlists=0.1),
        pb.Reason(seed_song_id="a", contribution=0.1, from_playlists=0.05),
    ]
    assert not songs[1].reasons


def test_a_model_is_described(model: SongModel) -> None:
    told = describe(served(model))
    assert told.version == "written"
    assert told.train_time.ToDatetime(UTC) == model.trained_at
    assert told.corpus == model_pb2.CorpusStatistics(name="written", songs=2, playlists=1, plays=3)
    assert told.hyperparameters.vector_size == 2
    assert told.blend == model_pb2.Blend(
        recency=0.5, proximity=0.25, backward=0.75, sharpness=2, vector_share=0.125
    )
    assert (told.index_uri, told.index_recall) == ("exact://", 1.0)


def test_every_setting_of_the_training_is_told(model: SongModel) -> None:
    """Each has a value that is no default of the message, so that one left out would show."""
    settings = replace(
        model.hyperparameters, window=2, min_count=3, negative=4, epochs=6, sg=1, sample=0.5, seed=9
    )
    told = describe(served(replace(model, hyperparameters=settings))).hyperparameters
    assert told == model_pb2.Hyperparameters(
        vector_size=2,
        window=2,
        min_count=3,
        negative=4,
        epochs=6,
        skip_gram=True,
        ns_exponent=0.75,
        sample=0.5,
        seed=9,
    )


def test_an_evaluation_is_told_the_model_first(model: SongModel) -> None:
    metrics = (Metrics("segue", 0.5, 0.25, 0.375, 0.75), Metrics("popularity", 0.1, 0.2, 0.3, 0.4))
    told = describe(served(replace(model, evaluation=Evaluation(200, metrics)))).evaluation
    assert told.targets == 200
    assert list(told.metrics) == [
        model_pb2.Metrics(
            name="segue", hit_rate=0.5, reciprocal_rank=0.25, ndcg=0.375, coverage=0.75
        ),
        model_pb2.Metrics(
            name="popularity", hit_rate=0.1, reciprocal_rank=0.2, ndcg=0.3, coverage=0.4
        ),
    ]


def test_a_model_that_was_not_evaluated_has_no_evaluation(model: SongModel) -> None:
    assert not describe(served(model)).HasField("evaluation")


def test_a_refused_version_is_told_with_its_reason_and_time() -> None:
    time = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    told = refused(Refusal("b", "models/b/vectors.npy: was damaged; train again", time))
    assert (told.version, told.reason) == ("b", "models/b/vectors.npy: was damaged; train again")
    assert told.refuse_time.ToDatetime(UTC) == time
