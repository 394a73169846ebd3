"""What came next: the compiled loops against the definition, written down plainly."""

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from services.recommender.blend import Blend
from services.recommender.continuations import Continuations
from services.recommender.follower import HISTORY, Follower, Seeds
from services.recommender.occurrences import NEIGHBOURS, OCCURRENCES, REACH
from services.recommender.playlists import Playlists

SONGS = 6
BLEND = Blend(recency=0.8, proximity=0.7, backward=0.5, sharpness=2)
NONE = np.empty(0, np.int64)

songs = st.integers(0, SONGS - 1)
corpora = st.lists(st.lists(songs, min_size=2, max_size=14), max_size=5)
weights = st.floats(-5, 5).filter(lambda weight: abs(weight) > 1e-6)
histories = st.lists(st.tuples(songs, weights), min_size=1, max_size=8)


def seeds_of(*queries: list[tuple[int, float]]) -> Seeds:
    flat = [seed for query in queries for seed in query]
    return Seeds(
        np.array([song for song, _ in flat], np.int64),
        np.array([weight for _, weight in flat], np.float64),
        np.concatenate(([0], np.cumsum([len(query) for query in queries]))).astype(np.int64),
    )


def follower_of(corpus: list[list[int]]) -> Follower:
    return Follower(Continuations.from_playlists(Playlists.from_lists(corpus), SONGS), BLEND)


def shortlist(
    follower: Follower, query: list[tuple[int, float]], blocked: NDArray[np.int64] = NONE
) -> dict[int, float]:
    positions, evidence, _ = follower.shortlists(
        seeds_of(query), blocked, np.array([0, len(blocked)]), SONGS
    )
    found = positions[0] >= 0
    return dict(zip(positions[0, found].tolist(), evidence[0, found].tolist(), strict=True))


def groups_of(places: list[int]) -> list[list[int]]:
    """Places of one playlist, each so near the one before that what is near them overlaps."""
    groups: list[list[int]] = []
    for at in places:
        if groups and at - groups[-1][-1] <= 2 * REACH:
            groups[-1].append(at)
        else:
            groups.append([at])
    return groups


def by_definition(corpus: list[list[int]], query: list[tuple[int, float]]) -> dict[int, float]:
    """Every place, and every seed of the group that is played near it, one by one."""
    plays = [song for playlist in corpus for song in playlist]
    rarity = [np.log1p(len(corpus) / max(1, plays.count(song))) for song in range(SONGS)]
    said = [0.0] * SONGS
    for age, (song, weight) in enumerate(reversed(query)):
        said[song] += weight * BLEND.recency**age * rarity[song]
    asked = {song for song, _ in query}
    evidence: dict[int, float] = {}
    for playlist in corpus:
        groups = groups_of([at for at, song in enumerate(playlist) if song in asked])
        for place, song in enumerate(playlist):
            agreement = 0.0
            near = [group for group in groups if any(abs(place - at) <= REACH for at in group)]
            for at in (at for group in near for at in group):
                if at < place:
                    agreement += said[playlist[at]] * BLEND.proximity ** (place - at - 1)
                if at > place:
                    back = BLEND.backward * BLEND.proximity ** (at - place - 1)
                    agreement += said[playlist[at]] * back
            if agreement == 0.0:
                continue
            value = np.copysign(abs(agreement) ** BLEND.sharpness, agreement)
            value *= np.sqrt((1 + rarity[song]) / len(playlist))
            evidence[song] = evidence.get(song, 0.0) + value
    return evidence


@settings(max_examples=300, deadline=None)
@given(corpora, histories)
@example([[0, 0], [1, *[0] * 2 * REACH, 1], [1, 1]], [(1, 1.0)])
@example([[0, 0], [1, *[0] * (2 * REACH - 1), 1], [1, 1]], [(1, 1.0)])
def test_evidence_is_what_the_definition_says(
    corpus: list[list[int]], query: list[tuple[int, float]]
) -> None:
    found = shortlist(follower_of(corpus), query)
    expected = by_definition(corpus, query)
    assert found.keys() == expected.keys()
    for song, evidence in found.items():
        assert evidence == pytest.approx(expected[song], rel=1e-9, abs=1e-9)


def test_a_group_that_goes_on_for_longer_than_a_seed_is_heard_is_no_exception() -> None:
    corpus = [[k % SONGS for k in range(1_000)], [0, 1, 2]]
    query = [(0, 1.0), (3, 2.0)]
    found, expected = shortlist(follower_of(corpus), query), by_definition(corpus, query)
    assert found == pytest.approx(expected, rel=1e-9)


