"""Train and download with progress bars."""

from dataclasses import replace
from pathlib import Path

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)

from cli.extras import MissingExtraError, require_evaluation
from cli.tuning import tune_settings
from services.recommender import artifact, formats
from services.recommender.download import DownloadError, download_dataset, resolve_source
from services.recommender.evaluation.errors import EvaluationError
from services.recommender.evaluation.split import Part
from services.recommender.model import Evaluation, SongModel
from services.recommender.playlists import Corpus
from services.recommender.starter import starter_corpus
from services.recommender.training import PRESETS, TrainingError, train
from services.recommender.tuning import Settings
from serving.settings import HomeSettings

STARTER = "starter"


class TrainError(Exception):
    """No model was trained or no data fetched; the message says why, in a line."""


def train_model(
    data: str,
    preset: str,
    models: Path | None,
    *,
    tune_minutes: float | None = None,
    measured: bool = False,
) -> Path:
    """Train on a corpus, save the model as a new version, and give its folder.

    Args:
        data: The corpus, as `read_corpus` takes it.
        preset: Settings of the training.
        models: The folder of versions; that of the settings by default.
        tune_minutes: How long to search for better settings than the preset's; not by default.
        measured: Whether the model is to say how good its settings are, on the test part.
    """
    if preset not in PRESETS:
        raise TrainError(f"there is no preset {preset!r}; known are: {', '.join(PRESETS)}")
    console = Console(highlight=False, soft_wrap=True)
    settings, evaluation = Settings(PRESETS[preset]), None
    try:
        if measured:
            require_evaluation()
        corpus = read_corpus(data)
        console.print(
            f"{corpus.name}: {len(corpus.catalogue):,} songs, {len(corpus.playlists):,} playlists"
        )
        if tune_minutes is not None:
            settings = tune_settings(corpus, settings, tune_minutes, console)
        if measured:
            evaluation = _measured(corpus, settings)
        model = replace(_trained(corpus, settings), evaluation=evaluation)
        folder = artifact.save(model, models or HomeSettings().home / "models")
    except (
        artifact.ArtifactError,
        formats.CorpusError,
        DownloadError,
        EvaluationError,
        MissingExtraError,
        TrainingError,
    ) as error:
        raise TrainError(str(error)) from None
    console.print(f"saved {folder}")
    return folder


def _measured(corpus: Corpus, settings: Settings) -> Evaluation:
    # Only here, since its packages need not be installed.
    from cli.measuring import measure

    report, _ = measure(corpus, settings, Part.TEST)
    return report.summary()


def _trained(corpus: Corpus, settings: Settings) -> SongModel:
    with _bar(TimeRemainingColumn()) as bar:
        task = bar.add_task("training", total=None)
        return train(
            corpus,
            settings.hyperparameters,
            blend=settings.blend,
            progress=lambda done, total: bar.update(task, completed=done, total=total),
        )


def read_corpus(data: str) -> Corpus:
    """Read a corpus from a folder, a file or an address, or make the built-in one.

    Raises:
        CorpusError: it is malformed.
        DownloadError: it cannot be fetched.
    """
    if data == STARTER:
        return starter_corpus()
    with _Downloads() as downloads:
        folder = resolve_source(data, HomeSettings().home / "data", downloads.report)
    return formats.read_corpus(folder)


def download_data(name: str, folder: Path | None) -> None:
    """Fetch a data set and say how to train on it."""
    try:
        with _Downloads() as downloads:
            place = download_dataset(name, folder or HomeSettings().home / "data", downloads.report)
    except DownloadError as error:
        raise TrainError(str(error)) from None
    console = Console(highlight=False, soft_wrap=True)
    console.print(f"fetched {place}; train on it with: segue train --data {place}")


class _Downloads:
    """A progress bar for each file."""

    def __init__(self) -> None:
        self._bar = _bar(DownloadColumn())
        self._tasks: dict[str, TaskID] = {}

    def __enter__(self) -> "_Downloads":
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def report(self, name: str, size: int, total: int | None) -> None:
        """Move the file's bar."""
        if name not in self._tasks:
            self._tasks[name] = self._bar.add_task(name, total=total)
        self._bar.update(self._tasks[name], completed=size, total=total)


def _bar(measure: DownloadColumn | TimeRemainingColumn) -> Progress:
    return Progress(TextColumn("{task.description}"), BarColumn(), measure)
