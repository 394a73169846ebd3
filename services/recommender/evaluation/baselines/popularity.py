"""The songs that are played most, whatever was played before."""

import numpy as np
from numpy.typing import NDArray

from services.recommender.evaluation.baselines.interface import Baseline
from services.recommender.playlists import Playlists


class Popularity(Baseline):
    """How often a song was played."""

    def fit(self, playlists: Playlists, songs: int) -> None:
        """See `Baseline`."""
        self._plays = np.bincount(playlists.songs, minlength=songs).astype(np.float32)

    def scores(self, histories: Playlists) -> NDArray[np.float32]:
        """See `Baseline`."""
        return np.tile(self._plays, (len(histories), 1))
