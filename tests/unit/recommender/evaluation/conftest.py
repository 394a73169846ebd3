"""Playlists of three kinds that never mix, and how cases are built from lists."""

import numpy as np
import pytest

from services.recommender.catalogue import Catalogue, Song
from services.recommender.playlists import Corpus, Playlists

KINDS = 3
SONGS = 36


@pytest.fixture(scope="session")
def kinds_corpus() -> Corpus:
    """Song k is of kind k % 3; 1,000 playlists, each of one kind, walk on from any song of it.

    Titles are such as a web page must not obey.
    """
    random = np.random.default_rng(3)
    songs = [
        Song(f"s{k}", f"<script>alert({k})</script>", f'"Artist" & {k}', (f"<i>kind {k % KINDS}",))
        for k in range(SONGS)
    ]
    playlists = []
    for number in range(1_000):
        steps = random.integers(1, 3, size=8).cumsum() * KINDS
        begin = number % KINDS + KINDS * random.integers(SONGS // KINDS)
        playlists.append(((begin + steps) % SONGS).tolist())
    return Corpus("kinds", Catalogue.from_songs(songs), Playlists.from_lists(playlists))
