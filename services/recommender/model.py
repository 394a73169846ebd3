"""A trained song model: what songs are like, and what comes next, by vectors and by playlists."""

from dataclasses import dataclass, field
from datetime import datetime

import numpy as np
from numpy.typing import NDArray

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
class Blend:
    """How the evidence of playlists and of vectors is blended.

    Attributes:
        recency: What a seed counts, compared with the one played after it, above 0 and below 1.
        proximity: What a seed says of a song in a playlist, compared with the song next to it on
            the seed's side, above 0 and below 1.
        backward: What a seed says of songs that were played before it, compared with those after
            it, 0 to 1.
        sharpness: Exponent that favours songs with several seeds close by, 1 to 8.
        vector_share: The vectors' share of a score, 0 to 1.
    """

    recency: float = 0.95
    proximity: float = 0.93
    backward: float = 0.7
    sharpness: int = 3
    vector_share: float = 0.2

    def __post_init__(self) -> None:
        if not (
            0 < self.recency < 1
            and 0 < self.proximity < 1
            and 0 <= self.backward <= 1
            and 1 <= self.sharpness <= 8
            and 0 <= self.vector_share <= 1
        ):
            raise ValueError(f"{self} is out of range")


DEFAULT_BLEND = Blend()
"""What was best on the validation parts of two sets of radio playlists."""


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
        search: Search over them.
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
    """

    version: str
    catalogue: Catalogue
    search: SongSearch = field(repr=False)
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

    def __len__(self) -> int:
        return len(self.catalogue)


def unit(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Vectors at length 1; those of length 0 stay as they are."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    units: NDArray[np.float32] = np.divide(
        vectors, lengths, out=np.zeros_like(vectors), where=lengths > 0
    )
    return units
