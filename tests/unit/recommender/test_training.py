"""Training: from playlists to a model, through gensim itself."""

from dataclasses import replace
from itertools import islice

import numpy as np
import pytest
from gensim.models import Word2Vec

from services.recommender import training
from services.recommender.catalogue import Catalogue, Song
from services.recommender.index.exact import ExactIndex
from services.recommender.model import Hyperparameters, SongModel
from services.recommender.playlists import Corpus, Playlists
from services.recommender.ranking import Query, Ranker
from services.recommender.training import DEFAULT_PRESET, PRESETS, TrainingError, train

QUICK = Hyperparameters(vector_size=8, min_count=1, epochs=2, workers=1)


def numbered_corpus() -> Corpus:
    """Songs whose ids are numbers but not their positions; "30" has 4 plays, "0" has 1."""
    songs = [Song(song_id, f"Title {song_id}", "") for song_id in ("0", "20", "10", "30")]
    playlists = Playlists.from_lists([[3, 2], [3, 2, 1], [3, 2, 1], [3, 0]])
    return Corpus("numbered", Catalogue.from_songs(songs), playlists)


def long_corpus(lengths: list[int]) -> Corpus:
    """Playlists of these lengths, of 50 songs at random."""
    random = np.random.default_rng(0)
    songs = [Song(str(k), "", "") for k in range(50)]
    playlists = [random.integers(0, 50, length).tolist() for length in lengths]
    return Corpus("long", Catalogue.from_songs(songs), Playlists.from_lists(playlists))


def ids_of(model: SongModel) -> list[str]:
    return [model.catalogue.ids[position] for position in range(len(model))]


class TestThePresets:
    def test_the_default_is_one_of_them(self) -> None:
        assert DEFAULT_PRESET in PRESETS

    def test_the_book_has_the_settings_of_the_book(self) -> None:
        assert PRESETS["book"] == Hyperparameters(
            vector_size=32, window=20, negative=50, min_count=1, workers=4
        )

    @pytest.mark.parametrize("name", PRESETS)
    def test_each_trains_a_model_that_says_how(self, name: str) -> None:
        model = train(numbered_corpus(), PRESETS[name])
        assert model.hyperparameters == PRESETS[name]
        assert model.vectors.shape == (4, PRESETS[name].vector_size)


class TestTheModel:
    def test_ids_are_strings_and_lead_to_the_song_they_name(self) -> None:
        model = train(numbered_corpus(), QUICK)
        assert ids_of(model) == ["30", "10", "20", "0"]
        for song_id in ids_of(model):
            song = model.catalogue[model.catalogue.position(song_id)]
            assert song == Song(song_id, f"Title {song_id}", "")

    def test_songs_are_ordered_by_their_plays(self, tiny_model: SongModel) -> None:
        assert train(numbered_corpus(), QUICK).play_counts.tolist() == [4, 3, 2, 1]
        assert np.all(np.diff(tiny_model.play_counts) <= 0)

    def test_songs_keep_all_that_the_corpus_says_of_them(
        self, tiny_model: SongModel, tiny_corpus: Corpus
    ) -> None:
        for position, song_id in enumerate(ids_of(tiny_model)):
            source = tiny_corpus.catalogue.position(song_id)
            assert tiny_model.catalogue[position] == tiny_corpus.catalogue[source]
            plays = np.count_nonzero(tiny_corpus.playlists.songs == source)
            assert tiny_model.play_counts[position] == plays

    def test_songs_that_are_never_played_are_not_in_it(self, tiny_model: SongModel) -> None:
        assert "unplayed" not in ids_of(tiny_model)

    def test_songs_that_are_played_too_seldom_are_not_in_it(self) -> None:
        assert ids_of(train(numbered_corpus(), replace(QUICK, min_count=2))) == ["30", "10", "20"]

    def test_its_statistics_are_those_of_the_corpus(
        self, tiny_model: SongModel, tiny_corpus: Corpus
    ) -> None:
        statistics = tiny_model.statistics
        assert statistics.name == "tiny"
        assert statistics.songs == len(tiny_model) == len(tiny_corpus.catalogue) - 1
        assert (statistics.playlists, statistics.plays) == (240, 2400)

    def test_its_arrays_are_rows_of_single_precision(self, tiny_model: SongModel) -> None:
        for array in (tiny_model.vectors, tiny_model.output_vectors):
            assert array.dtype == np.float32
            assert array.shape == (len(tiny_model), 16)
            assert array.flags.c_contiguous
            assert np.isfinite(array).all()
        lengths = np.linalg.norm(tiny_model.unit_vectors.astype(np.float64), axis=1)
        np.testing.assert_allclose(lengths, 1, rtol=1e-6)

    def test_it_keeps_the_playlists(self, tiny_model: SongModel, tiny_corpus: Corpus) -> None:
        kept = tiny_model.continuations
        kept.check()
        ids = [tiny_model.catalogue.ids[song] for song in kept.songs]
        assert ids == [tiny_corpus.catalogue.ids[song] for song in tiny_corpus.playlists.songs]
        assert kept.bounds.tolist() == tiny_corpus.playlists.offsets.tolist()

    def test_its_version_begins_with_the_time_of_training(self, tiny_model: SongModel) -> None:
        assert tiny_model.trained_at.utcoffset() is not None
        assert tiny_model.version.startswith(f"{tiny_model.trained_at:%Y%m%dT%H%M%SZ}-")

    def test_it_learns_which_songs_are_played_together(self, tiny_model: SongModel) -> None:
        """By chance, one in three songs would be of the seed's genre."""
        genres = np.array([tiny_model.catalogue[song].tags[0] for song in range(len(tiny_model))])
        ranker = Ranker(
            tiny_model, ExactIndex(tiny_model.unit_vectors), ExactIndex(tiny_model.output_vectors)
        )
        alike, after = [], []
        for song, genre in enumerate(genres):
            similar = ranker.similar(song, 5).positions
            [following] = ranker.next_songs([Query(np.array([song]), np.ones(1), limit=5)])
            alike.append(np.mean(genres[similar] == genre))
            after.append(np.mean(genres[following.positions] == genre))
        assert np.mean(alike) > 0.9
        assert np.mean(after) > 0.9


