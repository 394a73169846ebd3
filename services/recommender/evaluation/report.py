"""What an evaluation found."""

import json
from dataclasses import dataclass
from typing import Any

from services.recommender.evaluation.metrics import CUTOFF, Quality
from services.recommender.model import Evaluation, Metrics


@dataclass(frozen=True, slots=True)
class ModelReport:
    """One model's figures.

    Attributes:
        quality: Over all targets that are not repeats.
        coverage: The share of the training part's songs that it recommended to any history.
        by_popularity: The same targets, by how much they are played; those of no target left out.
        by_position: The same targets, by how many songs were played before them.
        with_repeats: Repeats are among the targets. No model recommends a song of the history, so
            each is missed: this is the quality over all plays.
    """

    quality: Quality
    coverage: float
    by_popularity: dict[str, Quality]
    by_position: dict[str, Quality]
    with_repeats: Quality


@dataclass(frozen=True, slots=True)
class Report:
    """All models' figures, on the same targets.

    Attributes:
        corpus: Name of the corpus.
        part: Which playlists were held out: "test" or "validation".
        songs: Songs of the training part, all of them candidates.
        training_playlists: Playlists of the training part.
        held_out_playlists: Playlists that the targets are from.
        targets: Targets, without those of the next two lines.
        repeats: Targets left out because they are in the history.
        unseen: Targets left out because training never saw them.
        models: By name, the model under test first.
    """

    corpus: str
    part: str
    songs: int
    training_playlists: int
    held_out_playlists: int
    targets: int
    repeats: int
    unseen: int
    models: dict[str, ModelReport]

    def summary(self) -> Evaluation:
        """What a song model keeps of it."""
        return Evaluation(
            targets=self.targets,
            metrics=tuple(
                Metrics(
                    name=name,
                    hit_rate=model.quality.hit_rate.value,
                    reciprocal_rank=model.quality.reciprocal_rank.value,
                    ndcg=model.quality.gain.value,
                    coverage=model.coverage,
                )
                for name, model in self.models.items()
            ),
        )

    def to_json(self) -> str:
        """All of it, as one JSON object on one line."""
        document = {
            "corpus": self.corpus,
            "part": self.part,
            "songs": self.songs,
            "training_playlists": self.training_playlists,
            "held_out_playlists": self.held_out_playlists,
            "targets": self.targets,
            "repeats": self.repeats,
            "unseen": self.unseen,
            "models": {name: _model(model) for name, model in self.models.items()},
        }
        return json.dumps(document, allow_nan=False)


def _model(model: ModelReport) -> dict[str, Any]:
    return {
        **_quality(model.quality),
        f"coverage@{CUTOFF}": model.coverage,
        "by_popularity": {name: _quality(one) for name, one in model.by_popularity.items()},
        "by_position": {name: _quality(one) for name, one in model.by_position.items()},
        "with_repeats": _quality(model.with_repeats),
    }


def _quality(quality: Quality) -> dict[str, Any]:
    figures = quality.figures().items()
    return {
        "targets": quality.targets,
        **{name: estimate.value for name, estimate in figures},
        "intervals": {name: [estimate.low, estimate.high] for name, estimate in figures},
    }
