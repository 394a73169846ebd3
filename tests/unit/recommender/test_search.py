"""Search: what people type finds what they mean."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.recommender.catalogue import Catalogue, Song
from services.recommender.search import EmptyQueryError, SearchHit, SongSearch, words

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
]
SEARCH = SongSearch(Catalogue.from_songs(SONGS))

queries = st.text(st.characters(exclude_categories=["Cs"]), max_size=30) | st.lists(
    st.sampled_from([word for song in SONGS for word in (song.title, song.artist)]), max_size=3
).map(" ".join)


def hits(query: str, offset: int = 0, limit: int = 100) -> list[SearchHit]:
    return SEARCH.search(query, offset=offset, limit=limit)


def found(query: str) -> list[str]:
    return [SONGS[hit.position].id for hit in hits(query)]


class TestWords:
    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ("The Beyoncé's & T.I.", ["beyonces", "and", "ti"]),
            ("Straße", ["strasse"]),
            ("Don't", ["dont"]),
            ("Don\u2019t", ["dont"]),
            ("AC/DC", ["ac", "dc"]),
            ("snake_case", ["snake", "case"]),
            ("The The", ["the", "the"]),
            ("THE", ["the"]),
            ("\uff21\uff22\uff22\uff21 \uff06 \ufb01ne", ["abba", "and", "fine"]),
            ("\u2121", ["tel"]),
            ("- !?", []),
            ("", []),
        ],
    )
    def test_are_what_is_left_without_case_accents_and_punctuation(
        self, text: str, expected: list[str]
    ) -> None:
        assert words(text) == expected

    @given(queries)
    def test_of_words_are_the_same_words(self, text: str) -> None:
        assert words(" ".join(words(text))) == words(text)

    @given(queries)
    def test_do_not_depend_on_case(self, text: str) -> None:
        assert words(text.casefold()) == words(text)


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
            ("beatles", "3"),
            ("the beatles let it be", "3"),
            ("beetles", "3"),
            ("ac dc", "4"),
            ("ti", "5"),
            ("T.I. whatever", "5"),
            ("dont stop", "6"),
            ("Don\u2019t stop", "6"),
            ("99", "7"),
            ("shake and bake", "9"),
            ("sly & robbie", "9"),
            ("the the", "12"),
            ("坂本九", "13"),
        ],
    )
    def test_a_song_is_found_first_by_what_people_type(self, query: str, song_id: str) -> None:
        assert found(query)[0] == song_id

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

    def test_a_catalogue_without_songs_has_no_answer(self) -> None:
        empty = SongSearch(Catalogue.from_songs([]))
        assert empty.search("halo", offset=0, limit=10) == []

    def test_a_typo_scores_below_the_right_spelling(self) -> None:
        right, wrong = hits("metallica")[0], hits("metalica")[0]
        assert right.position == wrong.position
        assert wrong.score < right.score == 1

    @pytest.mark.parametrize("query", ["", "   ", "-", "?!", "'"])
    def test_a_query_without_letter_and_digit_is_refused(self, query: str) -> None:
        with pytest.raises(EmptyQueryError, match="type a title or an artist"):
            hits(query)


class TestTheOrder:
    def test_of_equal_scores_the_closest_comes_first_and_then_the_most_popular(self) -> None:
        assert found("halo") == ["1", "10", "11"]

    def test_a_title_that_is_the_query_comes_before_one_that_only_holds_it(self) -> None:
        songs = [Song("0", "Halo of Flies", "Alice Cooper"), Song("1", "Halo", "Beyoncé")]
        hits = SongSearch(Catalogue.from_songs(songs)).search("halo", offset=0, limit=10)
        assert [hit.position for hit in hits] == [1, 0]
        assert hits[0].score == hits[1].score

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
