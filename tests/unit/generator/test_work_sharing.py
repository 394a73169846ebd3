"""A thread that has nothing to do takes half of another's sequences, and texts stay the same."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import LlamaConfig

from services.generator.engine import cpu_runner
from services.generator.engine.attention import Span
from services.generator.engine.cpu_attention import BLOCK_SIZE, AttentionCall
from services.generator.engine.cpu_cache import CpuCache
from services.generator.engine.layer_loop import alone
from services.generator.engine.work_sharing import board, end, hand_over, take
from services.generator.layers.compiled import compiled
from tests.unit.generator.random_models import SIZES, Steps, all_at_once, model_of

WAITING, FULL = 1, 3
CONFIG = LlamaConfig(**SIZES | {"num_hidden_layers": 12})


@compiled
def given_away(board: Any, attention: Any) -> Any:
    """What is left of the first share, from layer 7 on, when the one thread there is waits too."""
    left = hand_over(board.ctypes.data, attention, 7, alone(attention, 0))
    return left.first, left.last, left.first_tile, left.last_tile


@compiled
def waited_for(board: Any) -> int:
    end(board.ctypes.data)
    return take(board.ctypes.data)[0]


def step_of(lengths: Sequence[int]) -> Any:
    """Attention for a step of one share, of so many tokens of each sequence."""
    blocks = [-(-length // BLOCK_SIZE) for length in lengths]
    firsts = np.cumsum([0, *blocks])
    spans = [
        Span(0, length, range(first, first + count))
        for length, first, count in zip(lengths, firsts.tolist(), blocks, strict=False)
    ]
    return CpuCache(CONFIG, sum(blocks), torch.bfloat16).attention(spans, [len(lengths)])


def told(step: Any) -> Any:
    """What loops are told of it, while it lives."""
    return np.frombuffer(memoryview(step.call).cast("B"), np.dtype(AttentionCall))[0]


@settings(deadline=None)
@given(st.lists(st.integers(1, 40), min_size=1, max_size=12))
def test_half_of_the_sequences_are_given_to_who_waits(lengths: list[int]) -> None:
    step, there = step_of(lengths), board(1)
    there[0], there[8] = 1, WAITING
    tokens, bounds = sum(lengths), np.cumsum(lengths).tolist()
    tiles = sum(-(-length // 16) for length in lengths)
    first, last, first_tile, last_tile = given_away(there, told(step))
    assert (first, first_tile) == (0, 0)
    if tokens < 8 or len(lengths) == 1:
        assert (last, last_tile, there[0], there[8]) == (tokens, tiles, 1, WAITING)
        return
    assert last in bounds[:-1]
    assert all(abs(2 * last - tokens) <= abs(2 * bound - tokens) for bound in bounds[:-1])
    assert last_tile == sum(
        -(-length // 16) for length, bound in zip(lengths, bounds, strict=True) if bound <= last
    )
    assert there[0] == 2
    assert there[8:14].tolist() == [FULL, 7, last, tokens, last_tile, tiles]


def test_nothing_is_given_away_while_nobody_waits() -> None:
    step, there = step_of([20, 20]), board(1)
    there[0] = 1
    assert given_away(there, told(step)) == (0, 40, 0, 4)
    assert there.tolist() == [1] + [0] * 15


def test_who_waits_goes_when_all_is_done() -> None:
    there = board(1)
    there[0] = 1
    assert waited_for(there) == -1


@pytest.mark.parametrize("threads", [2, 3])
def test_a_thread_without_sequences_of_its_own_computes_some_and_texts_are_the_same(
    threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, model = torch.get_num_threads(), model_of(CONFIG)
    torch.set_num_threads(threads)
    try:
        monkeypatch.setattr(cpu_runner, "deal", lambda *_: [])
        expected = all_at_once(model)
        hands = [list(range(5))] + [[] for _ in range(threads - 1)]
        monkeypatch.setattr(cpu_runner, "deal", lambda *_: hands)
        steps = Steps(model)
        for _ in range(1000):
            assert torch.equal(steps(*((number, 0, 50) for number in range(5))), expected)
            if handed_over(steps):
                return
    finally:
        torch.set_num_threads(before)
    pytest.fail("no thread ever had something from another")


def handed_over(steps: Steps) -> bool:
    """Whether a thread took something in the last step."""
    assert steps.runner.fused
    layers = steps.runner.fused._run._workspace.board.reshape(-1, 8)[1:, 1]
    return bool(layers.any())
