"""From lists of songs to figures of quality, with the range that chance leaves them."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from services.recommender.evaluation.ragged import Numbers
from services.recommender.evaluation.recommender import Scores

CUTOFF = 10
"""Only the first so many songs of a list count."""

_RESAMPLES = 1000
_SEED = 0


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean over targets, and its 95 % bootstrap interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Quality:
    """How well the targets were found.

    Attributes:
        targets: How many there are.
        hit_rate: HR@10: the share of them that are in the list.
        reciprocal_rank: MRR@10: the mean of 1 / rank; 0 for one that is not in the list.
        gain: NDCG@10: the mean of 1 / log2(1 + rank), which is the gain where one song is right.
    """

    targets: int
    hit_rate: Estimate
    reciprocal_rank: Estimate
    gain: Estimate

    def figures(self) -> dict[str, Estimate]:
        """The estimates by the names that the literature gives them."""
        return {
            f"hr@{CUTOFF}": self.hit_rate,
            f"mrr@{CUTOFF}": self.reciprocal_rank,
            f"ndcg@{CUTOFF}": self.gain,
        }


def ranks(positions: Numbers, scores: Scores, targets: NDArray[np.int32]) -> Numbers:
    """The target's rank in each of n lists, from 1, int64 (n,); 0 where the list lacks it.

    Ties are broken against the model: a song that scores the same ranks above the target.

    Args:
        positions: Songs, int64 (n, limit), or -1.
        scores: Their scores (n, limit), non-increasing. A rank is exact up to `limit` - 1, since
            songs beyond the list may tie with its last one.
        targets: One for each list, int32 (n,).
    """
    found = positions == targets[:, None]
    score = np.max(scores, axis=1, where=found, initial=-np.inf, keepdims=True)
    level = np.count_nonzero((scores >= score) & (positions >= 0), axis=1)
    return np.where(found.any(axis=1), level, 0)


def quality(found: Numbers, playlists: Numbers) -> Quality:
    """Average over the targets.

    The interval is that of 1,000 resamples of the playlists, not of the targets, which within a
    playlist are not independent. Every call draws the same ones, so that the intervals of models
    can be compared.

    Args:
        found: The rank of each target, int64 (n,), as `ranks` gives it.
        playlists: The number of the playlist that it is from, int64 (n,); n > 0.
    """
    hit = (found >= 1) & (found <= CUTOFF)
    rank = np.where(hit, found, 1)
    values = np.column_stack((hit, hit / rank, hit / np.log2(1 + rank)))
    columns = _bootstrap(values, playlists).T.tolist()
    return Quality(len(found), *(Estimate(*column) for column in columns))


def coverage(positions: Numbers, songs: int) -> float:
    """The share of all songs that is in at least one of the lists (n, limit)."""
    listed = positions[:, :CUTOFF]
    return len(np.unique(listed[listed >= 0])) / songs


def _bootstrap(values: NDArray[np.float64], playlists: Numbers) -> NDArray[np.float64]:
    """Mean and 2.5 % and 97.5 % quantiles, float64 (3, columns)."""
    _, owners = np.unique(playlists, return_inverse=True)
    count = owners.max() + 1
    sums = np.column_stack([np.bincount(owners, column) for column in values.T])
    drawn = np.random.default_rng(_SEED).multinomial(count, np.full(count, 1 / count), _RESAMPLES)
    means = drawn @ sums / (drawn @ np.bincount(owners))[:, None]
    return np.vstack((values.mean(axis=0), np.quantile(means, (0.025, 0.975), axis=0)))
