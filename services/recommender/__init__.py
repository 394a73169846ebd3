"""Knows songs by the playlists they are played in, and says which to play next."""
