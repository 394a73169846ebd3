"""Small playlists of all shapes."""

from hypothesis import strategies as st

SONGS = 8

songs = st.integers(0, SONGS - 1)
playlist_lists = st.lists(st.lists(songs, min_size=2, max_size=7), min_size=1, max_size=8)
history_lists = st.lists(st.lists(songs, max_size=6), min_size=1, max_size=5)
