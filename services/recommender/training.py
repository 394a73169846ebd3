"""Train a song model: gensim's `Word2Vec` with playlists for sentences and songs for words."""

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import asdict
from datetime import UTC, datetime
from itertools import pairwise

import numpy as np
from gensim.models import Word2Vec
from gensim.models.word2vec import MAX_WORDS_IN_BATCH
from numpy.typing import NDArray

from services.recommender.blend import DEFAULT_BLEND, Blend
from services.recommender.catalogue import Catalogue
from services.recommender.continuations import Continuations
from services.recommender.model import (
    CorpusStatistics,
    Hyperparameters,
    SongModel,
    unit,
)
from services.recommender.placement import place, placeable
from services.recommender.playlists import Corpus

Progress = Callable[[int, int], None]
"""Told from time to time how many plays of how many have been read."""

PRESETS = {
    # The settings of the song recommender in "Hands-On Large Language Models" (Alammar and
    # Grootendorst, 2024, chapter 2).
    "book": Hyperparameters(vector_size=32, window=20, negative=50, min_count=1, workers=4),
    # A narrow window, more passes and noise that favours rare songs find what comes next far more
    # often, as Caselles-Dupré, Lesaint and Royo-Letelier (2018) saw for other sequences.
    "radio": Hyperparameters(
        vector_size=64,
        window=5,
        negative=10,
        min_count=1,
        epochs=30,
        sg=1,
        ns_exponent=0.25,
        alpha=0.05,
    ),
}
DEFAULT_PRESET = "radio"

_BLOCK = 10_000
"""Plays that are turned into words, and reported, at once; a longer playlist is one block."""

_KEPT = 10_000_000
"""Plays that are kept as words from pass to pass; as words, one takes eight bytes and more."""


class TrainingError(ValueError):
    """The corpus gives no model with these settings; the message says why."""


def train(
    corpus: Corpus,
    hyperparameters: Hyperparameters,
    *,
    blend: Blend = DEFAULT_BLEND,
    progress: Progress | None = None,
) -> SongModel:
    """Train on a corpus.

    Songs that are played fewer than `min_count` times are placed by their artists and tags, or left
    out where no other song has those. The result is the same for the same seed only with one
    worker: several race for the same vectors, which is how gensim works.

    Args:
        corpus: Songs and playlists.
        hyperparameters: Settings of `Word2Vec`.
        blend: How the model is to blend its vectors with the playlists.
        progress: Called, from gensim's own thread, while the playlists are read.

    Raises:
        TrainingError: no song is played `min_count` times.
    """
    word2vec = _learnt(_Sentences(corpus, hyperparameters.epochs, progress), hyperparameters)
    ids: list[str] = word2vec.wv.index_to_key
    trained = corpus.catalogue.positions(ids)
    rows = np.concatenate((trained, _placeable(corpus, trained)))
    catalogue = corpus.catalogue.take(rows)
    vectors = _with_placed(catalogue, word2vec.wv.vectors)
    trained_at = datetime.now(UTC).replace(microsecond=0)
    return SongModel(
        version=f"{trained_at:%Y%m%dT%H%M%SZ}-{hashlib.sha256(vectors.tobytes()).hexdigest()[:8]}",
        catalogue=catalogue,
        vectors=vectors,
        unit_vectors=unit(vectors),
        output_vectors=_with_placed(catalogue, word2vec.syn1neg),
        play_counts=np.bincount(corpus.playlists.songs, minlength=len(corpus.catalogue))[rows],
        trained=len(ids),
        continuations=Continuations.from_playlists(
            corpus.playlists.renumbered(rows, len(corpus.catalogue)), len(rows)
        ),
        blend=blend,
        hyperparameters=hyperparameters,
        statistics=CorpusStatistics(
            name=corpus.name,
            songs=len(rows),
            playlists=len(corpus.playlists),
            plays=len(corpus.playlists.songs),
        ),
        trained_at=trained_at,
    )


def _learnt(sentences: "_Sentences", hyperparameters: Hyperparameters) -> Word2Vec:
    """What gensim learns from sentences, without a pass over them to count their words."""
    word2vec = Word2Vec(**asdict(hyperparameters))
    word2vec.build_vocab_from_freq(sentences.words(), corpus_count=len(sentences))
    try:
        word2vec.train(
            sentences, total_examples=word2vec.corpus_count, epochs=hyperparameters.epochs
        )
    except RuntimeError:
        count = hyperparameters.min_count
        problem = f"no song is played {count} times; lower min_count or add playlists"
        raise TrainingError(problem) from None
    return word2vec


def _placeable(corpus: Corpus, trained: NDArray[np.int64]) -> NDArray[np.int64]:
    """The songs of a corpus that can be placed, the most played first."""
    others = np.setdiff1d(placeable(corpus.catalogue, trained), trained)
    counts = np.bincount(corpus.playlists.songs, minlength=len(corpus.catalogue))
    return others[np.argsort(-counts[others], kind="stable")]


def _with_placed(catalogue: Catalogue, trained: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.ascontiguousarray(np.concatenate((trained, place(catalogue, trained))), np.float32)


class _Sentences:
    """The playlists as gensim wants them: lists of words, read once for each pass.

    The words are the songs' ids, always strings: gensim takes a number that it does not know for
    a row of the matrix. It would drop what goes beyond 10,000 words of a sentence, so a longer
    playlist is given in pieces, which costs no more than the few pairs across each cut.
    """

    def __init__(self, corpus: Corpus, passes: int, progress: Progress | None) -> None:
        ids = corpus.catalogue.ids.all_encoded()
        self._ids = np.array([song_id.decode() for song_id in ids], dtype=object)
        self._playlists = corpus.playlists
        plays = len(corpus.playlists.songs)
        self._kept = list(self._blocks()) if plays <= _KEPT else []
        self._total = passes * plays
        self._read = 0
        self._progress = progress

    def __len__(self) -> int:
        lengths = np.diff(self._playlists.offsets)
        return int((-(-lengths // MAX_WORDS_IN_BATCH)).sum())

    def words(self) -> dict[str, int]:
        """How often each word occurs, in the order in which they first do."""
        songs = self._playlists.songs
        counts = np.bincount(songs, minlength=len(self._ids))
        firsts = np.full(len(self._ids), len(songs), np.int32)
        np.minimum.at(firsts, songs, np.arange(len(songs), dtype=np.int32))
        order = np.argsort(firsts)[: np.count_nonzero(counts)]
        return dict(zip(self._ids[order].tolist(), counts[order].tolist(), strict=True))

    def __iter__(self) -> Iterator[list[str]]:
        for block in self._kept or self._blocks():
            yield from block
            self._report(sum(map(len, block)))

    def _blocks(self) -> Iterator[list[list[str]]]:
        """Some playlists at a time: turning several into words at once takes far less time."""
        offsets = self._playlists.offsets
        first = 0
        while first < len(self._playlists):
            block = offsets[first] + _BLOCK
            last = max(first + 1, int(np.searchsorted(offsets, block, "right")) - 1)
            yield self._block(offsets[first : last + 1])
            first = last

    def _block(self, offsets: NDArray[np.int64]) -> list[list[str]]:
        words = self._ids[self._playlists.songs[offsets[0] : offsets[-1]]].tolist()
        return [
            words[piece : min(piece + MAX_WORDS_IN_BATCH, end)]
            for begin, end in pairwise((offsets - offsets[0]).tolist())
            for piece in range(begin, end, MAX_WORDS_IN_BATCH)
        ]

    def _report(self, plays: int) -> None:
        self._read += plays
        if self._progress:
            self._progress(self._read, self._total)
