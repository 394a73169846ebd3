"""Cases: for every song of a playlist but the first, what was played before it."""

from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from services.recommender.evaluation.cases import LAST_PLACE, next_song_cases
from services.recommender.evaluation.errors import EvaluationError
from services.recommender.evaluation.split import UNSEEN, Part, split
from services.recommender.formats import read_corpus
from services.recommender.playlists import Playlists


@dataclass(frozen=True)
class Expected:
    history: list[int]
    target: int
    playlist: int
    place: int
    repeat: bool


def by_hand(lists: list[list[int]]) -> list[Expected]:
    return [
        Expected(
            history=[song for song in songs[:place] if song != UNSEEN],
            target=songs[place],
            playlist=number,
            place=place,
            repeat=songs[place] in songs[:place],
        )
        for number, songs in enumerate(lists)
        for place in range(1, len(songs))
        if place <= LAST_PLACE and songs[place] != UNSEEN
    ]


@given(
    lists=st.lists(
        st.lists(st.integers(UNSEEN, 5), min_size=2, max_size=6)
        | st.lists(st.integers(UNSEEN, 99), min_size=49, max_size=54),
        min_size=1,
        max_size=6,
    )
)
def test_cases_are_those_of_the_protocol(lists: list[list[int]]) -> None:
    expected = by_hand(lists)
    assume(not all(case.repeat for case in expected))
    cases = next_song_cases(Playlists.from_lists(lists))
    assert len(cases) == len(expected)
    assert [history.tolist() for history in cases.histories] == [c.history for c in expected]
    assert cases.targets.tolist() == [case.target for case in expected]
    assert cases.playlists.tolist() == [case.playlist for case in expected]
    assert cases.places.tolist() == [case.place for case in expected]
    assert cases.repeats.tolist() == [case.repeat for case in expected]
    asked = sum(min(len(songs) - 1, LAST_PLACE) for songs in lists)
    assert cases.unseen == asked - len(expected)


def test_the_history_may_be_of_unseen_songs_alone() -> None:
    cases = next_song_cases(Playlists.from_lists([[UNSEEN, 4]]))
    assert [history.tolist() for history in cases.histories] == [[]]
    assert cases.places.tolist() == [1]


@pytest.mark.parametrize(
    "lists", [[[3, UNSEEN]], [[3, 3], [UNSEEN, UNSEEN]]], ids=["unseen", "repeated or unseen"]
)
def test_playlists_without_a_target_are_refused(lists: list[list[int]]) -> None:
    with pytest.raises(EvaluationError, match="no song is left to ask for"):
        next_song_cases(Playlists.from_lists(lists))


@pytest.mark.parametrize(
    ("name", "part", "targets", "repeats", "unseen"),
    [
        ("yes_big", Part.TEST, 13_677, 549, 6),
        ("yes_big", Part.VALIDATION, 13_282, 453, 36),
        ("yes_small", Part.TEST, 12_699, 333, 0),
        ("yes_small", Part.VALIDATION, 12_877, 255, 2),
    ],
)
def test_the_real_corpora(
    shared_data: Path, name: str, part: Part, targets: int, repeats: int, unseen: int
) -> None:
    cases = next_song_cases(split(read_corpus(shared_data / "yes_com" / name), part).held_out)
    assert (len(cases), cases.repeats.sum()) == (targets + repeats, repeats)
    assert cases.unseen == unseen
