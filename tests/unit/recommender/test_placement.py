"""Placement: songs without plays stand where their artist's and tags' songs stand."""

import numpy as np

from services.recommender.catalogue import Catalogue, Song
from services.recommender.placement import place, placeable

EAST, NORTH = [1.0, 0.0], [0.0, 1.0]


def test_a_song_is_placed_with_its_artist() -> None:
    catalogue = Catalogue.from_songs(
        [Song("0", "", "Abba"), Song("1", "", "Blur"), Song("new", "", "ABBA")]
    )
    placed = place(catalogue, np.array([EAST, NORTH], np.float32))
    np.testing.assert_allclose(placed, [EAST])
    assert placed.dtype == np.float32


def test_an_artist_says_more_than_a_tag_that_many_songs_have() -> None:
    songs = [Song("0", "", "Abba", ("pop",))]
    songs += [Song(str(k), "", f"Other {k}", ("pop",)) for k in range(1, 9)]
    catalogue = Catalogue.from_songs([*songs, Song("new", "", "Abba", ("pop",))])
    placed = place(catalogue, np.array([EAST] + [NORTH] * 8, np.float32))[0]
    assert placed[0] > placed[1] > 0


def test_a_tag_alone_is_enough() -> None:
    catalogue = Catalogue.from_songs(
        [Song("0", "", "Abba", ("pop",)), Song("1", "", "", ()), Song("new", "", "", ("pop",))]
    )
    np.testing.assert_allclose(place(catalogue, np.array([EAST, NORTH], np.float32)), [EAST])


def test_only_songs_with_a_relative_can_be_placed() -> None:
    catalogue = Catalogue.from_songs(
        [
            Song("0", "", "Abba", ("pop",)),
            Song("artist", "", "abba"),
            Song("tag", "", "", ("pop",)),
            Song("stranger", "", "Nobody", ("polka",)),
            Song("nameless", "", "-"),
        ]
    )
    assert placeable(catalogue, np.array([0])).tolist() == [0, 1, 2]


def test_there_may_be_no_song_to_place() -> None:
    catalogue = Catalogue.from_songs([Song("0", "", "Abba")])
    assert place(catalogue, np.array([EAST], np.float32)).shape == (0, 2)
