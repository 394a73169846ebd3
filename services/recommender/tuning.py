"""Choose the settings that find most next songs in the validation part of a corpus.

What a trial costs decides how settings are searched. The blend needs no training, so each of its
numbers is varied by itself until none helps (coordinate descent). Settings of Word2Vec are varied
one at a time, in random order, and two at a time once no single change helps (variable
neighbourhood search, Mladenović and Hansen 1997); when one helps, the blend is searched again.

Of many trials on few songs the luckiest would win. So a trial is asked for few songs first, and
only what looks better by them is judged by all, by which alone it can become the best.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from services.recommender.blend import DEFAULT_BLEND, Blend
from services.recommender.evaluation.cases import next_song_cases
from services.recommender.evaluation.metrics import CUTOFF, Quality, quality, ranks
from services.recommender.evaluation.ragged import take
from services.recommender.evaluation.split import Part, split
from services.recommender.evaluation.under_test import ModelUnderTest
from services.recommender.model import Hyperparameters, SongModel
from services.recommender.playlists import Corpus
from services.recommender.training import train

CASES = 16_000
"""Most next songs that settings are judged by."""

_GLIMPSE = 4
"""All but one in so many of them are spared where the others promise no improvement."""

Grid = Mapping[str, Sequence[Any]]
"""The numbers to be tried for each setting, by its name."""

WORD2VEC_GRID: Grid = {
    "window": (2, 3, 5, 8, 12),
    "epochs": (15, 30, 45),
    "ns_exponent": (-0.25, 0.0, 0.25, 0.5, 0.75),
    "sample": (1e-4, 1e-3, 0.0),
    "negative": (5, 10, 20),
    "alpha": (0.025, 0.05, 0.075),
    "vector_size": (32, 64, 100),
}

BLEND_GRID: Grid = {
    "sharpness": (1, 2, 3, 4, 5),
    "recency": (0.8, 0.9, 0.95, 0.98),
    "vector_share": (0.0, 0.15, 0.25, 0.4, 0.6),
    "proximity": (0.8, 0.9, 0.93, 0.96),
    "backward": (0.0, 0.3, 0.6, 0.9),
}


@dataclass(frozen=True, slots=True)
class Settings:
    """All that can be chosen for a model."""

    hyperparameters: Hyperparameters
    blend: Blend = DEFAULT_BLEND

    def changes(self, other: "Settings") -> dict[str, tuple[float, float]]:
        """What differs in `other`: by the setting's name, the value here and the value there."""
        ours, theirs = self._values(), other._values()
        return {name: (ours[name], theirs[name]) for name in ours if ours[name] != theirs[name]}

    def _values(self) -> dict[str, float]:
        return asdict(self.hyperparameters) | asdict(self.blend)


@dataclass(frozen=True, slots=True)
class Trial:
    """Settings, and how well a model with them found next songs of the validation part."""

    settings: Settings
    quality: Quality

    @property
    def objective(self) -> float:
        """What is maximised: NDCG@10, which is above 0 for every hit and most for the first rank.

        The hit rate does not see ranks, and the reciprocal rank sees little but the first few.
        """
        return self.quality.gain.value


@dataclass(frozen=True, slots=True)
class Tuning:
    """How far a search has come.

    Attributes:
        default: The settings that it began with.
        best: The best so far; the default until something is better.
        trials: How many settings were measured, the default among them.
    """

    default: Trial
    best: Trial
    trials: int


Progress = Callable[[Tuning], None]
"""Told after each trial how far the search has come."""


