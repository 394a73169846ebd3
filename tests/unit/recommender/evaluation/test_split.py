"""The split: which playlists are held out, and what training knows."""

import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from services.recommender.catalogue import Catalogue, Song
from services.recommender.evaluation.errors import EvaluationError
from services.recommender.evaluation.split import UNSEEN, Part, split
from services.recommender.formats import read_corpus
from services.recommender.playlists import Corpus, Playlists

# Of the numbers 0 to 29, by crc32 modulo ten.
TEST, VALIDATION = {6, 29}, {3, 8, 10, 19, 27}


def corpus_of(lists: list[list[int]], songs: int) -> Corpus:
    catalogue = Catalogue.from_songs(Song(f"s{k}", f"Title {k}", "A") for k in range(songs))
    return Corpus("mine", catalogue, Playlists.from_lists(lists))


def ids(corpus: Corpus, playlist: NDArray[np.int32]) -> list[str | None]:
    return [None if song == UNSEEN else corpus.catalogue.ids[song] for song in playlist.tolist()]


def fold(number: int) -> int:
    return zlib.crc32(str(number).encode()) % 10


class TestTheParts:
    @settings(max_examples=50)
    @given(
        lists=st.lists(
            st.lists(st.integers(0, 40), min_size=0, max_size=4), min_size=40, max_size=60
        ).filter(lambda lists: sum(len(songs) > 1 for songs in lists) > 25)
    )
    def test_are_those_of_the_protocol(self, lists: list[list[int]]) -> None:
        long = [songs for songs in lists if len(songs) > 1]
        corpus = corpus_of(lists, 41)
        training = [songs for number, songs in enumerate(long) if fold(number) > 1]
        seen = {song for songs in training for song in songs}
        for part, wanted in ((Part.TEST, 0), (Part.VALIDATION, 1)):
            held_out = [songs for number, songs in enumerate(long) if fold(number) == wanted]
            parts = split(corpus, part)
            known = parts.training
            assert [ids(known, p) for p in known.playlists] == [
                [f"s{song}" for song in songs] for songs in training
            ]
            assert [ids(known, p) for p in parts.held_out] == [
                [f"s{song}" if song in seen else None for song in songs] for songs in held_out
            ]
            assert parts.part is part

    def test_are_the_same_for_ever(self) -> None:
        corpus = corpus_of([[number, number] for number in range(30)], 30)
        for part, numbers in ((Part.TEST, TEST), (Part.VALIDATION, VALIDATION)):
            parts = split(corpus, part)
            assert len(parts.held_out) == len(numbers)
            trained = {song for p in parts.training.playlists for song in ids(parts.training, p)}
            assert trained == {f"s{n}" for n in range(30) if n not in TEST | VALIDATION}

    def test_playlists_of_one_song_are_not_counted(self) -> None:
        lists = [[number, number] for number in range(30)]
        parts = split(corpus_of(lists, 31), Part.TEST)
        more = split(corpus_of([[30], *lists, [30]], 31), Part.TEST)
        assert more.held_out.songs.tolist() == parts.held_out.songs.tolist()


class TestTheCatalogueOfTraining:
    def test_holds_the_songs_that_training_plays_as_they_were(self, kinds_corpus: Corpus) -> None:
        parts = split(kinds_corpus, Part.TEST)
        catalogue = parts.training.catalogue
        assert set(parts.training.playlists.songs.tolist()) == set(range(len(catalogue)))
        for song in range(len(catalogue)):
            source = kinds_corpus.catalogue.position(catalogue.ids[song])
            assert catalogue[song] == kinds_corpus.catalogue[source]

    def test_lacks_a_song_that_only_held_out_playlists_play(self) -> None:
        lists = [[0, 1]] * 30
        for number in TEST:
            lists[number] = [0, 2]
        parts = split(corpus_of(lists, 3), Part.TEST)
        assert len(parts.training.catalogue) == 2
        assert [ids(parts.training, p) for p in parts.held_out] == [["s0", None]] * len(TEST)


@pytest.mark.parametrize(
    ("playlists", "part", "empty"),
    [(0, Part.TEST, "training"), (3, Part.TEST, "test"), (3, Part.VALIDATION, "validation")],
)
def test_a_corpus_too_small_for_a_part_is_refused(playlists: int, part: Part, empty: str) -> None:
    problem = f"the {empty} part of mine is empty: .* there are {playlists} of two songs or more"
    with pytest.raises(EvaluationError, match=problem):
        split(corpus_of([[0, 1]] * playlists, 2), part)


@pytest.mark.parametrize(
    ("name", "part", "playlists", "seen"),
    [
        ("yes_big", Part.TEST, 1_313, 9_719),
        ("yes_big", Part.VALIDATION, 1_313, 9_719),
        ("yes_small", Part.TEST, 2_438, 3_166),
        ("yes_small", Part.VALIDATION, 2_520, 3_166),
    ],
)
def test_the_real_corpora(
    shared_data: Path, name: str, part: Part, playlists: int, seen: int
) -> None:
    parts = split(read_corpus(shared_data / "yes_com" / name), part)
    assert len(parts.held_out) == playlists
    assert len(parts.training.catalogue) == seen
    assert np.array_equal(np.unique(parts.training.playlists.songs), np.arange(seen))
