"""What is measured: anything that recommends songs after histories."""

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from services.recommender.evaluation.ragged import Numbers
from services.recommender.playlists import Playlists

Scores = NDArray[np.float32] | NDArray[np.float64]


class Recommender(Protocol):
    """Answers histories with songs."""

    def recommend(self, histories: Playlists, limit: int) -> tuple[Numbers, Scores]:
        """Recommend at most `limit` songs after each of n histories; none is of the history.

        Returns:
            Positions, int64 (n, limit), best first, each once in a row, then -1 where there are no
            more; and their scores (n, limit), non-increasing, of which those beside -1 say nothing.
        """
