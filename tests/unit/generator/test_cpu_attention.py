"""Attention on a CPU is torch's, and a token's is the same to the last bit in whatever step."""

import ctypes
import mmap
from collections.abc import Sequence
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch.nn.functional import scaled_dot_product_attention

from services.generator.engine.attention import Span, UnsupportedModelError
from services.generator.engine.cpu_attention import BLOCK_SIZE
from services.generator.engine.cpu_cache import CpuCache

SCALE = 0.3
LAYER = 1
NOT_A_NUMBER = 0x7FC0  # in bfloat16

HEADS = st.sampled_from([(1, 1), (4, 4), (6, 2), (9, 3), (8, 1)])
WIDTHS = st.sampled_from([3, 16, 40, 64])
DTYPES = st.sampled_from([torch.float32, torch.bfloat16])
WINDOWS = st.sampled_from([None, 1, 5, 17, 100])


def config(heads: tuple[int, int], width: int) -> Any:
    return SimpleNamespace(
        num_hidden_layers=2, num_attention_heads=heads[0], num_key_value_heads=heads[1],
        head_dim=width,
    )  # fmt: skip


class Texts:
    """Random queries, keys and values of some texts, each (heads, tokens, width)."""

    def __init__(self, lengths: Sequence[int], heads: tuple[int, int], width: int) -> None:
        self.config = config(heads, width)
        # As models give them: parts of one wider product.
        wide = [torch.randn(length, heads[0] + 2 * heads[1], width) for length in lengths]
        sizes = [heads[0], heads[1], heads[1]]
        self.parts = [[part.transpose(0, 1) for part in torch.split(one, sizes, 1)] for one in wide]
        needed = [-(-length // BLOCK_SIZE) for length in lengths]
        self.blocks = torch.split(torch.randperm(sum(needed)), needed)

    def cache(self, dtype: torch.dtype = torch.float32) -> CpuCache:
        """One in which there is what must not be read."""
        cache = CpuCache(self.config, sum(map(len, self.blocks)), dtype)
        cache.keys[:] = cache.values[:] = np.nan if dtype == torch.float32 else NOT_A_NUMBER
        return cache

    def attended(
        self, cache: CpuCache, step: Sequence[tuple[int, int, int]], window: int | None
    ) -> list[torch.Tensor]:
        """Of tokens `begin` to `end` of some texts, in one step; (tokens, heads, width) of each."""
        spans = [Span(begin, end, self.blocks[text].tolist()) for text, begin, end in step]
        query, key, value = (
            torch.cat([self.parts[text][part][:, begin:end] for text, begin, end in step], dim=1)
            for part in range(3)
        )
        output = cache.attention(spans)(LAYER, query, key, value, SCALE, window)
        return list(torch.split(output, [end - begin for _, begin, end in step]))

    def expected(
        self, text: int, window: int | None, dtype: torch.dtype = torch.float32
    ) -> torch.Tensor:
        query, key, value = (part[None] for part in self.parts[text])
        key, value = (each.to(dtype).float() for each in (key, value))
        new = torch.arange(query.shape[2])[:, None]
        seen = new >= new.T
        if window is not None:
            seen &= new - window < new.T
        output = scaled_dot_product_attention(
            query, key, value, attn_mask=seen, scale=SCALE, enable_gqa=True
        )
        return output[0].transpose(0, 1)


@settings(deadline=None)  # threads that wait for each other are slow on a busy machine
@given(
    lengths=st.lists(st.integers(1, 70), min_size=1, max_size=5),
    heads=HEADS,
    width=WIDTHS,
    window=WINDOWS,
    dtype=DTYPES,
    seed=st.integers(0, 99),
)
def test_each_token_attends_to_those_of_its_own_text_up_to_itself(
    lengths: list[int],
    heads: tuple[int, int],
    width: int,
    window: int | None,
    dtype: torch.dtype,
    seed: int,
) -> None:
    torch.manual_seed(seed)
    texts = Texts(lengths, heads, width)
    step = [(text, 0, length) for text, length in enumerate(lengths)]
    for text, output in enumerate(texts.attended(texts.cache(dtype), step, window)):
        expected = texts.expected(text, window, dtype)
        torch.testing.assert_close(output, expected, rtol=1e-4, atol=1e-5)


@settings(deadline=None)
@given(
    lengths=st.lists(st.integers(1, 70), min_size=1, max_size=4),
    heads=HEADS,
    width=WIDTHS,
    window=WINDOWS,
    dtype=DTYPES,
    data=st.data(),
)
def test_it_is_the_same_to_the_last_bit_in_whatever_steps_and_company(
    lengths: list[int],
    heads: tuple[int, int],
    width: int,
    window: int | None,
    dtype: torch.dtype,
    data: st.DataObject,
) -> None:
    torch.manual_seed(data.draw(st.integers(0, 99)))
    texts = Texts(lengths, heads, width)
    alone = [
        texts.attended(texts.cache(dtype), [(text, 0, length)], window)[0]
        for text, length in enumerate(lengths)
    ]
    cache = texts.cache(dtype)
    chunks = [
        list(pairwise([0, *sorted(data.draw(st.sets(st.integers(1, length)))), length]))
        for length in lengths
    ]
    outputs: list[list[torch.Tensor]] = [[] for _ in lengths]
    while any(chunks):
        step = [(text, *mine.pop(0)) for text, mine in enumerate(chunks) if mine]
        step = [(text, begin, end) for text, begin, end in step if begin < end]
        if step:
            for (text, _, _), output in zip(step, texts.attended(cache, step, window), strict=True):
                outputs[text].append(output)
    for expected, parts in zip(alone, outputs, strict=True):
        assert torch.equal(torch.cat(parts), expected)


def test_numbers_may_lie_anywhere_and_be_of_another_type() -> None:
    texts = Texts([20], (4, 2), 8)
    step = [(0, 0, 20)]
    expected = texts.attended(texts.cache(), step, None)[0]
    texts.parts = [[part.mT.contiguous().mT for part in parts] for parts in texts.parts]
    assert torch.equal(texts.attended(texts.cache(), step, None)[0], expected)
    texts.parts = [[part.bfloat16() for part in parts] for parts in texts.parts]
    rounded = texts.attended(texts.cache(), step, None)[0]
    assert rounded.dtype == torch.bfloat16
    torch.testing.assert_close(rounded.float(), expected, rtol=0.05, atol=0.05)


def test_other_layers_keep_what_they_have() -> None:
    texts = Texts([20], (4, 2), 8)
    cache = texts.cache()
    texts.attended(cache, [(0, 0, 20)], None)
    assert np.isnan(cache.keys[1 - LAYER]).all()
    assert np.isnan(cache.values[1 - LAYER]).all()


def test_a_step_that_a_layer_has_not_attended_to_is_told_of() -> None:
    attention = CpuCache(config((4, 2), 8), 2).attention([Span(0, 3, [1])])
    with pytest.raises(UnsupportedModelError, match=r"layers \[0, 1\]"):
        attention.check()


@pytest.mark.parametrize(
    ("part", "shape"),
    [
        (0, (4, 20, 6)),
        (0, (3, 20, 8)),
        (1, (2, 20, 6)),
        (1, (2, 19, 8)),
        (1, (1, 20, 8)),
        (2, (2, 20, 16)),
        (2, (4, 20, 8)),
    ],
)
def test_heads_of_which_the_configuration_says_nothing_are_told_of(
    part: int, shape: tuple[int, ...]
) -> None:
    texts = Texts([20], (4, 2), 8)
    texts.parts[0][part] = torch.randn(shape)
    with pytest.raises(UnsupportedModelError, match="heads"):
        texts.attended(texts.cache(), [(0, 0, 20)], None)


@pytest.mark.parametrize("blocks", [[], [1], [1, 2], [-1, 0, 1], [0, 1, 3]])
def test_a_text_whose_blocks_are_too_few_or_not_there_is_refused(blocks: list[int]) -> None:
    cache = CpuCache(config((4, 2), 8), 3)
    with pytest.raises((ValueError, IndexError), match="block"):
        cache.attention([Span(0, 2 * BLOCK_SIZE + 1, blocks)])


def test_a_text_without_a_token_in_a_step_changes_nothing() -> None:
    texts = Texts([20, 30], (4, 2), 8)
    expected = texts.attended(texts.cache(), [(1, 0, 30)], None)[0]
    nothing, given = texts.attended(texts.cache(), [(0, 5, 5), (1, 0, 30)], None)
    assert not len(nothing)
    assert torch.equal(given, expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_memory_of_a_block_is_what_it_takes(dtype: torch.dtype) -> None:
    of = config((6, 3), 40)
    cache = CpuCache(of, 7, dtype)
    assert cache.keys.nbytes + cache.values.nbytes == 7 * CpuCache.block_bytes(of, dtype)


def test_what_is_no_number_is_none_in_bfloat16_either() -> None:
    texts = Texts([3], (1, 1), 4)
    texts.parts[0][2][0, 1, 2] = torch.tensor(0x7FFFFFFF, dtype=torch.int32).view(torch.float32)
    [output] = texts.attended(texts.cache(torch.bfloat16), [(0, 0, 3)], None)
    assert output[1:, 0].isnan().tolist() == [[False, False, True, False]] * 2


def resident(memory: NDArray[Any]) -> float:
    """The share of an array's pages, which begins with one, that the system has given."""
    pages = np.zeros(memory.nbytes // mmap.PAGESIZE, np.uint8)
    address, size = ctypes.c_void_p(memory.ctypes.data), ctypes.c_size_t(memory.nbytes)
    assert ctypes.CDLL(None).mincore(address, size, ctypes.c_void_p(pages.ctypes.data)) == 0
    return float((pages & 1).mean())


def test_memory_that_is_reserved_is_there_before_it_is_used() -> None:
    cache = CpuCache(config((1, 1), 32), 16_384)  # 67 MB each: never memory that others gave back
    assert resident(cache.keys) == resident(cache.values) == 0
    cache.reserve()
    assert resident(cache.keys) == resident(cache.values) == 1