def tune(
    corpus: Corpus,
    default: Settings,
    seconds: float,
    *,
    word2vec: Grid = WORD2VEC_GRID,
    blends: Grid = BLEND_GRID,
    cases: int = CASES,
    seed: int = 0,
    progress: Progress | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> Tuning:
    """Search for better settings than the default ones.

    Models are trained on the training part and asked for next songs of the validation part; the
    test part is not looked at. The default is always tried, first. The search ends when no change
    helps, or with the trial in which the time runs out. As long as time does not cut it short, the
    same seed gives the same result with one worker.

    Args:
        corpus: Songs and playlists.
        default: Where the search begins; settings that are not in a grid stay.
        seconds: How long it may take.
        word2vec: Values of `Hyperparameters` to be tried.
        blends: Values of `Blend` to be tried.
        cases: Most next songs of the validation part that are asked for; a sample of more.
        seed: Of the sample and of the order of trials.
        progress: Called after each trial.
        clock: Tells the time in seconds.

    Raises:
        EvaluationError: the corpus is too small to have a validation part.
        TrainingError: the default settings give no model.
    """
    search = _Search(_Exam(corpus, cases, seed), default, clock() + seconds, progress, clock)
    random = np.random.default_rng(seed)
    model: SongModel | None = search.first
    while model:
        _vary_blend(search, model, blends)
        model = _vary_word2vec(search, word2vec, random)
    return search.tuning


class _Exam:
    """Trains on the training part, and asks for next songs of the validation part."""

    def __init__(self, corpus: Corpus, limit: int, seed: int) -> None:
        parts = split(corpus, Part.VALIDATION)
        self._training, self._cases = parts.training, next_song_cases(parts.held_out)
        rows = np.random.default_rng(seed).permutation(np.flatnonzero(~self._cases.repeats))
        self._rows = np.sort(rows[:limit])
        self._few = np.sort(rows[: max(1, limit // _GLIMPSE)])

    def train(self, settings: Settings) -> SongModel:
        return train(self._training, settings.hyperparameters, blend=settings.blend)

    def glimpse(self, model: SongModel) -> Trial:
        return self._mark(model, self._few)

    def mark(self, model: SongModel) -> Trial:
        return self._mark(model, self._rows)

    def _mark(self, model: SongModel, rows: NDArray[np.int64]) -> Trial:
        served, cases = ModelUnderTest(model, self._training.catalogue), self._cases
        # One more than counts, which shows whether the last one that counts has ties beyond it.
        answers = served.recommend(take(cases.histories, rows), CUTOFF + 1)
        found = ranks(*answers, cases.targets[rows])
        settings = Settings(model.hyperparameters, model.blend)
        return Trial(settings, quality(found, cases.playlists[rows]))


class _Search:
    """Keeps the best trial, and what was tried, until the time is up."""

    def __init__(
        self,
        exam: _Exam,
        default: Settings,
        deadline: float,
        progress: Progress | None,
        clock: Callable[[], float],
    ) -> None:
        self._exam, self._deadline, self._progress, self._clock = exam, deadline, progress, clock
        self._tried = {default}
        self.first = exam.train(default)
        self._glimpse = exam.glimpse(self.first)
        trial = exam.mark(self.first)
        self.tuning = Tuning(default=trial, best=trial, trials=1)
        self._report()

    @property
    def best(self) -> Settings:
        return self.tuning.best.settings

    def improves(self, settings: Settings, model: SongModel | None = None) -> SongModel | None:
        """Try settings, with a model of theirs but for the blend; gives it if it is the best."""
        if settings in self._tried or self._clock() >= self._deadline:
            return None
        self._tried.add(settings)
        model = replace(model, blend=settings.blend) if model else self._exam.train(settings)
        better = self._is_better(model)
        self.tuning = replace(self.tuning, trials=self.tuning.trials + 1)
        self._report()
        return model if better else None

    def _is_better(self, model: SongModel) -> bool:
        """Whether a model is the best by few songs and by all; if so, it is kept as that."""
        glimpse = self._exam.glimpse(model)
        if glimpse.objective <= self._glimpse.objective:
            return False
        trial = self._exam.mark(model)
        if trial.objective <= self.tuning.best.objective:
            return False
        self._glimpse, self.tuning = glimpse, replace(self.tuning, best=trial)
        return True

    def _report(self) -> None:
        if self._progress:
            self._progress(self.tuning)


def _vary_blend(search: _Search, model: SongModel, grid: Grid) -> None:
    """Set each number of the blend to the best of its values, until none changes."""
    before = None
    while before != search.best:
        before = search.best
        for name, values in grid.items():
            for value in values:
                blend = replace(search.best.blend, **{name: value})
                search.improves(Settings(search.best.hyperparameters, blend), model)


def _vary_word2vec(search: _Search, grid: Grid, random: np.random.Generator) -> SongModel | None:
    """Train with settings near the best until a model is better, which is given."""
    best = search.best
    for hyperparameters in _near(best.hyperparameters, grid, random):
        if model := search.improves(Settings(hyperparameters, best.blend)):
            return model
    return None


def _near(
    settings: Hyperparameters, grid: Grid, random: np.random.Generator
) -> Iterator[Hyperparameters]:
    """Those that differ in one setting, then those that differ in two, each in random order."""
    ones = [{name: value} for name, values in grid.items() for value in values]
    twos = [one | other for one, other in combinations(ones, 2)]
    for changes in (ones, twos):
        for row in random.permutation(len(changes)).tolist():
            yield replace(settings, **changes[row])
