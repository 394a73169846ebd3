"""Tuning: what is tried, what is believed, and when it ends."""

import zlib
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as profile
from hypothesis import strategies as st

from services.recommender import tuning
from services.recommender.blend import Blend
from services.recommender.evaluation.cases import next_song_cases
from services.recommender.evaluation.errors import EvaluationError
from services.recommender.evaluation.metrics import quality, ranks
from services.recommender.evaluation.ragged import take
from services.recommender.evaluation.split import Part, split
from services.recommender.evaluation.under_test import ModelUnderTest
from services.recommender.model import Hyperparameters, SongModel
from services.recommender.playlists import Corpus, Playlists
from services.recommender.training import PRESETS, train
from services.recommender.tuning import BLEND_GRID, WORD2VEC_GRID, Grid, Settings, Tuning, tune

POOR = Settings(
    Hyperparameters(vector_size=4, min_count=1, epochs=1, sg=1, window=2, workers=1),
    Blend(vector_share=1.0, sharpness=1),
)
WORD2VEC: Grid = {"window": (2, 4), "epochs": (1, 8)}
BLENDS: Grid = {"sharpness": (1, 3), "vector_share": (0.0, 0.3, 1.0)}
FOR_EVER = 1e9
A_TRIAL = 10.0
TEST, VALIDATION = 0, 1


@pytest.fixture(scope="module")
def corpus(tiny_corpus: Corpus) -> Corpus:
    """150 of the tiny playlists."""
    return replace(tiny_corpus, playlists=take(tiny_corpus.playlists, np.arange(150)))


class Clock:
    """Time that only trials take: ten seconds each."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.told: list[Tuning] = []

    def __call__(self) -> float:
        return self.now

    def trial(self, tuning: Tuning) -> None:
        self.now += A_TRIAL
        self.told.append(tuning)


def search(
    corpus: Corpus,
    seconds: float = FOR_EVER,
    *,
    word2vec: Grid = WORD2VEC,
    blends: Grid = BLENDS,
    seed: int = 0,
    clock: Clock | None = None,
) -> Tuning:
    """Begin with poor settings, of which the grids know better ones."""
    clock = clock or Clock()
    return tune(
        corpus,
        POOR,
        seconds,
        word2vec=word2vec,
        blends=blends,
        seed=seed,
        progress=clock.trial,
        clock=clock,
    )


def reversed_in(corpus: Corpus, fold: int) -> Corpus:
    """The corpus with the playlists of a fold played backwards and half of their songs lost."""
    lists = [songs.tolist() for songs in corpus.playlists]
    for number, songs in enumerate(lists):
        if zlib.crc32(str(number).encode()) % 10 == fold:
            lists[number] = songs[::-2]
    return replace(corpus, playlists=Playlists.from_lists(lists))


def gain(corpus: Corpus, settings: Settings) -> float:
    """NDCG@10 on the whole validation part."""
    parts = split(corpus, Part.VALIDATION)
    model = train(parts.training, settings.hyperparameters, blend=settings.blend)
    cases = next_song_cases(parts.held_out)
    served = ModelUnderTest(model, parts.training.catalogue)
    found = ranks(*served.recommend(cases.histories, 11), cases.targets)
    first = ~cases.repeats
    return quality(found[first], cases.playlists[first]).gain.value


class TestTheResult:
    def test_begins_with_the_default_and_only_gets_better(self, corpus: Corpus) -> None:
        clock = Clock()
        result = search(corpus, clock=clock)
        assert clock.told[0].best == clock.told[0].default == result.default
        assert [told.trials for told in clock.told] == list(range(1, result.trials + 1))
        objectives = [told.best.objective for told in clock.told]
        assert objectives == sorted(objectives)
        assert clock.told[-1] == result

    def test_is_better_than_poor_settings_by_what_evaluation_measures(self, corpus: Corpus) -> None:
        result = search(corpus)
        assert result.default.settings == POOR
        assert result.best.objective > result.default.objective
        for trial in (result.default, result.best):
            assert trial.objective == gain(corpus, trial.settings)

    def test_is_the_best_of_all_where_one_number_is_varied(self, corpus: Corpus) -> None:
        shares = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
        result = search(corpus, word2vec={}, blends={"vector_share": shares})
        assert result.trials == len(shares)
        assert result.best.objective == max(
            gain(corpus, replace(POOR, blend=replace(POOR.blend, vector_share=share)))
            for share in shares
        )

    def test_is_believed_by_all_songs_and_not_by_a_few_lucky_ones(
        self, corpus: Corpus, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A high sharpness is better by 20 of these 207 songs, and worse by all of them."""
        default = replace(POOR, blend=replace(POOR.blend, vector_share=0.5))
        grid: Grid = {"sharpness": (4, 5, 8)}

        def found(cases: int) -> Settings:
            result = tune(corpus, default, FOR_EVER, cases=cases, word2vec={}, blends=grid, seed=4)
            return result.best.settings

        monkeypatch.setattr(tuning, "_GLIMPSE", 1)
        lucky = found(cases=20)
        assert gain(corpus, lucky) < gain(corpus, default)
        monkeypatch.setattr(tuning, "_GLIMPSE", 11)
        assert found(cases=220) == default

    def test_is_the_default_where_nothing_else_may_be_tried(self, corpus: Corpus) -> None:
        result = search(corpus, word2vec={}, blends={})
        assert result.best is result.default
        assert result.trials == 1

    def test_keeps_what_no_grid_names(self, corpus: Corpus) -> None:
        found = search(corpus).best.settings
        restored = replace(found.hyperparameters, window=2, epochs=1)
        assert restored == POOR.hyperparameters
        assert replace(found.blend, sharpness=1, vector_share=1.0) == POOR.blend

    def test_is_the_same_for_the_same_seed(self, corpus: Corpus) -> None:
        grid: Grid = {"window": range(3, 9), "alpha": (0.02, 0.05, 0.1)}
        first, second, other = Clock(), Clock(), Clock()
        for clock, seed in ((first, 5), (second, 5), (other, 6)):
            search(corpus, 40, word2vec=grid, blends={}, seed=seed, clock=clock)
        assert first.told == second.told
        assert first.told != other.told


