"""Matrix factorisation: a playlist and a song are alike where their factors' product is high."""

import numpy as np
from implicit.cpu.als import AlternatingLeastSquares
from numpy.typing import NDArray
from scipy import sparse
from threadpoolctl import threadpool_limits

from services.recommender.evaluation.baselines.incidence import incidence
from services.recommender.evaluation.baselines.interface import Baseline
from services.recommender.playlists import Playlists

# Chosen on the validation parts of yes_big and yes_small.
_FACTORS = 128
_ALPHA = 8.0
_REGULARIZATION = 30.0
_ITERATIONS = 15


class Als(Baseline):
    """Alternating least squares of Hu, Koren and Volinsky (2008), as `implicit` has it.

    A history is folded in as the row of a new playlist, whose factors have a closed form.
    """

    def fit(self, playlists: Playlists, songs: int) -> None:
        """See `Baseline`."""
        # implicit has threads of its own, between which those of BLAS would only get in the way.
        with threadpool_limits(1, "blas"):
            self._model = AlternatingLeastSquares(
                factors=_FACTORS,
                alpha=_ALPHA,
                regularization=_REGULARIZATION,
                iterations=_ITERATIONS,
                random_state=0,
            )
            self._model.fit(sparse.csr_matrix(incidence(playlists, songs)), show_progress=False)

    def scores(self, histories: Playlists) -> NDArray[np.float32]:
        """See `Baseline`."""
        songs = self._model.item_factors
        rows = sparse.csr_matrix(incidence(histories, len(songs)))
        scores: NDArray[np.float32] = (
            self._model.recalculate_user(np.arange(len(histories)), rows) @ songs.T
        )
        return scores
