"""The catalogue: songs by position and by id."""

from random import Random
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from services.recommender.catalogue import (
    Catalogue,
    DuplicateSongError,
    Song,
    UnknownSongError,
)

FADE = Song("7", "Fade to Black", "Metallica", ("metal", "80s"), 1984)
HALO = Song("beyoncé-halo", "Halo", "Beyoncé", ("pop",), 2008)
BARE = Song("10", "", "-")
SONGS = [FADE, HALO, BARE]

texts = st.text(st.characters(exclude_categories=["Cs"]))
songs = st.builds(
    Song,
    id=texts,
    title=texts,
    artist=texts,
    tags=st.lists(st.sampled_from(["rock", "80s", "", "música"]), max_size=4).map(tuple),
    year=st.none() | st.integers(-32767, 32767),
)
catalogues = st.lists(songs, unique_by=lambda song: song.id)


def songs_of(catalogue: Catalogue) -> list[Song]:
    return [catalogue[position] for position in range(len(catalogue))]


@given(catalogues)
def test_songs_come_back_equal_and_in_their_order(songs: list[Song]) -> None:
    assert songs_of(Catalogue.from_songs(songs)) == songs


@given(catalogues)
def test_a_catalogue_is_rebuilt_from_its_arrays(songs: list[Song]) -> None:
    rebuilt = Catalogue(Catalogue.from_songs(songs).arrays())
    assert songs_of(rebuilt) == songs
    assert [rebuilt.position(song.id) for song in songs] == list(range(len(songs)))


@given(catalogues, st.randoms(use_true_random=False))
def test_some_songs_make_the_catalogue_that_they_would_make_alone(
    songs: list[Song], random: Random
) -> None:
    rows = random.sample(range(len(songs)), random.randint(0, len(songs)))
    taken = Catalogue.from_songs(songs).take(np.array(rows, np.int64))
    alone = Catalogue.from_songs([songs[row] for row in rows])
    for name, array in alone.arrays().items():
        np.testing.assert_array_equal(taken.arrays()[name], array, name)


@given(catalogues, texts)
def test_an_id_is_found_where_it_stands_and_no_other_is(songs: list[Song], other: str) -> None:
    catalogue = Catalogue.from_songs(songs)
    ids = [song.id for song in songs]
    assert [catalogue.position(song_id) for song_id in ids] == list(range(len(songs)))
    if other not in ids:
        with pytest.raises(UnknownSongError):
            catalogue.position(other)


@pytest.mark.parametrize("song_id", ["8", "", "07", "7 ", "BEYONCÉ-HALO", "\ud800"])
def test_an_unknown_id_is_named_and_the_way_out_is_told(song_id: str) -> None:
    with pytest.raises(UnknownSongError, match="search for it by title") as caught:
        Catalogue.from_songs(SONGS).position(song_id)
    assert caught.value.song_id == song_id
    assert repr(song_id) in str(caught.value)


@pytest.mark.parametrize("number", [0, 7, np.int64(7), 7.0, None])
def test_a_number_is_never_taken_for_an_id_or_a_position(number: Any) -> None:
    with pytest.raises(TypeError, match="a song id is a string"):
        Catalogue.from_songs(SONGS).position(number)


@pytest.mark.parametrize("position", [-1, 3])
def test_a_position_outside_the_catalogue_is_an_index_error(position: int) -> None:
    with pytest.raises(IndexError):
        Catalogue.from_songs(SONGS)[position]


def test_two_songs_with_one_id_are_refused_by_name() -> None:
    with pytest.raises(DuplicateSongError, match="Two songs have the id '7'") as caught:
        Catalogue.from_songs([*SONGS, Song("7", "Halo", "Beyoncé")])
    assert caught.value.song_id == "7"


@pytest.mark.parametrize("year", [-32768, 32768])
def test_a_year_that_does_not_fit_is_refused_with_its_song(year: int) -> None:
    with pytest.raises(ValueError, match=f"the year {year} of song 'x'"):
        Catalogue.from_songs([Song("x", "", "", year=year)])


@pytest.mark.parametrize("name", sorted(Catalogue.from_songs(SONGS).arrays()))
class TestArraysThatAreNotACatalogue:
    def test_a_missing_array_is_named(self, name: str) -> None:
        arrays = Catalogue.from_songs(SONGS).arrays()
        del arrays[name]
        with pytest.raises(ValueError, match=f"'{name}' is missing"):
            Catalogue(arrays)

    def test_an_array_that_is_too_short_is_refused(self, name: str) -> None:
        arrays = Catalogue.from_songs(SONGS).arrays()
        with pytest.raises(ValueError, match=r"."):
            Catalogue(arrays | {name: arrays[name][:-1]})

    @pytest.mark.parametrize("dtype", [np.float64, np.uint16, np.dtype("U1")], ids=str)
    def test_an_array_of_another_type_is_named(self, name: str, dtype: Any) -> None:
        arrays = Catalogue.from_songs(SONGS).arrays()
        with pytest.raises(ValueError, match=name):
            Catalogue(arrays | {name: arrays[name].astype(dtype)})

    @pytest.mark.parametrize("shape", [(), (1, -1), (-1, 1)], ids=str)
    def test_an_array_of_another_shape_is_named(self, name: str, shape: tuple[int, ...]) -> None:
        arrays = Catalogue.from_songs(SONGS).arrays()
        array: NDArray[Any] = arrays[name]
        reshaped = array[0].reshape(()) if shape == () else array.reshape(shape)
        with pytest.raises(ValueError, match=name):
            Catalogue(arrays | {name: reshaped})


@pytest.mark.parametrize(
    ("name", "number"), [("tags", 3), ("tags", -1), ("id_slots", 3), ("artist_numbers", 3)]
)
def test_numbers_that_point_nowhere_are_refused(name: str, number: int) -> None:
    arrays = Catalogue.from_songs(SONGS).arrays()
    broken = arrays[name].copy()
    broken[0] = number
    with pytest.raises(ValueError, match=name):
        Catalogue(arrays | {name: broken})