@settings(deadline=None)
@given(corpora, st.lists(histories, min_size=1, max_size=5))
def test_queries_in_one_call_do_not_touch_each_other(
    corpus: list[list[int]], queries: list[list[tuple[int, float]]]
) -> None:
    follower = follower_of(corpus)
    offsets = np.zeros(len(queries) + 1, np.int64)
    positions, evidence, counts = follower.shortlists(seeds_of(*queries), NONE, offsets, SONGS)
    for row, query in enumerate(queries):
        alone = follower.shortlists(seeds_of(query), NONE, np.zeros(2, np.int64), SONGS)
        assert positions[row].tolist() == alone[0][0].tolist()
        assert evidence[row].tolist() == alone[1][0].tolist()
        assert counts[row] == alone[2][0] == np.count_nonzero(positions[row] >= 0)


@settings(deadline=None)
@given(corpora, histories, st.lists(songs))
def test_blocked_songs_are_left_out_and_the_others_keep_their_evidence(
    corpus: list[list[int]], query: list[tuple[int, float]], blocked: list[int]
) -> None:
    follower = follower_of(corpus)
    everything = shortlist(follower, query)
    rest = shortlist(follower, query, np.array(blocked, np.int64))
    assert rest == {song: e for song, e in everything.items() if song not in blocked}


@settings(deadline=None)
@given(corpora, histories)
def test_contributions_of_the_seeds_add_up_to_the_evidence(
    corpus: list[list[int]], query: list[tuple[int, float]]
) -> None:
    follower = follower_of(corpus)
    found = shortlist(follower, query)
    parts = follower.contributions(seeds_of(query), np.array(sorted(found), np.int64))
    assert parts.shape == (len(found), len(query))
    # Seeds that cancel each other out leave no one to credit.
    np.testing.assert_allclose(
        parts.sum(axis=1), [found[song] for song in sorted(found)], rtol=1e-6, atol=1e-6
    )


class TestAShortlist:
    def test_keeps_the_songs_of_most_evidence(self) -> None:
        follower = follower_of([[0, 1, 2, 3], [0, 1], [0, 3]])
        positions, evidence, counts = follower.shortlists(
            seeds_of([(0, 1.0)]), NONE, np.zeros(2, np.int64), 2
        )
        assert set(positions[0].tolist()) == {1, 3}
        assert evidence.min() > 0
        assert counts.tolist() == [2]

    def test_has_room_where_fewer_songs_are_known(self) -> None:
        positions, evidence, counts = follower_of([[0, 1]]).shortlists(
            seeds_of([(0, 1.0)]), NONE, np.zeros(2, np.int64), 3
        )
        assert positions[0].tolist() == [1, -1, -1]
        assert evidence[0, 1:].tolist() == [0, 0]
        assert counts.tolist() == [1]

    def test_prefers_what_followed_several_seeds_in_order(self) -> None:
        follower = follower_of([[0, 1, 2], [1, 0, 3], [0, 5], [1, 5]])
        found = shortlist(follower, [(0, 1.0), (1, 1.0)])
        assert max(found, key=found.__getitem__) == 2

    def test_of_a_disliked_song_counts_against_what_followed_it(self) -> None:
        found = shortlist(follower_of([[0, 1], [2, 3]]), [(0, -1.0), (2, 1.0)])
        assert found[1] < 0 < found[3]

    def test_looks_at_a_bounded_number_of_occurrences(self) -> None:
        corpus = [[0, 1]] + [[0, 2]] * OCCURRENCES
        assert shortlist(follower_of(corpus), [(0, 1.0)]).keys() == {2}

    def test_keeps_the_groups_that_say_most(self) -> None:
        corpus = [[0, 1, 2]] + [[0, 3]] * NEIGHBOURS
        found = shortlist(follower_of(corpus), [(0, 1.0), (1, 1.0)])
        assert found.keys() == {0, 1, 2, 3}
        assert found[2] > found[3] / NEIGHBOURS

    def test_does_not_look_farther_than_its_reach(self) -> None:
        corpus = [[4, 5, *[3] * (REACH - 1), 0, *[1] * (REACH - 1), 2, 4]]
        assert shortlist(follower_of(corpus), [(0, 1.0)]).keys() == {5, 3, 1, 2}

    def test_prefers_a_song_after_a_seed_to_one_before_it(self) -> None:
        found = shortlist(follower_of([[1, 0, 2]]), [(0, 1.0)])
        assert found[2] > found[1] > 0

    def test_prefers_songs_of_short_playlists(self) -> None:
        found = shortlist(follower_of([[0, 1], [0, 2, 3, 4, 5]]), [(0, 1.0)])
        assert found[1] > found[2]

    def test_takes_a_history_of_full_length(self) -> None:
        query = [(k % SONGS, 1.0) for k in range(HISTORY)]
        corpus = [[0, 1, 2, 3, 4, 5] * 60]
        assert shortlist(follower_of(corpus), query).keys() == set(range(SONGS))
