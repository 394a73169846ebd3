"""A song model that is ready to answer: loaded, checked, and tried out."""

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from services.recommender import artifact
from services.recommender.artifact import ArtifactError
from services.recommender.index import ExactIndex
from services.recommender.model import SongModel
from services.recommender.ranking import Query, Ranker
from services.recommender.search import EmptyQueryError

_ANSWERS = 10


@dataclass(frozen=True)
class ServedModel:
    """A model and what is made from it when it is loaded; all that an RPC needs.

    Attributes:
        model: The model.
        ranker: Answers queries, on the event loop's thread.
        background: Answers queries on one other thread.
    """

    model: SongModel
    ranker: Ranker
    background: Ranker


def open_model(models: Path, version: str | None = None) -> ServedModel:
    """Load a version, and see that it answers what clients ask.

    Args:
        models: The folder of versions.
        version: Which one; the current one by default.

    Raises:
        ArtifactError: it cannot be loaded, or it does not answer.
    """
    model = artifact.load(models, version)
    try:
        likeness, outputs = ExactIndex(model.unit_vectors), ExactIndex(model.output_vectors)
        served = ServedModel(
            model=model,
            ranker=Ranker(model, likeness, outputs),
            background=Ranker(model, likeness, outputs),
        )
        _try_out(served)
    except Exception as error:
        # Whatever its arrays made of our code, a server must be able to stay with what it has.
        problem = f"does not answer: {type(error).__name__}: {error}; train again"
        raise ArtifactError(models / model.version, problem) from error
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