@pytest.mark.parametrize(
    "settings",
    [
        QUICK,
        replace(QUICK, window=1),
        replace(QUICK, sg=1, negative=9, ns_exponent=0.25, seed=5),
        replace(QUICK, epochs=4, sample=1e-5, alpha=0.1),
    ],
    ids=["quick", "narrow", "skip-gram", "long"],
)
def test_vectors_are_those_that_gensim_learns_with_the_same_settings(
    tiny_corpus: Corpus, settings: Hyperparameters
) -> None:
    catalogue = tiny_corpus.catalogue
    sentences = [[catalogue.ids[song] for song in p] for p in tiny_corpus.playlists]
    word2vec = Word2Vec(
        sentences,
        vector_size=settings.vector_size,
        window=settings.window,
        min_count=settings.min_count,
        negative=settings.negative,
        epochs=settings.epochs,
        sg=settings.sg,
        ns_exponent=settings.ns_exponent,
        sample=settings.sample,
        alpha=settings.alpha,
        seed=settings.seed,
        workers=1,
    )
    model = train(tiny_corpus, settings)
    assert ids_of(model) == word2vec.wv.index_to_key
    np.testing.assert_array_equal(model.vectors, word2vec.wv.vectors)
    np.testing.assert_array_equal(model.output_vectors, word2vec.syn1neg)


@pytest.mark.parametrize("kept", [0, 100_000], ids=["made for each pass", "kept as words"])
@pytest.mark.parametrize(
    ("lengths", "pieces"),
    [
        ([50] * 601, [50] * 601),
        ([0, 9_999, 1, 2, 0, 10_000, 30, 0], [9_999, 1, 2, 10_000, 30]),
        ([7, 25_000, 10_001, 8], [7, 10_000, 10_000, 5_000, 10_000, 1, 8]),
    ],
    ids=["many", "none cut", "longer than gensim takes"],
)
def test_every_play_is_learnt_from_and_a_playlist_is_cut_only_after_10_000(
    lengths: list[int], pieces: list[int], kept: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training, "_KEPT", kept)
    corpus = long_corpus(lengths)
    words = iter([corpus.catalogue.ids[song] for song in corpus.playlists.songs])
    sentences = [list(islice(words, piece)) for piece in pieces]
    word2vec = Word2Vec(sentences, vector_size=8, min_count=1, epochs=2, workers=1)
    model = train(corpus, QUICK)
    assert ids_of(model) == word2vec.wv.index_to_key
    np.testing.assert_array_equal(model.vectors, word2vec.wv.vectors)


class TestTheSeed:
    def test_the_same_one_gives_the_same_model_with_one_worker(self) -> None:
        first, second = (train(numbered_corpus(), QUICK) for _ in range(2))
        np.testing.assert_array_equal(first.vectors, second.vectors)
        np.testing.assert_array_equal(first.output_vectors, second.output_vectors)

    def test_another_one_gives_another_model(self) -> None:
        first, second = (train(numbered_corpus(), replace(QUICK, seed=seed)) for seed in (1, 2))
        assert not np.array_equal(first.vectors, second.vectors)
        assert first.version.split("-")[1] != second.version.split("-")[1]


class TestSongsThatArePlayedTooSeldom:
    def corpus(self) -> Corpus:
        songs = [Song("a", "", "Abba"), Song("b", "", "Blur"), Song("a rare", "", "abba")]
        songs += [Song("a never", "", "Abba"), Song("nobody", "", "")]
        lists = [[0, 1]] * 6 + [[0, 2], [2, 0, 4]]
        return Corpus("rare", Catalogue.from_songs(songs), Playlists.from_lists(lists))

    def test_they_are_placed_behind_the_others_where_they_have_relatives(self) -> None:
        model = train(self.corpus(), replace(QUICK, min_count=3))
        assert ids_of(model) == ["a", "b", "a rare", "a never"]
        assert model.trained == 2
        assert model.play_counts.tolist() == [8, 6, 2, 0]
        np.testing.assert_allclose(model.vectors[2], model.vectors[0], rtol=1e-5)
        np.testing.assert_allclose(model.output_vectors[3], model.output_vectors[0], rtol=1e-5)

    def test_their_plays_count_as_evidence(self) -> None:
        model = train(self.corpus(), replace(QUICK, min_count=3))
        assert model.continuations.songs.tolist()[-4:] == [0, 2, 2, 0]


class TestProgress:
    def test_it_grows_to_the_total_which_stays(self) -> None:
        told: list[tuple[int, int]] = []
        train(
            long_corpus([50] * 601), QUICK, progress=lambda read, total: told.append((read, total))
        )
        reads = [read for read, _ in told]
        assert {total for _, total in told} == {QUICK.epochs * 30_050}
        assert reads == sorted(reads)
        assert len(reads) > 3
        assert reads[-1] == QUICK.epochs * 30_050


@pytest.mark.parametrize("playlists", [[[3, 2]], []], ids=["too seldom", "none at all"])
def test_a_corpus_that_gives_no_model_is_refused(playlists: list[list[int]]) -> None:
    corpus = replace(numbered_corpus(), playlists=Playlists.from_lists(playlists))
    with pytest.raises(TrainingError, match="no song is played 5 times; lower min_count"):
        train(corpus, replace(QUICK, min_count=5))
