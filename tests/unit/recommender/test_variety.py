"""Variety: which of the songs that fit are chosen."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.recommender.variety import choose

EAST, NORTH = [1.0, 0.0], [0.0, 1.0]


def chosen(
    scores: list[float],
    artists: list[int],
    vectors: list[list[float]],
    limit: int = 10,
    max_per_artist: int | None = None,
    diversity: float = 0.0,
) -> list[int]:
    rows: list[int] = choose(
        np.array(scores),
        np.array(artists, np.int32),
        np.array(vectors, np.float32).reshape(len(scores), 2),
        limit,
        max_per_artist,
        diversity,
    ).tolist()
    return rows


def test_without_a_wish_the_best_are_chosen() -> None:
    assert chosen([3, 2, 1], [0, 0, 0], [EAST] * 3, limit=2) == [0, 1]


def test_an_artist_who_has_enough_is_passed_over() -> None:
    assert chosen([4, 3, 2, 1], [7, 7, 8, 7], [EAST] * 4, max_per_artist=1) == [0, 2]
    assert chosen([4, 3, 2, 1], [7, 7, 8, 7], [EAST] * 4, max_per_artist=2) == [0, 1, 2]


@pytest.mark.parametrize("diversity", [0.0, 0.5])
def test_songs_without_an_artist_are_not_counted(diversity: float) -> None:
    found = chosen([3, 2, 1], [-1, -1, -1], [EAST] * 3, max_per_artist=1, diversity=diversity)
    assert found == [0, 1, 2]


def test_a_song_like_one_that_was_chosen_gives_way_to_another() -> None:
    scores, vectors = [1.0, 0.9, 0.5], [EAST, EAST, NORTH]
    assert chosen(scores, [0, 1, 2], vectors, limit=2, diversity=0.1) == [0, 1]
    assert chosen(scores, [0, 1, 2], vectors, limit=2, diversity=0.5) == [0, 2]


def test_both_wishes_hold_together() -> None:
    scores, vectors = [1.0, 0.9, 0.8, 0.1], [EAST, NORTH, NORTH, EAST]
    found = chosen(scores, [0, 0, 1, 2], vectors, limit=3, max_per_artist=1, diversity=0.5)
    assert found == [0, 2, 3]


def test_nothing_is_chosen_from_nothing() -> None:
    assert chosen([], [], [], max_per_artist=1, diversity=0.5) == []
    assert chosen([], [], [], max_per_artist=1) == []


@given(
    st.lists(st.tuples(st.floats(-1, 1), st.integers(-1, 3)), max_size=20),
    st.integers(1, 10),
    st.integers(1, 3),
)
def test_an_artist_limit_is_the_same_with_hardly_any_diversity(
    songs: list[tuple[float, int]], limit: int, max_per_artist: int
) -> None:
    ordered = sorted(songs, key=lambda song: -song[0])
    scores, artists = [s for s, _ in ordered], [a for _, a in ordered]
    vectors = [EAST] * len(songs)
    plain = chosen(scores, artists, vectors, limit, max_per_artist)
    greedy = chosen(scores, artists, vectors, limit, max_per_artist, 1e-300)
    assert [scores[row] for row in plain] == [scores[row] for row in greedy]
