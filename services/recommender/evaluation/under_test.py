"""The song model under test, as `RecommendSongs` serves it."""

from itertools import chain

import numpy as np
from numpy.typing import NDArray

from services.recommender.catalogue import Catalogue
from services.recommender.evaluation.ragged import Numbers, batches
from services.recommender.index.exact import ExactIndex
from services.recommender.model import SongModel
from services.recommender.playlists import Playlists
from services.recommender.ranking import Query, Ranker, Ranking

_BATCH = 512


class ModelUnderTest:
    """Recommends through the ranking that answers requests.

    Args:
        model: Trained on the training part.
        catalogue: Of the training part, whose positions histories and answers are in.
    """

    def __init__(self, model: SongModel, catalogue: Catalogue) -> None:
        indices = ExactIndex(model.unit_vectors), ExactIndex(model.output_vectors)
        self._ranker = Ranker(model, *indices)
        known = [catalogue.position(model.catalogue.ids[song]) for song in range(len(model))]
        self._outside = np.array(known, np.int64)
        self._inside = np.full(len(catalogue), -1, np.int64)
        self._inside[self._outside] = np.arange(len(model))

    def recommend(self, histories: Playlists, limit: int) -> tuple[Numbers, NDArray[np.float64]]:
        """See `Recommender`."""
        positions = np.full((len(histories), limit), -1, np.int64)
        scores = np.full((len(histories), limit), -np.inf)
        rankings = chain.from_iterable(
            self._rank(batch, limit) for batch in batches(histories, _BATCH)
        )
        for row, ranking in enumerate(rankings):
            positions[row, : len(ranking.positions)] = self._outside[ranking.positions]
            scores[row, : len(ranking.scores)] = ranking.scores
        return positions, scores

    def _rank(self, histories: Playlists, limit: int) -> list[Ranking]:
        seeds = [self._inside[history] for history in histories]
        known = [positions[positions >= 0] for positions in seeds]
        return self._ranker.next_songs(
            [Query(positions, np.ones(len(positions)), limit) for positions in known]
        )
