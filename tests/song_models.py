"""Song models made by hand, each of whose answers tells which version gave it."""

from datetime import UTC, datetime

import numpy as np

from services.recommender.catalogue import Catalogue, Song
from services.recommender.model import CorpusStatistics, Hyperparameters, SongModel

DIMENSIONS = 8


def numbered_model(version: str, songs: int = 20) -> SongModel:
    """Songs `0@version`, `1@version` and so on, all of them called "Song", by "Band `version`"."""
    random = np.random.default_rng(songs)
    catalogue = Catalogue.from_songs(
        Song(f"{number}@{version}", f"Song {number}", f"Band {version}", ("rock",), 2000)
        for number in range(songs)
    )
    return SongModel(
        version=version,
        catalogue=catalogue,
        vectors=random.normal(size=(songs, DIMENSIONS)).astype(np.float32),
        output_vectors=random.normal(size=(songs, DIMENSIONS)).astype(np.float32),
        play_counts=np.arange(songs, 0, -1),
        hyperparameters=Hyperparameters(vector_size=DIMENSIONS),
        statistics=CorpusStatistics(name="numbers", songs=songs, playlists=songs, plays=songs),
        trained_at=datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
    )
