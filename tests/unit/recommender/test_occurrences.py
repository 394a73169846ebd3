"""Where seeds are played: the compiled merge against a sort."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from services.recommender.continuations import Continuations
from services.recommender.follower import HISTORY
from services.recommender.occurrences import OCCURRENCES, occurrences, place_of, seed_of
from services.recommender.playlists import Playlists

SONGS = 40

songs = st.integers(0, SONGS - 1)
# No song is played more often than is looked at.
corpora = st.lists(st.lists(songs, min_size=1, max_size=OCCURRENCES // 5), max_size=5)


@given(corpora, st.lists(songs, max_size=HISTORY))
def test_each_seed_is_found_wherever_it_is_played_in_the_order_of_places(
    corpus: list[list[int]], seeds: list[int]
) -> None:
    where = Continuations.from_playlists(Playlists.from_lists(corpus), SONGS)
    keys = occurrences(
        np.array(seeds, np.int64),
        where.places,
        where.before,
        where.after,
        where.lengths,
        where.offsets,
    )
    plays = [song for playlist in corpus for song in playlist]
    expected = sorted(
        (place, number)
        for number, seed in enumerate(seeds)
        for place, song in enumerate(plays)
        if song == seed
    )
    assert [(int(place_of(key)), int(seed_of(key))) for key in keys] == expected
