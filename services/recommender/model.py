"""A trained song model: what songs are like, and what comes next, by vectors and by playlists."""

from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from services.recommender.blend import Blend
from services.recommender.catalogue import Catalogue
from services.recommender.continuations import Continuations
from services.recommender.search import SongSearch


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


@dataclass(frozen=True, slots=True)
class Metrics:
    """Figures of one way to recommend; means over targets, 0 to 1, of its first ten songs."""

    name: str
    hit_rate: float
    reciprocal_rank: float
    ndcg: float
    coverage: float


@dataclass(frozen=True, slots=True)
class Evaluation:
    """How well a model's settings found the next song of playlists that training did not see."""

    targets: int
    metrics: tuple[Metrics, ...]


@dataclass(frozen=True)
class SongModel:
    """A model of n songs; a song's position is its row in every array, the most played first.

    Attributes:
        version: Name of this model; names sort by the time of training.
        catalogue: The n songs.
        vectors: Input vectors, float32 (n, d): alike for songs that are played in like places.
        unit_vectors: The input vectors at length 1, float32 (n, d); those of length 0 stay so.
        output_vectors: Output vectors, float32 (n, d): their product with an input vector says how
            likely the one song is played near the other.
        play_counts: Plays in the playlists, int64 (n,), non-increasing.
        trained: Number of songs that have vectors of their own; those of the others, which are
            played too seldom, were inferred.
        continuations: The playlists.
        blend: How vectors and playlists are blended.
        hyperparameters: Settings of the training.
        statistics: What the model was trained on.
        trained_at: When training ended, UTC.
        evaluation: How good such a model is, where that was measured.
        stored_search: Search over the songs, where that was stored.
    """

    version: str
    catalogue: Catalogue
    vectors: NDArray[np.float32] = field(repr=False)
    unit_vectors: NDArray[np.float32] = field(repr=False)
    output_vectors: NDArray[np.float32] = field(repr=False)
    play_counts: NDArray[np.int64] = field(repr=False)
    trained: int
    continuations: Continuations = field(repr=False)
    blend: Blend
    hyperparameters: Hyperparameters
    statistics: CorpusStatistics
    trained_at: datetime
    evaluation: Evaluation | None = None
    stored_search: SongSearch | None = field(default=None, repr=False)

    @cached_property
    def search(self) -> SongSearch:
        """Search over the songs; where it is not stored, it is built when it is first used."""
        return self.stored_search or SongSearch.from_catalogue(self.catalogue)

    def __len__(self) -> int:
        return len(self.catalogue)


def unit(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Vectors at length 1; those of length 0 stay as they are."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    units: NDArray[np.float32] = np.divide(
        vectors, lengths, out=np.zeros_like(vectors), where=lengths > 0
    )
    return units
