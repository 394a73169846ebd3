"""A model that is small, real and quick to train."""

import numpy as np
import pytest

from services.recommender.catalogue import Catalogue, Song
from services.recommender.model import Hyperparameters, SongModel
from services.recommender.playlists import Corpus, Playlists
from services.recommender.training import train

GENRES = ("metal", "soul", "techno")
SONGS_OF_A_GENRE = 20


@pytest.fixture(scope="session")
def tiny_corpus() -> Corpus:
    """60 songs of three genres, song k of genre k % 3; a playlist keeps to one genre.

    The songs of a genre differ in popularity; the last song, number 60, is never played.
    """
    songs = [
        Song(f"s{k}", f"Título {k}", f"Artist {k % 10}", (GENRES[k % 3], "radio"), 1960 + k)
        for k in range(len(GENRES) * SONGS_OF_A_GENRE)
    ]
    songs.append(Song("unplayed", "Silence", "Nobody"))
    random = np.random.default_rng(7)
    fame = np.arange(1, SONGS_OF_A_GENRE + 1) / sum(range(1, SONGS_OF_A_GENRE + 1))
    playlists = [
        (number % 3 + 3 * random.choice(SONGS_OF_A_GENRE, 10, replace=False, p=fame)).tolist()
        for number in range(240)
    ]
    return Corpus("tiny", Catalogue.from_songs(songs), Playlists.from_lists(playlists))


@pytest.fixture(scope="session")
def tiny_model(tiny_corpus: Corpus) -> SongModel:
    """What `train` makes of the tiny corpus; without the song that is never played."""
    return train(
        tiny_corpus,
        Hyperparameters(vector_size=16, window=4, min_count=1, epochs=30, sg=1, workers=1),
    )
