"""Measure settings on playlists that training does not see, with progress bars."""

from dataclasses import replace
from itertools import count

from rich.progress import Progress

from services.recommender.evaluation.baselines import BASELINES
from services.recommender.evaluation.experiment import evaluate
from services.recommender.evaluation.report import Report
from services.recommender.evaluation.split import Part, split
from services.recommender.evaluation.under_test import ModelUnderTest
from services.recommender.model import SongModel
from services.recommender.playlists import Corpus
from services.recommender.training import train
from services.recommender.tuning import Settings


def measure(corpus: Corpus, settings: Settings, part: Part) -> tuple[Report, SongModel]:
    """Train on the training part and measure on a held-out one, together with all baselines.

    Returns:
        What was found, and the model that was trained for it.

    Raises:
        EvaluationError: the corpus is too small.
        TrainingError: the settings give no model.
    """
    parts = split(corpus, part)
    # One worker, so that the figures can be had again: several race for the same vectors.
    hyperparameters = replace(settings.hyperparameters, workers=1)
    with Progress() as bar:
        training = bar.add_task("training to measure", total=None)
        model = train(
            parts.training,
            hyperparameters,
            blend=settings.blend,
            progress=lambda done, total: bar.update(training, completed=done, total=total),
        )
        measuring = bar.add_task("measuring", total=1 + len(BASELINES))
        measured = count()
        report = evaluate(
            parts,
            ModelUnderTest(model, parts.training.catalogue),
            lambda name: bar.update(
                measuring, description=f"measuring {name}", completed=next(measured)
            ),
        )
        bar.update(measuring, description="measuring", completed=next(measured))
    return report, model
