"""Search: what people type finds what they mean."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.recommender.catalogue import Catalogue, Song
from services.recommender.formats.yes import read_songs
from services.recommender.search import EmptyQueryError, SearchHit, SongSearch
from services.recommender.starter.songs import read_songs as read_starter_songs
from services.recommender.words import words
from tests.unit.recommender.judged_queries import (
    CORRUPTIONS,
    TITLE_ALONE,
    judged_queries,
    shares_found,
)

SONGS = [
    Song("0", "Fade to Black", "Metallica"),
    Song("1", "Halo", "Beyoncé"),
    Song("2", "Hoppípolla", "Sigur Rós"),
    Song("3", "Let It Be", "The Beatles"),
    Song("4", "Back in Black", "AC/DC"),
    Song("5", "Whatever You Like", "T.I."),
    Song("6", "Don't Stop", "Fleetwood Mac"),
    Song("7", "99 Luftballons", "Nena"),
    Song("8", "-", "-"),
    Song("9", "Shake & Bake", "Sly & Robbie"),
    Song("10", "Halo", "Beyoncé"),
    Song("11", "Halo of Flies", "Alice Cooper"),
    Song("12", "Soul Meets Body", "The The"),
    Song("13", "上を向いて歩こう", "坂本九"),
    Song("14", "Aston Martin Music (w/ Drake & Chrisette Michelle)", "Rick Ross"),
    Song("15", "Find Your Love", "Drake"),
    Song("16", "Blackbird", "The Beatles"),
    Song("17", "Trouble", "P!nk"),
    Song("18", "Losing My Religion", "R.E.M."),
    Song("19", "I Love Rock 'n' Roll", "Joan Jett & the Blackhearts"),
    Song("20", "Smooth (featuring Rob Thomas)", "Santana"),
    Song("21", "Dixie Chicken", "Little Feat"),
    Song("22", "Boom Boom (with Carlos Santana)", "John Lee Hooker"),
    Song("23", "Ball and Chain", "Social Distortion"),
]
CATALOGUE = Catalogue.from_songs(SONGS)
SEARCH = SongSearch.from_catalogue(CATALOGUE)

queries = st.text(st.characters(exclude_categories=["Cs"]), max_size=30) | st.lists(
    st.sampled_from([word for song in SONGS for word in (song.title, song.artist)]), max_size=3
).map(" ".join)


def hits(query: str, offset: int = 0, limit: int = 100) -> list[SearchHit]:
    return SEARCH.search(query, offset=offset, limit=limit)


def found(query: str) -> list[str]:
    return [SONGS[hit.position].id for hit in hits(query)]


class TestWhatIsFound:
    @pytest.mark.parametrize(
        ("query", "song_id"),
        [
            ("fade to black", "0"),
            ("FADE TO BLACK", "0"),
            ("metallica", "0"),
            ("black fade metallica to", "0"),
            ("metalica fade", "0"),
            ("beyonce", "1"),
            ("Beyonce\u0301", "1"),
            ("beyoncee halo", "1"),
            ("hoppipolla", "2"),
            ("sigur ros", "2"),
            ("let it be beatles", "3"),
            ("the beatles let it be", "3"),
            ("let it be beetles", "3"),
            ("ac dc", "4"),
            ("acdc", "4"),
            ("ti", "5"),
            ("t i", "5"),
            ("T.I. whatever", "5"),
            ("dont stop", "6"),
            ("Don\u2019t stop", "6"),
            ("99", "7"),
            ("shake and bake", "9"),
            ("shake bake", "9"),
            ("sly & robbie", "9"),
            ("the the", "12"),
            ("坂本九", "13"),
            ("black bird", "16"),
            ("black brid beatles", "16"),
            ("pink trouble", "17"),
            ("r e m", "18"),
            ("rem loosing my religion", "18"),
            ("i love rock and roll", "19"),
            ("rock n roll joan jett", "19"),
            ("little feat", "21"),
            ("ball & chain", "23"),
        ],
    )
    def test_a_song_is_found_first_by_what_people_type(self, query: str, song_id: str) -> None:
        assert found(query)[0] == song_id

    @pytest.mark.parametrize(
        ("query", "song_id"),
        [
            ("aston martin music", "14"),
            ("aston martin music rick ross", "14"),
            ("aston martin music drake", "14"),
            ("aston martin music rick ross feat. drake", "14"),
            ("Aston Martin Music featuring Drake", "14"),
            ("aston martin music ft chrisette michelle", "14"),
            ("aston martin music w/ drake", "14"),
            ("aston martin music (with Drake)", "14"),
            ("aston martin music with drake", "14"),
            ("smooth santana", "20"),
            ("smooth santana rob thomas", "20"),
            ("boom boom john lee hooker", "22"),
            ("boom boom feat. santana", "22"),
            ("dixie chicken little feat", "21"),
        ],
    )
    def test_a_song_is_found_first_with_its_guests_or_without(
        self, query: str, song_id: str
    ) -> None:
        assert found(query)[0] == song_id

    @pytest.mark.parametrize("mark", ["", "feat. ", "ft ", "featuring ", "w/ "])
    def test_songs_of_an_artist_come_before_those_that_only_host_them(self, mark: str) -> None:
        assert found(f"{mark}drake")[:2] == ["15", "14"]

    @pytest.mark.parametrize("song", [s for s in SONGS if s.id != "8"], ids=lambda song: song.id)
    def test_title_and_artist_in_full_are_found_with_score_one(self, song: Song) -> None:
        best = hits(f"{song.artist} {song.title}")[0]
        assert best.score == pytest.approx(1)
        twin = SONGS[best.position]
        assert (twin.title, twin.artist) == (song.title, song.artist)

    def test_what_is_like_no_song_finds_nothing(self) -> None:
        assert hits("zzzzqqqq") == []

    def test_a_song_without_letters_is_never_found(self) -> None:
        assert all("8" not in found(query) for query in ("halo", "metallica", "the", "a"))

    @pytest.mark.parametrize("songs", [[], [Song("0", "-", "")]], ids=["no song", "no word"])
    def test_a_catalogue_without_words_has_no_answer(self, songs: list[Song]) -> None:
        empty = SongSearch.from_catalogue(Catalogue.from_songs(songs))
        assert empty.search("halo black bird", offset=0, limit=10) == []

    def test_a_typo_scores_below_the_right_spelling(self) -> None:
        right, wrong = hits("metallica")[0], hits("metalica")[0]
        assert right.position == wrong.position
        assert wrong.score < right.score == 1

    @pytest.mark.parametrize(
        ("apart", "together"), [("black bird", "blackbird"), ("acdc", "ac dc"), ("r e m", "rem")]
    )
    def test_words_joined_or_split_score_a_little_below(self, apart: str, together: str) -> None:
        assert 0.85 < hits(apart)[0].score < hits(together)[0].score == 1

    def test_a_typo_is_likelier_than_two_words_joined(self) -> None:
        songs = [Song("0", "It's a Feeling", "St. Maarten"), Song("1", "Stilts", "Tim Williams")]
        search = SongSearch.from_catalogue(Catalogue.from_songs(songs))
        hits = search.search("stits", offset=0, limit=10)
        assert [hit.position for hit in hits] == [1, 0]

    @pytest.mark.parametrize("query", ["", "   ", "-", "?!", "'"])
    def test_a_query_without_letter_and_digit_is_refused(self, query: str) -> None:
        with pytest.raises(EmptyQueryError, match="type a title or an artist"):
            hits(query)


class TestTheOrder:
    def test_of_equal_scores_the_closest_comes_first_and_then_the_most_popular(self) -> None:
        assert found("halo") == ["1", "10", "11"]

    def test_a_title_that_is_the_query_comes_before_one_that_only_holds_it(self) -> None:
        songs = [Song("0", "Halo of Flies", "Alice Cooper"), Song("1", "Halo", "Beyoncé")]
        search = SongSearch.from_catalogue(Catalogue.from_songs(songs))
        hits = search.search("halo", offset=0, limit=10)
        assert [hit.position for hit in hits] == [1, 0]
        assert hits[0].score == hits[1].score

    def test_a_word_said_more_often_is_closer_to_a_title_that_does_so_too(self) -> None:
        songs = [Song("0", "Bye Bye", "Mariah Carey"), Song("1", "Bye Bye Bye", "NSync")]
        search = SongSearch.from_catalogue(Catalogue.from_songs(songs))
        first = [search.search(q, offset=0, limit=1)[0].position for q in ("bye bye", "bye " * 3)]
        assert first == [0, 1]

    @given(queries)
    def test_is_by_score_and_each_song_comes_once(self, query: str) -> None:
        if words(query):
            result = hits(query)
            scores = [hit.score for hit in result]
            assert scores == sorted(scores, reverse=True)
            assert all(0 < score <= 1 + 1e-6 for score in scores)
            assert len({hit.position for hit in result}) == len(result)

    @given(queries, st.integers(0, 15), st.integers(0, 15))
    def test_pages_are_pieces_of_the_whole(self, query: str, offset: int, limit: int) -> None:
        if words(query):
            assert hits(query, offset, limit) == hits(query)[offset : offset + limit]


class TestArrays:
    @given(queries)
    def test_are_all_that_search_needs_beside_the_catalogue(self, query: str) -> None:
        rebuilt = SongSearch(CATALOGUE, SEARCH.arrays())
        if words(query):
            assert rebuilt.search(query, offset=0, limit=100) == hits(query)

    def test_of_a_catalogue_are_the_same_each_time(self) -> None:
        again = SongSearch.from_catalogue(CATALOGUE).arrays()
        for name, array in SEARCH.arrays().items():
            np.testing.assert_array_equal(again[name], array)

    def test_are_named_apart_from_those_of_the_catalogue(self) -> None:
        assert all(name.startswith("search_") for name in SEARCH.arrays())
        assert not SEARCH.arrays().keys() & CATALOGUE.arrays().keys()

    def test_are_searched_where_they_are_mapped(self, tmp_path: Path) -> None:
        mapped = {}
        for name, array in SEARCH.arrays().items():
            np.save(tmp_path / f"{name}.npy", array, allow_pickle=False)
            mapped[name] = np.load(tmp_path / f"{name}.npy", mmap_mode="r")
        search = SongSearch(CATALOGUE, mapped)
        assert search.search("metalica", offset=0, limit=100) == hits("metalica")
        for name, array in search.arrays().items():
            assert np.shares_memory(array, mapped[name])


@pytest.mark.parametrize("name", sorted(SEARCH.arrays()))
class TestArraysThatAreNotASearch:
    def test_a_missing_array_is_named(self, name: str) -> None:
        arrays = SEARCH.arrays()
        del arrays[name]
        with pytest.raises(ValueError, match=f"'{name}' is missing"):
            SongSearch(CATALOGUE, arrays)

    def test_an_array_that_is_too_short_is_refused(self, name: str) -> None:
        arrays = SEARCH.arrays()
        with pytest.raises(ValueError, match=r"."):
            SongSearch(CATALOGUE, arrays | {name: arrays[name][:-1]})

    @pytest.mark.parametrize("dtype", [np.float64, np.uint16], ids=str)
    def test_an_array_of_another_type_is_named(self, name: str, dtype: Any) -> None:
        arrays = SEARCH.arrays()
        with pytest.raises(ValueError, match=f"{name} is not one row"):
            SongSearch(CATALOGUE, arrays | {name: arrays[name].astype(dtype)})

    def test_an_array_of_another_shape_is_named(self, name: str) -> None:
        arrays = SEARCH.arrays()
        with pytest.raises(ValueError, match=f"{name} is not one row"):
            SongSearch(CATALOGUE, arrays | {name: arrays[name][:, np.newaxis]})


@pytest.mark.parametrize(
    ("name", "number"),
    [
        ("search_fields", 3 * len(SONGS)),
        ("search_fields", -1),
        ("search_bigrams", len(SEARCH.arrays()["search_words_offsets"]) - 1),
        ("search_bigrams", -1),
        ("search_sizes", -1),
    ],
)
def test_numbers_that_point_nowhere_are_refused(name: str, number: int) -> None:
    arrays = SEARCH.arrays()
    broken = arrays[name].copy()
    broken[0] = number
    with pytest.raises(ValueError, match=r"numbers outside|sizes"):
        SongSearch(CATALOGUE, arrays | {name: broken})


@pytest.mark.parametrize("songs", [SONGS[:-1], [*SONGS, Song("x", "", "")]], ids=["fewer", "more"])
def test_arrays_of_another_catalogue_are_refused(songs: list[Song]) -> None:
    with pytest.raises(ValueError, match=r"numbers outside|songs"):
        SongSearch(Catalogue.from_songs(songs), SEARCH.arrays())


def with_guests(songs: Sequence[Song]) -> list[Song]:
    """Each song with the artist of the song before it as its guest."""
    marks = cycle(["(w/ {})", "(feat. {})", "ft. {}", "[featuring {}]", "(with {})"])
    return [
        replace(song, title=f"{song.title} {next(marks).format(songs[number - 1].artist)}")
        for number, song in enumerate(songs)
    ]


class TestTheShareOfStarterSongsThatAreFound:
    CATALOGUE = Catalogue.from_songs(with_guests(read_starter_songs()))
    SEARCH = SongSearch.from_catalogue(CATALOGUE)
    QUERIES = judged_queries(CATALOGUE, count=60)

    @pytest.mark.parametrize("kind", [kind for kind in CORRUPTIONS if TITLE_ALONE not in kind])
    def test_by_title_and_artist(self, kind: str) -> None:
        assert len(self.QUERIES[kind]) >= 10
        assert shares_found(self.SEARCH, self.QUERIES[kind]).first >= 0.98

    @pytest.mark.parametrize("kind", [kind for kind in CORRUPTIONS if TITLE_ALONE in kind])
    def test_by_title_alone(self, kind: str) -> None:
        shares = shares_found(self.SEARCH, self.QUERIES[kind])
        assert shares.first >= 0.95
        assert shares.among_five >= 0.98


def test_radio_songs_are_found_in_spite_of_typos_and_guests(shared_data: Path) -> None:
    catalogue = read_songs(shared_data / "yes_com" / "yes_big")
    search = SongSearch.from_catalogue(catalogue)
    queries = judged_queries(catalogue, count=30)
    for kind in ("one typo", "guests left out", "guests named", "two words joined"):
        assert shares_found(search, queries[kind]).first >= 0.96
