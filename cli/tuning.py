"""Search for better settings, and show how it goes."""

from rich.console import Console
from rich.progress import Progress, ProgressColumn, SpinnerColumn, Task, TextColumn
from rich.text import Text

from services.recommender.playlists import Corpus
from services.recommender.tuning import Settings, Trial, Tuning, tune


def tune_settings(corpus: Corpus, default: Settings, minutes: float, console: Console) -> Settings:
    """Search for as long as that, and give the settings that were best.

    Raises:
        EvaluationError: the corpus is too small to choose by.
        TrainingError: the default settings give no model.
    """
    columns = SpinnerColumn(), TextColumn("{task.description}"), _TimeLeft(60 * minutes)
    with Progress(*columns, console=console) as bar:
        task = bar.add_task("tuning: measuring the default")
        best: Trial | None = None

        def show(tuning: Tuning) -> None:
            nonlocal best
            if best and tuning.best != best:
                console.print(f"  {_figures(tuning.best)}: {_changes(best, tuning.best)}")
            best = tuning.best
            trials = f"{tuning.trials} trial{'s' * (tuning.trials != 1)}"
            bar.update(task, description=f"tuning: {trials}, best {_figures(best)}")

        tuning = tune(corpus, default, 60 * minutes, progress=show)
    console.print(_summary(tuning))
    return tuning.best.settings


def _summary(tuning: Tuning) -> str:
    targets = f"{tuning.default.quality.targets:,} songs of the validation part"
    found = f"tuned on {targets}, {tuning.trials} tried: default {_figures(tuning.default)}"
    if tuning.best == tuning.default:
        return f"{found}; nothing was better"
    return f"{found}; best {_figures(tuning.best)}: {_changes(tuning.default, tuning.best)}"


def _figures(trial: Trial) -> str:
    hit_rate, reciprocal_rank, gain = (
        f"{name} {estimate.value:.4f}" for name, estimate in trial.quality.figures().items()
    )
    return f"{gain} ({hit_rate}, {reciprocal_rank})"


def _changes(before: Trial, after: Trial) -> str:
    changes = before.settings.changes(after.settings)
    return ", ".join(f"{name} {old:g} -> {new:g}" for name, (old, new) in changes.items())


class _TimeLeft(ProgressColumn):
    """Minutes and seconds until the time is up; then, that the last trial is under way."""

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self._seconds = seconds

    def render(self, task: Task) -> Text:
        """See `ProgressColumn`."""
        left = self._seconds - (task.elapsed or 0.0)
        if left <= 0:
            return Text("last trial")
        minutes, seconds = divmod(int(left), 60)
        return Text(f"{minutes}:{seconds:02} left")
