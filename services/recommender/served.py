"""A song model that is ready to answer: loaded, checked, and tried out."""

import weakref
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from services.recommender import artifact
from services.recommender.artifact import ArtifactError
from services.recommender.index.interface import VectorIndexError
from services.recommender.index.opening import EXACT, open_index
from services.recommender.model import SongModel
from services.recommender.ranking import Query, Ranker
from services.recommender.search import EmptyQueryError

_ANSWERS = 10


INDEXES = ".indexes"
"""Folder, among the versions, of indexes that were built."""


@dataclass(frozen=True, slots=True)
class IndexChoice:
    """Which index is used, and how much of the exact answers it must find."""

    uri: str = EXACT
    least_recall: float = 0.95


@dataclass(frozen=True)
class ServedModel:
    """A model and what is made from it when it is loaded; all that an RPC needs.

    Attributes:
        model: The model.
        ranker: Answers queries.
        index_uri: The index behind both.
        index_recall: Share of the exact answers that it found in a trial.
    """

    model: SongModel
    ranker: Ranker
    index_uri: str = EXACT
    index_recall: float = 1.0


def open_model(
    models: Path, version: str | None = None, index: IndexChoice | None = None
) -> ServedModel:
    """Load a version, and see that it answers what clients ask.

    Args:
        models: The folder of versions.
        version: Which one; the current one by default.
        index: How its vectors are searched; exactly by default.

    Raises:
        ArtifactError: it cannot be loaded or indexed, or it does not answer.
    """
    model = artifact.load(models, version)
    try:
        served = _opened(model, models / INDEXES, index or IndexChoice())
        _try_out(served)
    except VectorIndexError as error:
        raise ArtifactError(models / model.version, f"has no index: {error}") from None
    except Exception as error:
        # Whatever its arrays made of our code, a server must be able to stay with what it has.
        problem = f"does not answer: {type(error).__name__}: {error}; train again"
        raise ArtifactError(models / model.version, problem) from error
    return served


def _opened(model: SongModel, cache: Path, choice: IndexChoice) -> ServedModel:
    with ExitStack() as opened:
        likeness, outputs = (
            opened.enter_context(
                closing(
                    open_index(
                        choice.uri,
                        vectors,
                        least_recall=choice.least_recall,
                        cache=cache,
                        queries=queries,
                    )
                )
            )
            for vectors, queries in (
                (model.unit_vectors, model.unit_vectors),
                (model.output_vectors, model.vectors),
            )
        )
        served = ServedModel(
            model=model,
            ranker=Ranker(model, likeness, outputs),
            index_uri=choice.uri,
            index_recall=min(likeness.measured_recall, outputs.measured_recall),
        )
        # The indexes are closed when the last request lets the model go.
        weakref.finalize(served, opened.pop_all().close)
    return served


def _try_out(served: ServedModel) -> None:
    """Ask for the most played song, for songs like it, and for what follows it.

    Raises:
        ValueError: an answer is none.
    """
    model = served.model
    song, others = model.catalogue[0], min(_ANSWERS, len(model) - 1)
    with suppress(EmptyQueryError):  # neither title nor artist may hold a letter
        hits = served.model.search.search(f"{song.title} {song.artist}", offset=0, limit=_ANSWERS)
        positions, scores = [hit.position for hit in hits], [hit.score for hit in hits]
        _check("a search", np.array(positions), np.array(scores), 1, len(model))
    similar = served.ranker.similar(0, _ANSWERS)
    _check("similar songs", similar.positions, similar.scores, others, len(model))
    [following] = served.ranker.next_songs([Query(np.array([0]), np.ones(1), _ANSWERS)])
    _check("next songs", following.positions, following.scores, others, len(model))


def _check(
    question: str, positions: NDArray[Any], scores: NDArray[Any], least: int, songs: int
) -> None:
    """Raise ValueError unless these are songs and finite scores, and `least` of them at least."""
    if not len(positions) == len(scores) >= least:
        raise ValueError(f"{question}: {len(positions)} songs instead of {least}")
    if least and not 0 <= positions.min() <= positions.max() < songs:
        raise ValueError(f"{question}: a song that is not in the catalogue")
    if not np.isfinite(scores).all():
        raise ValueError(f"{question}: a score that is not finite")
