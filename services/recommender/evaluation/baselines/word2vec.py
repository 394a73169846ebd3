"""The song recommender of "Hands-On Large Language Models" (Alammar and Grootendorst, 2024)."""

from dataclasses import asdict, replace

import numpy as np
from gensim.models import Word2Vec
from numpy.typing import NDArray

from services.recommender.evaluation.baselines.incidence import recent
from services.recommender.evaluation.baselines.interface import Baseline
from services.recommender.playlists import Playlists
from services.recommender.training import PRESETS


class Book(Baseline):
    """The cosine of a song's vector and the mean of the history's.

    Trained with the book's settings, but by one worker, so that the figures can be had again. The
    mean is of vectors as they are: on validation that was better than of their directions.
    """

    def fit(self, playlists: Playlists, songs: int) -> None:
        """See `Baseline`."""
        sentences = [[str(song) for song in playlist.tolist()] for playlist in playlists]
        word2vec = Word2Vec(sentences, **asdict(replace(PRESETS["book"], workers=1)))
        positions = np.array(word2vec.wv.index_to_key, np.int64)
        self._vectors = np.zeros((songs, word2vec.vector_size), np.float32)
        self._vectors[positions] = word2vec.wv.vectors
        self._directions = np.zeros_like(self._vectors)
        self._directions[positions] = word2vec.wv.get_normed_vectors()

    def scores(self, histories: Playlists) -> NDArray[np.float32]:
        """See `Baseline`."""
        taste = recent(histories, len(self._vectors), discount=1) @ self._vectors
        length = np.linalg.norm(taste, axis=1, keepdims=True)
        taste = np.divide(taste, length, out=taste, where=length > 0)
        scores: NDArray[np.float32] = taste @ self._directions.T
        return scores