class TestTheParts:
    def test_the_test_part_is_not_looked_at(self, corpus: Corpus) -> None:
        changed = reversed_in(corpus, TEST)
        assert len(changed.playlists.songs) < len(corpus.playlists.songs)
        assert search(changed) == search(corpus)

    def test_the_validation_part_decides(self, corpus: Corpus) -> None:
        changed = reversed_in(corpus, VALIDATION)
        assert search(changed, 0).default.quality != search(corpus, 0).default.quality

    def test_models_are_trained_on_the_training_part_alone(
        self, corpus: Corpus, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        seen = []

        def spy(corpus: Corpus, settings: Hyperparameters, *, blend: Blend) -> SongModel:
            seen.append(corpus.playlists.songs.tolist())
            return train(corpus, settings, blend=blend)

        monkeypatch.setattr(tuning, "train", spy)
        search(corpus)
        training = split(corpus, Part.VALIDATION).training.playlists.songs.tolist()
        assert all(songs == training for songs in seen)

    def test_many_cases_are_sampled(self, corpus: Corpus) -> None:
        whole = search(corpus, 0).default.quality
        sample = tune(corpus, POOR, 0, cases=50).default.quality
        assert sample.targets == 50 < whole.targets
        assert tune(corpus, POOR, 0, cases=50).default.quality == sample
        assert tune(corpus, POOR, 0, cases=50, seed=1).default.quality != sample

    def test_a_corpus_without_a_validation_part_is_refused(self, corpus: Corpus) -> None:
        few = Playlists.from_lists([[0, 1], [1, 0]])
        with pytest.raises(EvaluationError, match="the validation part of tiny is empty"):
            search(replace(corpus, playlists=few))


class TestTheSearch:
    @profile(max_examples=20, deadline=None)
    @given(seconds=st.floats(0, 150))
    def test_it_overruns_by_less_than_one_trial(self, corpus: Corpus, seconds: float) -> None:
        clock = Clock()
        result = search(corpus, seconds, clock=clock)
        before_the_last = (result.trials - 1) * A_TRIAL
        assert before_the_last == 0 or before_the_last < seconds

    def test_without_time_the_default_is_measured_alone(self, corpus: Corpus) -> None:
        assert search(corpus, 0).trials == 1

    def test_the_blend_is_varied_without_training(
        self, corpus: Corpus, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        trained = []

        def spy(corpus: Corpus, settings: Hyperparameters, *, blend: Blend) -> SongModel:
            trained.append(settings)
            return train(corpus, settings, blend=blend)

        monkeypatch.setattr(tuning, "train", spy)
        assert search(corpus, word2vec={}).trials > 1
        assert trained == [POOR.hyperparameters]

    def test_no_settings_are_tried_twice_and_it_ends(self, corpus: Corpus) -> None:
        everything = 2 * 2 * 2 * 3
        assert 1 < search(corpus).trials <= everything

    def test_one_setting_of_word2vec_is_changed_before_two_are(
        self, corpus: Corpus, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The default is the best here, since all others are denied their training."""
        tried: list[Settings] = []

        def spy(corpus: Corpus, settings: Hyperparameters, *, blend: Blend) -> SongModel:
            tried.append(Settings(settings, blend))
            return train(corpus, POOR.hyperparameters, blend=blend)

        monkeypatch.setattr(tuning, "train", spy)
        grid: Grid = {"window": (3, 4), "alpha": (0.01, 0.1), "negative": (5, 9)}
        search(corpus, word2vec=grid, blends={})
        changes = [len(POOR.changes(settings)) for settings in tried]
        assert changes == [0] + [1] * 5 + [2] * 8


@pytest.mark.parametrize(
    ("default", "grid"), [(PRESETS["radio"], WORD2VEC_GRID), (Blend(), BLEND_GRID)]
)
def test_the_grids_hold_different_values_that_can_be_set(
    default: Hyperparameters | Blend, grid: Grid
) -> None:
    for name, values in grid.items():
        set_to = {getattr(replace(default, **{name: value}), name) for value in values}
        assert set_to == set(values)
        assert len(set_to) == len(values) > 1


def test_changes_are_told_by_name() -> None:
    other = Settings(replace(POOR.hyperparameters, window=9), replace(POOR.blend, recency=0.5))
    assert POOR.changes(other) == {"window": (2, 9), "recency": (POOR.blend.recency, 0.5)}
    assert POOR.changes(POOR) == {}
