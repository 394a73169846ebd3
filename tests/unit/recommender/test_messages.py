"""Messages: what a client is told of a model."""

from dataclasses import replace
from pathlib import Path

from services.recommender import artifact
from services.recommender.messages import describe
from services.recommender.model import Evaluation, Metrics
from services.recommender.served import open_model
from tests.song_models import numbered_model


def test_a_model_is_told_with_its_figures(tmp_path: Path) -> None:
    figures = (Metrics("segue", 0.25, 0.1, 0.125, 1.0), Metrics("popularity", 0.5, 0.75, 0, 0))
    measured = replace(numbered_model("one"), evaluation=Evaluation(1234, figures))
    artifact.save(measured, tmp_path)
    told = describe(open_model(tmp_path)).evaluation
    assert told.targets == 1234
    assert (
        tuple(
            Metrics(m.name, m.hit_rate, m.reciprocal_rank, m.ndcg, m.coverage) for m in told.metrics
        )
        == figures
    )


def test_a_model_that_was_not_measured_is_told_without_figures(tmp_path: Path) -> None:
    artifact.save(numbered_model("one"), tmp_path)
    assert not describe(open_model(tmp_path)).HasField("evaluation")
