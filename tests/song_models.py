"""Song models that are written down rather than trained."""

from collections.abc import Sequence
from datetime import UTC, datetime

import numpy as np
from hypothesis import strategies as st

from services.recommender.blend import Blend
from services.recommender.catalogue import Catalogue, Song
from services.recommender.continuations import Continuations
from services.recommender.index.exact import ExactIndex
from services.recommender.model import (
    CorpusStatistics,
    Hyperparameters,
    SongModel,
    unit,
)
from services.recommender.playlists import Playlists
from services.recommender.ranking import Ranker
from services.recommender.served import ServedModel

Rows = Sequence[Sequence[float]]


def song_model(
    vectors: Rows,
    outputs: Rows,
    playlists: Sequence[Sequence[int]] = (),
    *,
    artists: Sequence[str] | None = None,
    tags: Sequence[tuple[str, ...]] | None = None,
    blend: Blend | None = None,
    play_counts: Sequence[int] | None = None,
    version: str = "written",
) -> SongModel:
    """A model of as many songs as there are vectors, with ids "0@written", "1@written", …"""
    count = len(vectors)
    songs = [
        Song(f"{k}@{version}", f"Song {k}", artists[k] if artists else "", tags[k] if tags else ())
        for k in range(count)
    ]
    rows = np.array(vectors, np.float32).reshape(count, -1)
    played = Playlists.from_lists(playlists)
    return SongModel(
        version=version,
        catalogue=Catalogue.from_songs(songs),
        vectors=rows,
        unit_vectors=unit(rows),
        output_vectors=np.array(outputs, np.float32).reshape(count, -1),
        play_counts=np.array(play_counts if play_counts else [1] * count, np.int64),
        trained=count,
        continuations=Continuations.from_playlists(played, count),
        blend=blend or Blend(),
        hyperparameters=Hyperparameters(vector_size=rows.shape[1]),
        statistics=CorpusStatistics("written", count, len(playlists), len(played.songs)),
        trained_at=datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
    )


@st.composite
def song_models(draw: st.DrawFn) -> SongModel:
    """Small models of whole numbers, whose products have no rounding; some with playlists."""
    count = draw(st.integers(1, 12))
    numbers = st.lists(st.integers(-3, 3), min_size=2, max_size=2)
    matrices = st.lists(numbers, min_size=count, max_size=count)
    songs = st.integers(0, count - 1)
    tags = st.lists(st.sampled_from(["rock", "pop", "live"]), unique=True).map(tuple)
    return song_model(
        draw(matrices),
        draw(matrices),
        draw(st.lists(st.lists(songs, min_size=2, max_size=8), max_size=6)),
        artists=draw(
            st.lists(st.sampled_from(["", "A", "B", "b"]), min_size=count, max_size=count)
        ),
        tags=draw(st.lists(tags, min_size=count, max_size=count)),
        blend=Blend(vector_share=draw(st.sampled_from([0.0, 0.3, 1.0]))),
        play_counts=sorted(
            draw(st.lists(st.integers(0, 5), min_size=count, max_size=count)), reverse=True
        ),
    )


def numbered_model(version: str, songs: int = 20) -> SongModel:
    """A model each of whose answers tells which version gave it, by its songs' ids and artists."""
    random = np.random.default_rng(songs)
    return song_model(
        random.normal(size=(songs, 8)).tolist(),
        random.normal(size=(songs, 8)).tolist(),
        random.integers(0, songs, (songs, 5)).tolist(),
        artists=[f"Band {version}"] * songs,
        tags=[("rock",)] * songs,
        play_counts=range(songs, 0, -1),
        version=version,
    )


def served(model: SongModel) -> ServedModel:
    """A model that is ready to answer."""
    indexes = ExactIndex(model.unit_vectors), ExactIndex(model.output_vectors)
    return ServedModel(model, Ranker(model, *indexes))
