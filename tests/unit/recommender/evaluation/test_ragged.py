"""Arithmetic on playlists, against plain lists."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from services.recommender.evaluation.ragged import batches, lengths_of, owners_of, take
from services.recommender.playlists import Playlists
from tests.unit.recommender.evaluation.strategies import history_lists


def lists_of(playlists: Playlists) -> list[list[int]]:
    return [playlist.tolist() for playlist in playlists]


@given(lists=history_lists, data=st.data())
def test_playlists_are_taken_by_number_in_any_order(
    lists: list[list[int]], data: st.DataObject
) -> None:
    numbers = data.draw(st.lists(st.integers(0, len(lists) - 1), max_size=8))
    taken = take(Playlists.from_lists(lists), np.array(numbers, np.int64))
    assert lists_of(taken) == [lists[number] for number in numbers]


@given(lists=history_lists, size=st.integers(1, 6))
def test_batches_are_all_playlists_in_order(lists: list[list[int]], size: int) -> None:
    parts = [lists_of(batch) for batch in batches(Playlists.from_lists(lists), size)]
    assert [playlist for part in parts for playlist in part] == lists
    assert all(len(part) == size for part in parts[:-1])


@given(lists=history_lists)
def test_lengths_and_owners(lists: list[list[int]]) -> None:
    playlists = Playlists.from_lists(lists)
    assert lengths_of(playlists).tolist() == [len(songs) for songs in lists]
    assert owners_of(playlists).tolist() == [k for k, songs in enumerate(lists) for _ in songs]
