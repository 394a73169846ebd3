"""Playlists in flat arrays."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.recommender.playlists import Playlists, PlaylistsBuilder


class TestPlaylists:
    def test_a_number_that_no_playlist_has_is_an_index_error(self) -> None:
        playlists = Playlists.from_lists([[0, 1], [2, 3, 4]])
        for number in (-1, 2):
            with pytest.raises(IndexError, match=f"playlist {number} of 2"):
                playlists[number]

    def test_offsets_that_do_not_fit_are_refused(self) -> None:
        with pytest.raises(ValueError, match="do not cut 3 values"):
            Playlists(np.arange(3, dtype=np.int32), np.array([0, 2], np.int64))

    @given(st.lists(st.lists(st.integers(0, 2**31 - 1))))
    def test_packed_at_once_or_one_by_one_they_are_equal(self, lists: list[list[int]]) -> None:
        builder = PlaylistsBuilder()
        for playlist in lists:
            builder.append(playlist)
        for playlists in (builder.build(), Playlists.from_lists(lists)):
            assert [playlist.tolist() for playlist in playlists] == lists
            assert playlists.songs.dtype == np.int32
            assert playlists.offsets.dtype == np.int64
