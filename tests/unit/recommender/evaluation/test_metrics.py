"""Metrics: figures that can be worked out by hand, and intervals as statistics has them."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.recommender.evaluation.metrics import CUTOFF, Estimate, coverage, quality, ranks

found_ranks = st.lists(st.integers(0, CUTOFF + 1), min_size=1, max_size=40)


class TestRanks:
    def test_are_places_in_the_list_from_one(self) -> None:
        positions = np.array([[7, 3, 5], [7, 3, 5], [7, 3, 5]])
        scores = np.array([[0.9, 0.5, 0.1]] * 3)
        assert ranks(positions, scores, np.array([7, 5, 3], np.int32)).tolist() == [1, 3, 2]

    def test_are_none_where_the_list_lacks_the_target(self) -> None:
        positions = np.array([[7, 3], [7, -1], [-1, -1]])
        scores = np.array([[0.9, 0.5], [0.9, -np.inf], [-np.inf, -np.inf]])
        assert ranks(positions, scores, np.array([4, 4, 4], np.int32)).tolist() == [0, 0, 0]

    def test_songs_that_tie_rank_above_the_target(self) -> None:
        positions = np.array([[7, 3, 5, 1]] * 3)
        scores = np.array([[2.0, 1.0, 1.0, 0.0]] * 3)
        assert ranks(positions, scores, np.array([7, 3, 5], np.int32)).tolist() == [1, 3, 3]

    def test_places_without_a_song_tie_with_none(self) -> None:
        positions, scores = np.array([[7, -1, -1]]), np.array([[-3.0, -3.0, 5.0]])
        assert ranks(positions, scores, np.array([7], np.int32)).tolist() == [1]

    @given(
        scores=st.lists(st.integers(-3, 3), min_size=1, max_size=12),
        data=st.data(),
    )
    def test_equal_a_count_over_all_songs(self, scores: list[int], data: st.DataObject) -> None:
        """One more song than counts is enough to tell the rank of each that counts."""
        target = data.draw(st.integers(0, len(scores) - 1))
        cutoff = data.draw(st.integers(1, len(scores)))
        order = sorted(range(len(scores)), key=lambda song: (-scores[song], song))[: cutoff + 1]
        listed = np.array([[scores[song] for song in order]], np.float32)
        found = ranks(np.array([order]), listed, np.array([target], np.int32))[0]
        expected = sum(score >= scores[target] for score in scores)
        if expected <= cutoff:
            assert found == expected
        else:
            assert not 1 <= found <= cutoff


class TestQuality:
    def test_of_four_targets(self) -> None:
        found = np.array([1, 3, CUTOFF + 1, 0])
        measured = quality(found, np.arange(4))
        assert measured.targets == 4
        assert measured.hit_rate.value == 2 / 4
        assert measured.reciprocal_rank.value == pytest.approx((1 + 1 / 3) / 4)
        assert measured.gain.value == pytest.approx((1 + 1 / math.log2(4)) / 4)

    def test_the_last_place_that_counts_is_the_tenth(self) -> None:
        assert quality(np.array([10, 10]), np.arange(2)).hit_rate.value == 1
        assert quality(np.array([11, 11]), np.arange(2)).hit_rate.value == 0

    def test_figures_go_by_the_names_of_the_literature(self) -> None:
        measured = quality(np.array([1, 2, 0]), np.arange(3))
        assert measured.figures() == {
            "hr@10": measured.hit_rate,
            "mrr@10": measured.reciprocal_rank,
            "ndcg@10": measured.gain,
        }

    @given(found=found_ranks, data=st.data())
    def test_estimates_lie_in_their_intervals_and_those_within_0_and_1(
        self, found: list[int], data: st.DataObject
    ) -> None:
        size = len(found)
        playlists = data.draw(st.lists(st.integers(0, 4), min_size=size, max_size=size))
        measured = quality(np.array(found), np.array(playlists))
        assert measured.hit_rate.value >= measured.gain.value - 1e-12
        assert measured.gain.value >= measured.reciprocal_rank.value - 1e-12
        for estimate in measured.figures().values():
            assert 0 <= estimate.low <= estimate.high <= 1
            assert isinstance(estimate.value, float)


class TestIntervals:
    def test_are_those_of_the_normal_distribution_for_many_playlists_alike(self) -> None:
        """Of 4,000 playlists of one target each, the standard error is that of a share."""
        found = (np.random.default_rng(1).random(4_000) < 0.2).astype(np.int64)
        measured = quality(found, np.arange(4_000)).hit_rate
        half = 1.96 * math.sqrt(measured.value * (1 - measured.value) / 4_000)
        assert measured.low == pytest.approx(measured.value - half, abs=0.1 * half)
        assert measured.high == pytest.approx(measured.value + half, abs=0.1 * half)

    def test_are_wider_where_targets_of_a_playlist_go_together(self) -> None:
        found = np.repeat(np.arange(200) % 5 == 0, 20).astype(np.int64)
        together = quality(found, np.repeat(np.arange(200), 20)).hit_rate
        apart = quality(found, np.arange(4_000)).hit_rate
        ratio = (together.high - together.low) / (apart.high - apart.low)
        assert ratio == pytest.approx(math.sqrt(20), rel=0.15)

    def test_have_no_width_for_one_playlist(self) -> None:
        measured = quality(np.array([1, 0]), np.array([9, 9]))
        assert measured.hit_rate == Estimate(0.5, 0.5, 0.5)

    @given(found=found_ranks)
    def test_are_the_same_every_time(self, found: list[int]) -> None:
        ranks, playlists = np.array(found), np.arange(len(found)) // 3
        assert quality(ranks, playlists) == quality(ranks, playlists)


class TestCoverage:
    def test_is_the_share_of_songs_that_any_list_holds(self) -> None:
        assert coverage(np.array([[0, 1], [1, -1], [-1, -1]]), 8) == 2 / 8
        assert coverage(np.array([[-1]]), 8) == 0

    def test_only_the_songs_that_count_are_counted(self) -> None:
        assert coverage(np.arange(22).reshape(2, 11), 40) == 20 / 40
