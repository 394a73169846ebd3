"""From seeds to songs: scores, exclusions, the best of them.

Two questions have two answers. *Which songs are like this one?* is the cosine of input vectors.
*What comes next?* is the product of the seeds' input vectors with the others' output vectors, which
is what skip-gram with negative sampling was trained to predict (Mikolov et al., 2013).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from services.recommender.model import SongModel

Positions = NDArray[np.int64]

RECENCY = 0.9
"""What a seed counts, compared with the one that was played after it."""


@dataclass(frozen=True, slots=True)
class Ranking:
    """The best songs, best first.

    Attributes:
        positions: int64 (k,), each once; songs that are equally good by position.
        scores: float64 (k,), non-increasing.
    """

    positions: Positions
    scores: NDArray[np.float64]


def similar(model: SongModel, position: int, limit: int) -> Ranking:
    """Rank songs by the cosine of their vector and one song's, which is left out.

    The order is that of gensim's `most_similar`, but for songs whose cosines differ by no more
    than the rounding of float32.
    """
    vector = model.vectors[position]
    lengths = model.norms * model.norms[position]
    products = model.vectors @ vector
    cosines = np.divide(products, lengths, out=np.zeros_like(products), where=lengths > 0)
    return _best(cosines.astype(np.float64), limit, np.array([position]))


def next_songs(
    model: SongModel,
    seeds: Positions,
    weights: NDArray[np.float64],
    limit: int,
    exclude: Positions,
) -> Ranking:
    """Rank songs by how likely they follow the seeds, which are left out.

    A song's logit is the mean, over the seeds, of the product of the seed's input vector with the
    song's output vector, weighted by the seed's weight and its recency; the score is the logistic
    function of it: the model's estimate that the song was played near the seeds, rather than drawn
    at random.

    Args:
        model: The model.
        seeds: Positions of the songs that were played, the latest last; at least one.
        weights: A weight for each seed, not all zero; negative for songs that are not liked.
        limit: Most songs in the answer.
        exclude: Positions of more songs to be left out.

    Raises:
        ValueError: the weights are all zero, or one of them is not finite.
    """
    if not np.isfinite(weights).all() or not weights.any():
        raise ValueError("the weights must be finite and not all zero")
    recency = RECENCY ** np.arange(len(seeds) - 1, -1, -1)
    shares = weights * recency
    shares = shares / np.abs(shares).sum()
    taste = shares.astype(np.float32) @ model.vectors[seeds]
    logits = (model.output_vectors @ taste).astype(np.float64)
    ranking = _best(logits, limit, np.concatenate((seeds, exclude)))
    return Ranking(ranking.positions, 1 / (1 + np.exp(-ranking.scores)))


def popular(model: SongModel, limit: int, exclude: Positions) -> Ranking:
    """Rank songs by their share of all plays."""
    shares = model.play_counts / max(1, model.play_counts.sum())
    return _best(shares, limit, exclude)


def _best(scores: NDArray[np.float64], limit: int, exclude: Positions) -> Ranking:
    """Pick the highest scores without sorting them all; changes `scores`."""
    scores[exclude] = -np.inf
    count = min(limit, int(np.count_nonzero(scores > -np.inf)))
    if count == 0:
        return Ranking(np.empty(0, np.int64), np.empty(0))
    least = np.partition(scores, -count)[-count]
    candidates = np.flatnonzero(scores >= least)
    order = np.lexsort((candidates, -scores[candidates]))[:count]
    return Ranking(candidates[order], scores[candidates[order]])
