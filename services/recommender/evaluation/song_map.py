"""A map of songs: near each other where they are played in like places."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from services.recommender.catalogue import Catalogue
from services.recommender.evaluation.ragged import Numbers
from services.recommender.model import SongModel

TAGS = 10
"""At most so many tags are told apart."""

NO_TAG = -1

_NEIGHBOURS = 15
_STRANGERS = 45
_ROUNDS = 150
_NEAR = 0.01  # keeps the push between songs of one place finite
_LONGEST_STEP = 1.0
_BATCH = 1024
_SEED = 0

_Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class SongMap:
    """Where the n songs of a model lie.

    Attributes:
        points: float32 (n, 2); their scale means nothing.
        tags: Those that tell most of where songs lie, at most `TAGS`, the one of most first.
        labels: For each song the number of the first of them that it has, or `NO_TAG`, int64 (n,).
    """

    points: _Floats
    tags: tuple[str, ...]
    labels: Numbers


def map_songs(model: SongModel) -> SongMap:
    """Lay a model's songs out on a plane, by the directions of their vectors."""
    directions = model.unit_vectors
    tags, labels = _label(model.catalogue, directions - directions.mean(axis=0))
    return SongMap(_lay_out(directions), tags, labels)


def _label(catalogue: Catalogue, offsets: _Floats) -> tuple[tuple[str, ...], Numbers]:
    """Choose tags one after another, and label each song by the first that it has.

    The next one is that which explains most of where the songs without a label lie, by the variance
    between those that have the tag and the rest.

    Args:
        catalogue: The n songs.
        offsets: How far each lies from the middle, (n, d).
    """
    names = catalogue.tag_names
    parts = np.ones(len(catalogue.tags), np.float32), catalogue.tags, catalogue.tag_offsets
    tagged = sparse.csr_array(parts, shape=(len(catalogue), len(names)))
    labels = np.full(len(catalogue), NO_TAG)
    tags: list[str] = []
    while len(tags) < TAGS:
        songs = np.flatnonzero(labels == NO_TAG)
        having = tagged[songs]
        if not having.nnz:
            break
        sums, counts = having.T @ offsets[songs], having.sum(axis=0)
        tag = int(np.argmax(np.sum(sums**2, axis=1) / np.maximum(1, counts)))
        labels[songs[having[:, [tag]].nonzero()[0]]] = len(tags)
        tags.append(names[tag])
    return tuple(tags), labels


def _lay_out(directions: _Floats) -> _Floats:
    """Let neighbours attract and strangers repel each other, from the principal components on.

    The forces are those of UMAP (McInnes, Healy and Melville, 2018), with every neighbour of equal
    weight: a song is drawn to those of the nearest vectors, and driven from songs drawn by chance.
    """
    songs = len(directions)
    neighbours = _nearest(directions)
    random = np.random.default_rng(_SEED)
    points = _principal_components(directions) * np.float32(np.sqrt(songs) / 10)
    for turn in range(_ROUNDS):
        pull = points[neighbours] - points[:, None]
        pull /= 1 + np.sum(pull**2, axis=2, keepdims=True)
        push = points[:, None] - points[random.integers(songs, size=(songs, _STRANGERS))]
        distance = np.sum(push**2, axis=2, keepdims=True)
        push /= (_NEAR + distance) * (1 + distance)
        step = np.clip(pull.sum(axis=1) + push.sum(axis=1), -_LONGEST_STEP, _LONGEST_STEP)
        points = points + np.float32(1 - turn / _ROUNDS) * step
    return points


def _principal_components(directions: _Floats) -> _Floats:
    """The two of most variance, float32 (n, 2)."""
    centred = directions - directions.mean(axis=0)
    _, vectors = np.linalg.eigh(centred.T @ centred)
    components: _Floats = centred @ vectors[:, -2:]
    return components


def _nearest(directions: _Floats) -> Numbers:
    """The songs of the highest cosines with each, int64 (n, `_NEIGHBOURS` or fewer)."""
    count = min(_NEIGHBOURS, len(directions) - 1)
    nearest = np.empty((len(directions), count), np.int64)
    for begin in range(0, len(directions), _BATCH):
        rows = directions[begin : begin + _BATCH]
        cosines = rows @ directions.T
        cosines[np.arange(len(rows)), np.arange(begin, begin + len(rows))] = -np.inf
        nearest[begin : begin + len(rows)] = np.argpartition(-cosines, count - 1)[:, :count]
    return nearest
