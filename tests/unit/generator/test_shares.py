"""Which of a step's sequences each thread computes."""

from itertools import chain

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.generator.engine import shares
from services.generator.engine.attention import Span
from services.generator.engine.shares import deal


@pytest.fixture(autouse=True)
def _no_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shares, "AVAILABLE", False)


def spans(*sizes: int, behind: int = 0) -> list[Span]:
    return [Span(behind, behind + size, []) for size in sizes]


def tokens(hands: list[list[int]], of: list[Span]) -> list[int]:
    return [sum(of[number].end - of[number].begin for number in hand) for hand in hands]


@given(
    st.lists(st.tuples(st.integers(0, 3_000), st.integers(1, 200)), min_size=1, max_size=64),
    st.integers(1, 16),
)
def test_each_sequence_is_one_threads_and_no_thread_has_much_more_than_others(
    drawn: list[tuple[int, int]], threads: int
) -> None:
    step = [Span(begin, begin + size, []) for begin, size in drawn]
    hands = deal(step, threads)
    if hands:
        assert len(hands) == threads
        assert sorted(chain.from_iterable(hands)) == list(range(len(step)))
        assert all(hands)
        prices = [
            sum((step[n].end - step[n].begin) * (800 + step[n].end) for n in hand) for hand in hands
        ]
        assert max(prices) * threads <= 1.1 * sum(prices) + 1e-6


def test_texts_that_grow_are_dealt_evenly() -> None:
    step = spans(*[1] * 32, behind=100)
    assert tokens(deal(step, 2), step) == [16, 16]


def test_prompts_are_weighed_by_their_tokens() -> None:
    step = spans(*[1] * 30, 20, 10)
    assert tokens(deal(step, 2), step) == [30, 30]


def test_a_text_counts_more_the_longer_it_is() -> None:
    step = [*spans(*[1] * 30), *spans(*[1] * 10, behind=1_600)]
    assert tokens(deal(step, 2), step) == [20, 20]


@pytest.mark.parametrize(
    ("step", "threads"),
    [
        (spans(*[1] * 15), 2),
        (spans(128), 2),
        (spans(1, 1, 1, 125), 2),
        (spans(*[40] * 3), 2),
        (spans(*[1] * 32), 16),
    ],
    ids=["few tokens", "one prompt", "mostly one prompt", "uneven", "few for each"],
)
def test_all_compute_all_together_where_that_is_better(step: list[Span], threads: int) -> None:
    assert deal(step, threads) == []


def test_all_compute_all_together_where_there_are_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shares, "AVAILABLE", True)
    assert deal(spans(*[1] * 32), 2) == []
