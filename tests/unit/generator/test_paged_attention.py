"""Attention over blocks: the same as over a row of keys and values, wherever the blocks lie.

Without a GPU, Triton interprets its kernels if it is told to from the start (`make test-kernels`);
else nothing is tested here.
"""

import os
import random
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention

pytest.importorskip("triton")

from services.generator.engine import torch_engine
from services.generator.engine.attention import Span
from services.generator.engine.interface import GenerationRequest, Stopping
from services.generator.engine.paged_cache import DecodeAttention, PagedAttention, PagedCache
from services.generator.engine.paged_runner import PagedRunner
from services.generator.engine.scheduler import Limits
from services.generator.engine.torch_engine import TorchEngine
from services.generator.models import LoadedModel
from tests.unit.generator.same_texts import arriving, by_generate, bytes_for, prompts

CUDA = torch.cuda.is_available()
pytestmark = (
    [pytest.mark.cuda]
    if CUDA
    else [
        pytest.mark.skipif(
            os.environ.get("TRITON_INTERPRET") != "1", reason="needs a GPU, or TRITON_INTERPRET=1"
        )
    ]
)

DEVICE = torch.device("cuda" if CUDA else "cpu")
# The interpreter knows no bfloat16.
DTYPES = [torch.float32, torch.bfloat16] if CUDA else [torch.float32, torch.float16]
BLOCK, BLOCKS = 16, 40


@dataclass(frozen=True)
class Heads:
    """The shape of a model's attention, as its configuration has it."""

    num_attention_heads: int
    num_key_value_heads: int
    head_dim: int
    num_hidden_layers: int = 2


SHAPES = {"Phi-3": Heads(4, 4, 96), "three to one": Heads(6, 2, 64), "one for all": Heads(4, 1, 16)}


class Texts:
    """Keys and values of some texts, in blocks that lie anywhere, and their last layer's queries.

    Args:
        lengths: How many tokens each text has, and how many of them are new.
    """

    def __init__(self, heads: Heads, dtype: torch.dtype, lengths: list[tuple[int, int]]) -> None:
        torch.manual_seed(3)
        self.heads = heads
        self.cache = PagedCache(heads, BLOCKS, BLOCK, dtype, DEVICE)
        free = random.Random(3).sample(range(BLOCKS), BLOCKS)
        self.spans = [
            Span(length - new, length, [free.pop() for _ in range(-(-length // BLOCK))])
            for length, new in lengths
        ]
        self.rows = [
            torch.randn(3, heads.num_attention_heads, length, heads.head_dim).to(DEVICE, dtype)
            for length, _ in lengths
        ]
        for span, (_, key, value) in zip(self.spans, self.rows, strict=True):
            slots = [span.blocks[at // BLOCK] * BLOCK + at % BLOCK for at in range(span.begin)]
            groups = heads.num_key_value_heads
            before = slice(span.begin)
            where = torch.tensor(slots, dtype=torch.int64, device=DEVICE)
            self.cache.put(1, where, key[:groups, before], value[:groups, before])

    def attend(self, attention: Any, window: int | None) -> torch.Tensor:
        """What an attention of this engine makes of the new tokens."""
        new = [row[:, :, span.begin :] for row, span in zip(self.rows, self.spans, strict=True)]
        query, key, value = torch.cat(new, dim=2)
        groups = self.heads.num_key_value_heads
        output: torch.Tensor = attention(1, query, key[:groups], value[:groups], 0.2, window)
        return output

    def expected(self, window: int | None) -> torch.Tensor:
        """What SDPA makes of them."""
        groups = self.heads.num_key_value_heads
        parts = []
        for span, (query, key, value) in zip(self.spans, self.rows, strict=True):
            places = torch.arange(span.end, device=DEVICE)
            seen = places <= places[:, None]
            if window:
                seen &= places > places[:, None] - window
            part = scaled_dot_product_attention(
                query[None, :, span.begin :].float(),
                key[None, :groups].float(),
                value[None, :groups].float(),
                attn_mask=seen[span.begin :],
                scale=0.2,
                enable_gqa=True,
            )
            parts.append(part[0].transpose(0, 1))
        return torch.cat(parts)


@pytest.mark.parametrize("window", [None, 20, 1])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("heads", SHAPES.values(), ids=SHAPES)
class TestAttention:
    def test_to_blocks_is_that_to_a_row(
        self, heads: Heads, dtype: torch.dtype, window: int | None
    ) -> None:
        texts = Texts(heads, dtype, [(1, 1), (70, 70), (130, 1), (90, 33), (16, 16), (17, 1)])
        attended = texts.attend(PagedAttention(texts.cache, texts.spans), window)
        tolerance = 1e-5 if dtype == torch.float32 else 2e-2
        torch.testing.assert_close(
            attended.float(), texts.expected(window), atol=tolerance, rtol=tolerance
        )

    def test_that_can_be_compiled_is_the_same(
        self, heads: Heads, dtype: torch.dtype, window: int | None
    ) -> None:
        texts = Texts(heads, dtype, [(2, 1), (130, 1), (64, 1), (65, 1)])
        places = torch.tensor([span.begin for span in texts.spans], device=DEVICE)
        tables = torch.full((4, 9), texts.cache.scratch, dtype=torch.int32, device=DEVICE)
        for row, span in zip(tables, texts.spans, strict=True):
            row[: len(span.blocks)] = torch.tensor(span.blocks)
        attended = texts.attend(DecodeAttention(texts.cache, places, tables), window)
        tolerance = 1e-5 if dtype == torch.float32 else 2e-2
        torch.testing.assert_close(
            attended.float(), texts.expected(window), atol=tolerance, rtol=tolerance
        )


@pytest.mark.skipif(CUDA, reason="on a GPU, test_cuda.py tests this and graphs too")
class TestATextByTheseKernels:
    """The whole engine, its kernels interpreted."""

    @pytest.fixture(autouse=True)
    def use_them(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(torch_engine, "_runner", PagedRunner)

    @pytest.mark.parametrize("blocks", [64, 6])
    async def test_is_that_of_generate(self, tiny_llama: LoadedModel, blocks: int) -> None:
        asked = prompts(6, 400, 60)
        expected = [by_generate(tiny_llama, prompt, 8) for prompt in asked]
        kv_bytes = bytes_for(tiny_llama, blocks)
        engine = TorchEngine(tiny_llama, kv_bytes=kv_bytes, limits=Limits(tokens=24))
        wanted = [GenerationRequest(one, stopping=Stopping(8, ignore_eos=True)) for one in asked]
        try:
            assert await arriving(engine, wanted, 3) == expected
        finally:
            await engine.close()

    async def test_sees_no_farther_than_the_models_window(self, windowed_phi3: LoadedModel) -> None:
        asked = prompts(3, 32_000)
        expected = [by_generate(windowed_phi3, prompt, 8) for prompt in asked]
        engine = TorchEngine(windowed_phi3, limits=Limits(tokens=30))
        wanted = [GenerationRequest(one, stopping=Stopping(8, ignore_eos=True)) for one in asked]
        try:
            assert await arriving(engine, wanted, 3) == expected
        finally:
            await engine.close()
