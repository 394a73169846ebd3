"""What is told of tokens, against `log_softmax` one row at a time."""

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from services.generator.engine.interface import Logprobs, TokenLogprob
from services.generator.engine.likelihoods import Likelihoods

VOCABULARY = 30


def logits_of(rows: int, seed: int = 0) -> torch.Tensor:
    return 3 * torch.randn(rows, VOCABULARY, generator=torch.Generator().manual_seed(seed))


def by_hand(row: torch.Tensor, token: int, count: int | None) -> Logprobs | None:
    if count is None:
        return None
    logprobs = row.log_softmax(dim=0).tolist()
    order = sorted(range(VOCABULARY), key=lambda id_: -logprobs[id_])
    told, *top = (TokenLogprob(id_, near(logprobs[id_])) for id_ in (token, *order[:count]))
    return Logprobs(told, tuple(top))


def near(value: float) -> Any:
    return pytest.approx(value, abs=1e-5)


rows = st.tuples(st.integers(0, VOCABULARY - 1), st.none() | st.integers(0, 20))


@given(st.lists(rows, max_size=6), st.integers(0, 1000))
def test_each_row_is_told_as_it_asks(drawn: list[tuple[int, int | None]], seed: int) -> None:
    logits = logits_of(len(drawn), seed)
    tokens, counts = [token for token, _ in drawn], [count for _, count in drawn]
    expected = [by_hand(row, *one) for row, one in zip(logits, drawn, strict=True)]
    likelihoods = Likelihoods(logits, counts)
    logits.fill_(7)  # they may be changed as soon as they have been shown
    assert likelihoods.of(tokens) == expected


def test_more_than_the_vocabulary_are_the_whole_vocabulary() -> None:
    told = Likelihoods(torch.tensor([[1.0, 3.0, 2.0]]), [20]).of([0])[0]
    assert told is not None
    assert [token.id for token in told.top] == [1, 2, 0]


def test_a_row_that_asks_for_nothing_is_not_computed() -> None:
    # A tensor that is only a shape has nothing to compute with.
    assert Likelihoods(torch.empty(3, VOCABULARY, device="meta"), [None] * 3).of([1, 2, 3]) == (
        [None] * 3
    )


def test_what_the_model_gives_in_half_precision_is_told_in_float32() -> None:
    logits = logits_of(1).bfloat16()
    told = Likelihoods(logits, [0]).of([4])[0]
    assert told is not None
    expected = float(logits.float().log_softmax(dim=-1)[0, 4])
    assert told.token.logprob == pytest.approx(expected, abs=1e-6)
