"""The starter data: real songs, and synthetic playlists that behave like radio."""

import itertools
import re
import unicodedata
from collections import Counter
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rapidfuzz import fuzz, process, utils

from services.recommender.catalogue import Song
from services.recommender.playlists import Corpus
from services.recommender.starter import starter_corpus
from services.recommender.starter.sampling import LONGEST, SHORTEST, sample_playlists
from services.recommender.starter.songs import read_songs
from services.recommender.starter.stations import STATIONS, Station

SONGS = read_songs()

seeds = st.integers(0, 2**32 - 1)
stations = st.sampled_from(STATIONS)


@pytest.fixture(scope="module")
def corpus() -> Corpus:
    return starter_corpus()


def slug(text: str) -> str:
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode().lower()
    return re.sub(r"[^a-z0-9]+", "-", plain.replace("'", "")).strip("-")


def tags_shared(song: Song, other: Song) -> float:
    return len(set(song.tags) & set(other.tags))


def years_between(song: Song, other: Song) -> float:
    assert song.year is not None
    assert other.year is not None
    return abs(song.year - other.year)


def mean_over_pairs(measure: Callable[[Song, Song], float], corpus: Corpus, apart: int) -> float:
    """The mean over all pairs of songs that stand `apart` places from each other."""
    pairs = [
        measure(SONGS[first], SONGS[second])
        for playlist in corpus.playlists
        for first, second in zip(playlist[:-apart], playlist[apart:], strict=True)
    ]
    return float(np.mean(pairs))


