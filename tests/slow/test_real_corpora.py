"""The real playlists, which stand beside the checkout."""

from pathlib import Path

import numpy as np
import pytest

from services.recommender.catalogue import Song
from services.recommender.evaluation.baselines import BASELINES
from services.recommender.evaluation.cases import next_song_cases
from services.recommender.evaluation.metrics import CUTOFF, quality, ranks
from services.recommender.evaluation.ragged import take
from services.recommender.evaluation.split import Part, Split, split
from services.recommender.formats import read_corpus
from services.recommender.formats.yes import read_songs
from tests.unit.recommender.format_suite import playlists_of


class TestTheRealCorpora:
    @pytest.mark.parametrize(
        ("name", "songs", "playlists", "single"),
        [("yes_big", 9_775, 18_139, 5_131), ("yes_small", 3_168, 41_480, 16_726)],
    )
    def test_playlists(
        self, shared_data: Path, name: str, songs: int, playlists: int, single: int
    ) -> None:
        folder = shared_data / "yes_com" / name
        corpus = read_corpus(folder)
        lines = [line.split() for line in (folder / "train.txt").read_text("utf-8").splitlines()]
        assert [ids for ids in lines[2:] if len(ids) > 1] == playlists_of(corpus)
        assert len(corpus.catalogue) == songs
        assert len(lines[2:]) == playlists
        assert len(corpus.playlists) == playlists - single
        assert corpus.catalogue[0] == Song(
            "0", "Gucci Time (w/ Swizz Beatz)", "Gucci Mane", ("wjlb-fm", "whtd-fm")
        )

    def test_the_songs_of_the_complete_set(self, shared_data: Path) -> None:
        catalogue = read_songs(shared_data / "yes_com" / "yes_complete")
        songs = [catalogue[position] for position in range(len(catalogue))]
        assert [song.id for song in songs] == [str(number) for number in range(75_262)]
        assert sum(not song.title for song in songs) == 6
        assert sum(not song.artist for song in songs) == 1
        assert sum(not song.tags for song in songs) == 31_569
        assert songs[60_114].artist == r"Speed\Kill/Hate"
        assert songs[52_698].title == "Happy (Love Theme From The Lady Sings The Blues)"
        assert songs[12_411].artist == "Alison Hinds & David Rudder"
        assert not any("\\/" in song.title + song.artist for song in songs)
        assert not any(song.title.endswith("\\") for song in songs)


@pytest.fixture(scope="module")
def yes_big(shared_data: Path) -> Split:
    return split(read_corpus(shared_data / "yes_com" / "yes_big"), Part.TEST)


@pytest.mark.parametrize(
    ("name", "hit_rate", "reciprocal_rank"),
    [
        ("popularity", 0.016, 0.006),
        ("markov", 0.091, 0.043),
        ("association", 0.118, 0.042),
        ("sequential_rules", 0.130, 0.059),
        ("vsknn", 0.136, 0.050),
    ],
)
def test_it_hits_as_often_as_is_known_of_the_real_corpus(
    yes_big: Split, name: str, hit_rate: float, reciprocal_rank: float
) -> None:
    """None is weaker than what was measured before, by the same protocol."""
    held_out = take(yes_big.held_out, np.arange(0, len(yes_big.held_out), 6))
    cases = next_song_cases(held_out)
    baseline = BASELINES[name]()
    baseline.fit(yes_big.training.playlists, len(yes_big.training.catalogue))
    found = ranks(*baseline.recommend(cases.histories, CUTOFF + 1), cases.targets)
    measured = quality(found[~cases.repeats], cases.playlists[~cases.repeats])
    assert measured.targets > 2_000
    assert measured.hit_rate.high > hit_rate
    assert measured.reciprocal_rank.high > reciprocal_rank
