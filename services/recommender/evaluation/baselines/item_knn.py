"""Songs that are in the same playlists as those of the history."""

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from services.recommender.evaluation.baselines.incidence import incidence
from services.recommender.evaluation.baselines.interface import Baseline
from services.recommender.playlists import Playlists

# Chosen on the validation parts of yes_big and yes_small, as was the use of all neighbours.
_ASYMMETRY = 0.7
_SHRINKAGE = 1.0


class ItemKnn(Baseline):
    """The sum, over the history, of the cosine of two songs' playlists.

    Playlists are scaled to unit length, so that a long one says less of each pair (Deshpande and
    Karypis, 2004, "Item-based top-N recommendation algorithms"); the cosine is asymmetric (Aiolli,
    2013, "Efficient top-N recommendation for very large scale binary rated datasets") and shrunk
    where two songs are seldom played. All songs are neighbours. The mean over the history would
    rank alike.
    """

    def fit(self, playlists: Playlists, songs: int) -> None:
        """See `Baseline`."""
        plays = incidence(playlists, songs)
        plays = sparse.diags_array(plays.sum(axis=1) ** -0.5) @ plays
        shared = (plays.T @ plays).tocoo()
        mass = shared.diagonal()
        row, column = shared.coords
        product = mass[row] ** _ASYMMETRY * mass[column] ** (1 - _ASYMMETRY)
        cosines = shared.data / (product + _SHRINKAGE)
        self._cosines = sparse.csr_array((cosines, (row, column)), shape=shared.shape)

    def scores(self, histories: Playlists) -> NDArray[np.float32]:
        """See `Baseline`."""
        seeds = incidence(histories, self._cosines.shape[0])
        scores: NDArray[np.float32] = (seeds @ self._cosines).toarray()
        return scores