class TestSongs:
    def test_there_are_about_as_many_as_a_station_owns(self) -> None:
        assert 480 <= len(SONGS) <= 600

    def test_ids_and_pairs_of_artist_and_title_are_unique(self) -> None:
        assert len({song.id for song in SONGS}) == len(SONGS)
        assert len({(song.artist, song.title) for song in SONGS}) == len(SONGS)

    def test_an_id_is_the_slug_of_artist_and_title(self) -> None:
        assert [song.id for song in SONGS] == [slug(f"{s.artist} {s.title}") for s in SONGS]

    def test_no_song_stands_there_twice_in_two_spellings(self) -> None:
        names = [f"{song.artist} {song.title}" for song in SONGS]
        for scorer in (fuzz.ratio, fuzz.token_sort_ratio):
            alike = process.cdist(names, names, scorer=scorer, processor=utils.default_process)
            np.fill_diagonal(alike, 0)
            first, second = np.unravel_index(alike.argmax(), alike.shape)
            assert alike.max() < 90, (names[first], names[second])

    def test_an_artist_has_one_spelling(self) -> None:
        artists = {song.artist for song in SONGS}
        assert len({slug(artist.removeprefix("The ")) for artist in artists}) == len(artists)

    def test_they_are_ordered_by_artist_and_then_title(self) -> None:
        names = [(song.artist.casefold(), song.title.casefold()) for song in SONGS]
        assert names == sorted(names)

    def test_years_are_years_of_recorded_music(self) -> None:
        assert all(song.year is not None and 1920 <= song.year <= 2026 for song in SONGS)

    def test_every_decade_from_the_fifties_on_is_there(self) -> None:
        decades = Counter((song.year or 0) // 10 * 10 for song in SONGS)
        assert all(decades[decade] >= 15 for decade in range(1950, 2030, 10))

    def test_a_song_has_one_to_four_tags_and_none_twice(self) -> None:
        assert all(1 <= len(song.tags) <= 4 for song in SONGS)
        assert all(len(set(song.tags)) == len(song.tags) for song in SONGS)

    def test_every_tag_is_used_by_several_songs(self) -> None:
        tags = Counter(tag for song in SONGS for tag in song.tags)
        assert [tag for tag, count in tags.items() if count < 5] == []

    def test_many_artists_have_several_songs(self) -> None:
        artists = Counter(song.artist for song in SONGS)
        assert sum(count > 1 for count in artists.values()) > 100

    def test_no_text_has_stray_whitespace_or_half_composed_letters(self) -> None:
        texts = [text for song in SONGS for text in (song.title, song.artist, *song.tags)]
        assert all(text and text == " ".join(text.split()) for text in texts)
        assert all(unicodedata.is_normalized("NFC", text) for text in texts)

    @pytest.mark.parametrize(
        ("title", "artist", "year"),
        [
            ("Fade to Black", "Metallica", 1984),
            ("Halo", "Beyoncé", 2008),
            ("Hoppípolla", "Sigur Rós", 2005),
            ("No Woman, No Cry", "Bob Marley and the Wailers", 1974),
            ('Take the "A" Train', "Duke Ellington", 1941),
        ],
    )
    def test_well_known_songs_are_there_in_their_usual_spelling(
        self, title: str, artist: str, year: int
    ) -> None:
        assert (title, artist, year) in {(song.title, song.artist, song.year) for song in SONGS}


class TestStations:
    def test_every_genre_of_a_station_has_a_dozen_songs(self) -> None:
        tags = Counter(tag for song in SONGS for tag in song.tags)
        genres = {genre for station in STATIONS for genre in station.genres}
        assert {genre: tags[genre] for genre in genres if tags[genre] < 12} == {}

    def test_every_song_suits_some_station(self) -> None:
        assert [song.id for song in SONGS if not any(s.fit(song) for s in STATIONS)] == []

    def test_a_song_of_only_the_stations_genres_suits_it_better_than_a_mixed_one(self) -> None:
        station = Station("Jazz", {"jazz": 1}, 1940, 1970)
        pure = Song("1", "", "", tags=("jazz",), year=1959)
        mixed = Song("2", "", "", tags=("jazz", "pop"), year=1959)
        assert station.fit(pure) > station.fit(mixed) > 0

    @pytest.mark.parametrize("year", [None, 1939, 1971])
    def test_a_song_from_outside_the_stations_years_never_suits_it(self, year: int | None) -> None:
        station = Station("Jazz", {"jazz": 1}, 1940, 1970)
        assert station.fit(Song("1", "", "", tags=("jazz",), year=year)) == 0

    @pytest.mark.parametrize("tags", [(), ("polka",)])
    def test_a_song_without_a_genre_of_the_station_never_suits_it(
        self, tags: tuple[str, ...]
    ) -> None:
        assert STATIONS[0].fit(Song("1", "", "", tags=tags, year=1980)) == 0


class TestPlaylists:
    @settings(max_examples=20)
    @given(count=st.integers(0, 60), seed=seeds)
    def test_the_same_seed_gives_the_same_playlists(self, count: int, seed: int) -> None:
        first, second = (sample_playlists(SONGS, count, seed) for _ in range(2))
        assert len(first) == count
        for playlist, again in zip(first, second, strict=True):
            np.testing.assert_array_equal(playlist, again)

    def test_another_seed_gives_other_playlists(self) -> None:
        first, second = (sample_playlists(SONGS, 20, seed) for seed in (1, 2))
        assert [p.tolist() for p in first] != [p.tolist() for p in second]

    @given(seed=seeds, station=stations)
    def test_a_playlist_has_only_songs_of_its_station_and_none_twice(
        self, seed: int, station: Station
    ) -> None:
        for playlist in sample_playlists(SONGS, 5, seed, [station]):
            assert playlist.dtype == np.int32
            assert SHORTEST <= len(playlist) <= LONGEST
            assert len(np.unique(playlist)) == len(playlist)
            assert all(station.fit(SONGS[position]) > 0 for position in playlist)

    def test_songs_without_a_year_or_without_tags_are_never_played(self) -> None:
        songs = (Song("1", "", "", ("metal",)), Song("2", "", "", (), 1990), *SONGS)
        playlists = sample_playlists(songs, 200, seed=0)
        assert min(playlist.min() for playlist in playlists) >= 2

    def test_a_negative_count_is_refused(self) -> None:
        with pytest.raises(ValueError, match="ask for 0 or more"):
            sample_playlists(SONGS, -1, seed=0)

    def test_a_station_without_enough_songs_is_refused_by_name(self) -> None:
        with pytest.raises(ValueError, match="'Polka' has 0 songs to play but needs 16"):
            sample_playlists(SONGS, 1, 0, [Station("Polka", {"polka": 1}, 1950, 2000)])

    def test_hits_are_played_far_more_than_other_songs_of_the_same_kind(self) -> None:
        alike = [Song(str(n), f"Title {n}", f"Artist {n}", ("pop",), 2000) for n in range(100)]
        station = Station("Pop", {"pop": 1}, 2000, 2000)
        plays = np.bincount(np.concatenate(sample_playlists(alike, 1000, 0, [station])))
        assert np.sort(plays)[-10:].mean() > 3 * np.sort(plays)[:10].mean()


class TestStarterCorpus:
    def test_its_name_says_that_the_playlists_are_synthetic(self, corpus: Corpus) -> None:
        assert "synthetic" in corpus.name

    def test_its_catalogue_is_the_songs_in_their_order(self, corpus: Corpus) -> None:
        assert tuple(corpus.catalogue[n] for n in range(len(corpus.catalogue))) == SONGS

    def test_it_is_the_same_every_time(self, corpus: Corpus) -> None:
        again = starter_corpus().playlists
        np.testing.assert_array_equal(corpus.playlists.songs, again.songs)
        np.testing.assert_array_equal(corpus.playlists.offsets, again.offsets)

    def test_every_song_is_played_often_enough_to_be_learnt(self, corpus: Corpus) -> None:
        plays = np.bincount(corpus.playlists.songs, minlength=len(SONGS))
        assert plays.min() >= 5, SONGS[plays.argmin()]

    def test_one_artist_seldom_comes_twice_in_a_row(self, corpus: Corpus) -> None:
        repeats = [
            SONGS[first].artist == SONGS[second].artist
            for playlist in corpus.playlists
            for first, second in itertools.pairwise(playlist)
        ]
        assert 0 < np.mean(repeats) < 0.01

    def test_neighbours_share_more_genres_than_songs_far_apart_in_a_playlist(
        self, corpus: Corpus
    ) -> None:
        near, far = (mean_over_pairs(tags_shared, corpus, apart) for apart in (1, 7))
        assert near > 1.1 * far

    def test_neighbours_are_nearer_in_time_than_songs_far_apart_in_a_playlist(
        self, corpus: Corpus
    ) -> None:
        near, far = (mean_over_pairs(years_between, corpus, apart) for apart in (1, 7))
        assert near < 0.8 * far

    def test_neighbours_share_many_times_the_genres_of_songs_taken_at_random(
        self, corpus: Corpus
    ) -> None:
        shuffled = np.random.default_rng(0).permutation(corpus.playlists.songs)
        random = np.mean(
            [tags_shared(SONGS[a], SONGS[b]) for a, b in itertools.pairwise(shuffled[:20_000])]
        )
        assert mean_over_pairs(tags_shared, corpus, 1) > 3 * random
