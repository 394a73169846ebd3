"""One evaluation: the model under test and all baselines, on the same cases."""

from collections.abc import Callable
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from services.recommender.evaluation.baselines import BASELINES
from services.recommender.evaluation.cases import LAST_PLACE, Cases, next_song_cases
from services.recommender.evaluation.metrics import CUTOFF, Quality, coverage, quality, ranks
from services.recommender.evaluation.ragged import Numbers
from services.recommender.evaluation.recommender import Recommender
from services.recommender.evaluation.report import ModelReport, Report
from services.recommender.evaluation.split import Split

MODEL = "segue"
"""The name that reports give the model under test."""

Groups = dict[str, NDArray[np.bool]]

_POPULAR = 0.1
_PLACES = (1, 2, 5, 10, 20, LAST_PLACE + 1)


def evaluate(
    split: Split, model: Recommender, progress: Callable[[str], None] = lambda name: None
) -> Report:
    """Measure a model that was trained on the training part, and every baseline.

    Args:
        split: The two parts.
        model: The model under test, in positions of the training part's catalogue.
        progress: Told the name of each model before it is fitted and measured.

    Raises:
        EvaluationError: the held-out part holds no target.
    """
    cases = next_song_cases(split.held_out)
    training = split.training
    songs = len(training.catalogue)
    popularity = _by_popularity(training.playlists.songs, songs, cases)
    groups = popularity, _by_position(cases)
    progress(MODEL)
    models = {MODEL: _measure(model, cases, songs, *groups)}
    for name, make in BASELINES.items():
        progress(name)
        baseline = make()
        baseline.fit(training.playlists, songs)
        models[name] = _measure(baseline, cases, songs, *groups)
    repeats = int(np.count_nonzero(cases.repeats))
    return Report(
        corpus=training.name,
        part=split.part,
        songs=songs,
        training_playlists=len(training.playlists),
        held_out_playlists=len(split.held_out),
        targets=len(cases) - repeats,
        repeats=repeats,
        unseen=cases.unseen,
        models=models,
    )


def _measure(
    model: Recommender, cases: Cases, songs: int, by_popularity: Groups, by_position: Groups
) -> ModelReport:
    # One more than counts, which shows whether the last one that counts has ties beyond it.
    positions, scores = model.recommend(cases.histories, CUTOFF + 1)
    found = ranks(positions, scores, cases.targets)
    first = ~cases.repeats
    return ModelReport(
        quality=quality(found[first], cases.playlists[first]),
        coverage=coverage(positions[first], songs),
        by_popularity=_in_groups(found, cases, by_popularity),
        by_position=_in_groups(found, cases, by_position),
        with_repeats=quality(found, cases.playlists),
    )


def _in_groups(found: Numbers, cases: Cases, groups: Groups) -> dict[str, Quality]:
    chosen = {name: members & ~cases.repeats for name, members in groups.items()}
    return {
        name: quality(found[members], cases.playlists[members])
        for name, members in chosen.items()
        if members.any()
    }


def _by_popularity(plays: NDArray[np.int32], songs: int, cases: Cases) -> Groups:
    order = np.argsort(-np.bincount(plays, minlength=songs), kind="stable")
    popular = np.zeros(songs, np.bool)
    popular[order[: round(_POPULAR * songs)]] = True
    return {"popular": popular[cases.targets], "others": ~popular[cases.targets]}


def _by_position(cases: Cases) -> Groups:
    """By how many songs were played before."""
    return {
        f"{first}-{end - 1}" if end - first > 1 else str(first): (cases.places >= first)
        & (cases.places < end)
        for first, end in pairwise(_PLACES)
    }
