"""A trained song model: vectors for what a song is like, and for what comes near it."""

from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from services.recommender.catalogue import Catalogue


@dataclass(frozen=True, slots=True)
class Hyperparameters:
    """Settings of gensim's `Word2Vec`, under its names and with its defaults."""

    vector_size: int = 100
    window: int = 5
    min_count: int = 5
    negative: int = 5
    epochs: int = 5
    sg: int = 0
    ns_exponent: float = 0.75
    sample: float = 1e-3
    alpha: float = 0.025
    seed: int = 1
    workers: int = 3


@dataclass(frozen=True, slots=True)
class CorpusStatistics:
    """What the playlists held."""

    name: str
    songs: int
    playlists: int
    plays: int


@dataclass(frozen=True)
class SongModel:
    """A model of n songs; a song's position is its row in every array, the most played first.

    Attributes:
        version: Name of this model; names sort by the time of training.
        catalogue: The n songs.
        vectors: Input vectors, float32 (n, d): alike for songs that are played in like places.
        output_vectors: Output vectors, float32 (n, d): their product with an input vector says how
            likely the one song is played near the other.
        play_counts: Plays in the playlists, int64 (n,), non-increasing.
        hyperparameters: Settings of the training.
        statistics: What the model was trained on.
        trained_at: When training ended, UTC.
    """

    version: str
    catalogue: Catalogue
    vectors: NDArray[np.float32] = field(repr=False)
    output_vectors: NDArray[np.float32] = field(repr=False)
    play_counts: NDArray[np.int64] = field(repr=False)
    hyperparameters: Hyperparameters
    statistics: CorpusStatistics
    trained_at: datetime

    def __len__(self) -> int:
        return len(self.catalogue)

    @cached_property
    def norms(self) -> NDArray[np.float32]:
        """Lengths of the input vectors, float32 (n,)."""
        norms: NDArray[np.float32] = np.linalg.norm(self.vectors, axis=1)
        return norms
