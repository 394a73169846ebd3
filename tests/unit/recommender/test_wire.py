"""Songs as bytes: what the compiled loops write is what protobuf reads, field by field."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from segue.recommender.v1 import recommender_service_pb2 as pb
from segue.recommender.v1 import song_pb2

from services.recommender.catalogue import Catalogue, Song
from services.recommender.messages import song_message
from services.recommender.model import SongModel
from services.recommender.wire import SongWriter, batch_response
from tests.song_models import song_model

texts = st.text(max_size=5) | st.sampled_from(["", "x" * 127, "ü" * 64, "y" * 20_000])


@st.composite
def models(draw: st.DrawFn) -> SongModel:
    """Models of all kinds of songs; the last may be one without plays."""
    songs = draw(
        st.lists(
            st.builds(
                Song,
                texts,
                texts,
                texts,
                st.lists(texts, max_size=3, unique=True).map(tuple),
                st.none() | st.integers(-32_767, 32_767),
            ),
            min_size=1,
            max_size=4,
            unique_by=lambda song: song.id,
        )
    )
    counts = st.lists(st.integers(0, 2**62), min_size=len(songs), max_size=len(songs))
    model = song_model([[0.0]] * len(songs), [[0.0]] * len(songs), play_counts=draw(counts) or None)
    trained = len(songs) - draw(st.booleans())
    return replace(model, catalogue=Catalogue.from_songs(songs), trained=trained)


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_songs_are_read_as_the_messages_that_protobuf_would_make(data: st.DataObject) -> None:
    model = data.draw(models())
    positions = st.integers(0, len(model) - 1)
    scores = st.floats(allow_nan=False)
    answers = data.draw(st.lists(st.lists(st.tuples(positions, scores), max_size=5), max_size=4))
    flat = [scored for answer in answers for scored in answer]
    frames = SongWriter(model).scored(
        np.array([position for position, _ in flat], np.int64),
        np.array([score for _, score in flat], np.float64),
        np.concatenate(([0], np.cumsum([len(answer) for answer in answers]))).astype(np.int64),
    )
    for answer, frame in zip(answers, frames, strict=True):
        assert pb.RecommendSongsResponse.FromString(frame) == pb.RecommendSongsResponse(
            songs=[
                pb.ScoredSong(song=song_message(model, position), score=score)
                for position, score in answer
            ]
        )


def test_songs_are_appended_to_those_of_a_response() -> None:
    writer = SongWriter(song_model([[0.0]] * 2, [[0.0]] * 2))
    response = pb.RecommendSongsResponse(model_version="a")
    for position in (1, 0):
        frames = writer.scored(np.array([position]), np.array([0.5]), np.array([0, 1]))
        response.MergeFromString(*frames)
    assert [scored.song.id for scored in response.songs] == ["1@written", "0@written"]
    assert response.model_version == "a"


@given(st.lists(st.builds(pb.RecommendSongsResponse, unknown_song_ids=st.lists(texts)), max_size=4))
def test_a_batch_is_read_as_the_message_of_its_responses(
    responses: list[pb.RecommendSongsResponse],
) -> None:
    written = batch_response((response.SerializeToString() for response in responses), "a")
    read = pb.BatchRecommendSongsResponse.FromString(written)
    assert read == pb.BatchRecommendSongsResponse(responses=responses, model_version="a")


@pytest.mark.parametrize("message", [pb.FindSimilarSongsResponse, pb.RecommendSongsResponse])
def test_every_response_keeps_its_songs_in_the_same_field(message: type) -> None:
    frame = SongWriter(song_model([[0.0]], [[0.0]])).scored(
        np.array([0]), np.array([0.5]), np.array([0, 1])
    )[0]
    assert message.FromString(frame).songs[0].score == 0.5  # type: ignore[attr-defined]


def test_the_writer_knows_every_field_that_a_song_has() -> None:
    fields = {field.name for field in song_pb2.Song.DESCRIPTOR.fields}
    assert fields == {"id", "title", "artist", "tags", "year", "play_count", "placed"}
    scored = {field.name for field in pb.ScoredSong.DESCRIPTOR.fields}
    assert scored == {"song", "score", "reasons"}  # reasons are added to the message
