"""One evaluation: what is asked, and what is reported."""

import json
from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from services.recommender.evaluation.baselines import BASELINES
from services.recommender.evaluation.cases import next_song_cases
from services.recommender.evaluation.experiment import MODEL, evaluate
from services.recommender.evaluation.ragged import Numbers
from services.recommender.evaluation.report import Report
from services.recommender.evaluation.split import Part, Split, split
from services.recommender.playlists import Corpus, Playlists


class Fixed:
    """Gives every history the answer that a function finds for it."""

    def __init__(self, answer: Callable[[int], int]) -> None:
        self._answer = answer
        self.limit = 0

    def recommend(self, histories: Playlists, limit: int) -> tuple[Numbers, NDArray[np.float64]]:
        self.limit = limit
        positions = np.full((len(histories), limit), -1, np.int64)
        positions[:, 0] = [self._answer(number) for number in range(len(histories))]
        return positions, np.zeros((len(histories), limit))


@pytest.fixture(scope="module")
def parts(kinds_corpus: Corpus) -> Split:
    return split(kinds_corpus, Part.TEST)


@pytest.fixture(scope="module")
def oracle(parts: Split) -> Fixed:
    targets = next_song_cases(parts.held_out).targets
    return Fixed(lambda number: int(targets[number]))


@pytest.fixture(scope="module")
def report(parts: Split, oracle: Fixed) -> Report:
    return evaluate(parts, oracle)


def test_a_model_that_knows_the_answer_is_always_right(report: Report) -> None:
    model = report.models[MODEL]
    for estimate in model.quality.figures().values():
        assert (estimate.value, estimate.low, estimate.high) == (1, 1, 1)
    assert model.coverage > 0.9


def test_a_model_that_knows_nothing_is_never_right(parts: Split) -> None:
    model = evaluate(parts, Fixed(lambda number: -1)).models[MODEL]
    assert [estimate.value for estimate in model.quality.figures().values()] == [0, 0, 0]
    assert model.coverage == 0


def test_one_song_more_is_asked_for_than_counts(report: Report, oracle: Fixed) -> None:
    assert oracle.limit == 11


def test_baselines_are_measured_on_the_same_targets_and_come_after(report: Report) -> None:
    assert list(report.models) == [MODEL, *BASELINES]
    assert {model.quality.targets for model in report.models.values()} == {report.targets}
    personal = set(BASELINES) - {"popularity"}
    popularity = report.models["popularity"].quality.hit_rate
    assert all(report.models[name].quality.hit_rate.low > popularity.high for name in personal)


def test_groups_are_parts_of_the_targets(report: Report) -> None:
    model = report.models[MODEL]
    assert list(model.by_popularity) == ["popular", "others"]
    assert list(model.by_position) == ["1", "2-4", "5-9"]  # playlists are of eight songs
    for groups in (model.by_popularity, model.by_position):
        assert sum(group.targets for group in groups.values()) == report.targets


def test_the_popular_songs_are_the_most_played_tenth(parts: Split, report: Report) -> None:
    cases = next_song_cases(parts.held_out)
    plays = np.bincount(parts.training.playlists.songs)
    most_played = np.argsort(-plays, kind="stable")[: round(0.1 * len(plays))]
    targets = cases.targets[~cases.repeats]
    expected = np.count_nonzero(np.isin(targets, most_played))
    assert report.models[MODEL].by_popularity["popular"].targets == expected


def test_repeats_are_counted_and_kept_in_a_second_figure(parts: Split, report: Report) -> None:
    cases = next_song_cases(parts.held_out)
    assert report.repeats == np.count_nonzero(cases.repeats) > 0
    assert report.targets == len(cases) - report.repeats
    for name in BASELINES:
        once, again = report.models[name].quality, report.models[name].with_repeats
        assert again.targets == len(cases)
        # None recommends a song of the history, so each repeat is missed.
        hits = once.hit_rate.value * once.targets
        assert again.hit_rate.value * again.targets == pytest.approx(hits)


def test_what_was_measured_is_told(parts: Split, report: Report) -> None:
    assert (report.corpus, report.part) == ("kinds", "test")
    assert report.songs == len(parts.training.catalogue)
    assert report.training_playlists == len(parts.training.playlists)
    assert report.held_out_playlists == len(parts.held_out)
    assert report.unseen == next_song_cases(parts.held_out).unseen


def test_progress_names_each_model_before_it_is_measured(parts: Split, oracle: Fixed) -> None:
    told: list[str] = []
    evaluate(parts, oracle, told.append)
    assert told == [MODEL, *BASELINES]


def test_json_holds_all_of_it(report: Report) -> None:
    document = json.loads(report.to_json())
    assert "\n" not in report.to_json()
    assert (document["targets"], document["repeats"]) == (report.targets, report.repeats)
    assert list(document["models"]) == list(report.models)
    for name, model in report.models.items():
        figures = document["models"][name]
        assert figures["coverage@10"] == model.coverage
        for key, quality in (
            (figures, model.quality),
            (figures["with_repeats"], model.with_repeats),
            (figures["by_popularity"]["others"], model.by_popularity["others"]),
            (figures["by_position"]["2-4"], model.by_position["2-4"]),
        ):
            assert key["targets"] == quality.targets
            for metric, estimate in quality.figures().items():
                assert key[metric] == estimate.value
                assert key["intervals"][metric] == [estimate.low, estimate.high]


def test_the_summary_holds_each_model_by_name_the_one_under_test_first(report: Report) -> None:
    summary = report.summary()
    assert summary.targets == report.targets
    assert [metrics.name for metrics in summary.metrics] == list(report.models)
    for metrics, model in zip(summary.metrics, report.models.values(), strict=True):
        assert metrics.hit_rate == model.quality.hit_rate.value
        assert metrics.reciprocal_rank == model.quality.reciprocal_rank.value
        assert metrics.ndcg == model.quality.gain.value
        assert metrics.coverage == model.coverage
