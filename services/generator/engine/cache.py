"""The KV cache: keys and values of every layer, in blocks, and attention that reads them there."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import numpy as np
import torch
from torch.nn.functional import embedding, scaled_dot_product_attention
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from services.generator import openmp
from services.generator.engine.decode_attention import DecodeAttention

ATTENTION = "segue"
"""Under which transformers' models find this attention."""


@dataclass(frozen=True, slots=True)
class Span:
    """Tokens of one sequence in a step.

    Attributes:
        begin: The first one's place in the sequence.
        end: Behind the last one; all before it are in the cache when the step is done.
        blocks: The sequence's blocks.
    """

    begin: int
    end: int
    blocks: Sequence[int]


class UnsupportedModelError(Exception):
    """The model does something in its attention that this engine does not know of."""

    def __init__(self, what: str) -> None:
        super().__init__(f"the torch engine cannot run a model {what}; use --engine reference")


class KvCache:
    """Keys and values of some tokens, in blocks.

    Args:
        config: The model's configuration.
        blocks: How many blocks.
        block_size: Tokens in each.
        dtype: Of the model.
        device: Of the model.
    """

    def __init__(
        self, config: Any, blocks: int, block_size: int, dtype: torch.dtype, device: torch.device
    ) -> None:
        heads, width = _heads(config)
        shape = (2, config.num_hidden_layers, blocks, block_size, heads, width)
        self.layers = int(config.num_hidden_layers)
        self.block_size = block_size
        self.device = device
        self._memory = _zeros(shape, dtype, device)
        self.compiled = device.type == "cpu" and dtype == torch.float32 and openmp.AVAILABLE
        self.memory = [(keys, values) for keys, values in zip(*self._memory, strict=True)]

    def put(self, layer: int, slots: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> None:
        """Keep the keys and values of some tokens, each (tokens, heads, width), where they lie."""
        for memory, new in zip(self._memory[:, layer], (key, value), strict=True):
            memory.flatten(0, 1)[slots] = new

    def get(self, layer: int, blocks: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The keys and the values in rows of blocks, each (rows, tokens, heads, width).

        Whole blocks are copied, which is several times faster than token by token.
        """
        key, value = (
            embedding(blocks, memory.flatten(1)).view(len(blocks), -1, *memory.shape[2:])
            for memory in self._memory[:, layer]
        )
        return key, value

    def slots(self, span: Span) -> torch.Tensor:
        """Where the tokens of a span lie, int64."""
        places = torch.arange(span.begin, span.end)
        blocks = torch.tensor(span.blocks)[places // self.block_size]
        return (blocks * self.block_size + places % self.block_size).to(self.device)

    def rows(self, spans: Sequence[Span]) -> torch.Tensor:
        """The blocks of all tokens so far of some sequences, int64 (sequences, most); then 0."""
        counts = [-(-span.end // self.block_size) for span in spans]
        rows = [
            [*span.blocks[:count], *([0] * (max(counts) - count))]
            for span, count in zip(spans, counts, strict=True)
        ]
        return torch.tensor(rows, device=self.device)


def _zeros(shape: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    """Memory that holds zeros; on a CPU it is the system's until it is written to."""
    if device.type != "cpu":
        return torch.zeros(shape, dtype=dtype, device=device)
    memory = np.zeros(math.prod(shape) * dtype.itemsize, np.uint8)
    return torch.from_numpy(memory).view(dtype).view(shape)


def token_bytes(config: Any, dtype: torch.dtype) -> int:
    """Memory that one token takes in the cache."""
    heads, width = _heads(config)
    return int(2 * config.num_hidden_layers * heads * width * dtype.itemsize)


def _heads(config: Any) -> tuple[int, int]:
    if not hasattr(config, "num_attention_heads"):
        raise UnsupportedModelError("without attention heads")
    heads = config.num_attention_heads
    width = getattr(config, "head_dim", None) or config.hidden_size // heads
    return getattr(config, "num_key_value_heads", None) or heads, width


class StepAttention:
    """Attention for one step: some tokens of several sequences, one behind the other in one row.

    Each token sees those of its own sequence up to itself, and no farther back than the model's
    sliding window, where it has one.

    Args:
        cache: Where keys and values are put and read.
        spans: The tokens of each sequence, in the order in which they stand in the row.
    """

    def __init__(self, cache: KvCache, spans: Sequence[Span]) -> None:
        self._layers = set(range(cache.layers))  # that have not attended yet
        ends = accumulate(span.end - span.begin for span in spans)
        placed = [
            _Placed(span, slice(end - (span.end - span.begin), end))
            for span, end in zip(spans, ends, strict=True)
        ]
        decode = _CompiledDecode if cache.compiled else _Decode
        one = [each for each in placed if each.count == 1]
        more = [each for each in placed if each.count > 1]
        self._parts: list[_Decode | _CompiledDecode | _Prefill] = [
            *([decode(cache, one)] if one else []),
            *(_Prefill(cache, each) for each in more),
        ]

    def __call__(
        self,
        layer: int,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        scale: float,
        window: int | None,
    ) -> torch.Tensor:
        """Attend in one layer.

        Args:
            layer: Its number.
            query: (heads, tokens, width).
            key: (key-value heads, tokens, width).
            value: As `key`.
            scale: Of the products.
            window: How many tokens, itself included, a token sees at most; all when None.

        Returns:
            (tokens, heads, width).
        """
        self._layers.discard(layer)
        query, key, value = (each.transpose(0, 1) for each in (query, key, value))
        output = torch.empty_like(query, memory_format=torch.contiguous_format)
        for part in self._parts:
            part.attend(layer, query, key, value, scale, window, output)
        return output

    def check(self) -> None:
        """Raise UnsupportedModelError unless every layer has attended.

        A layer that keeps what it knows of earlier tokens elsewhere, as recurrent ones do, would
        mix up the sequences of a step.
        """
        if self._layers:
            raise UnsupportedModelError(f"whose layers {sorted(self._layers)} have no attention")


@dataclass(frozen=True, slots=True)
class _Placed:
    """A span, and where its tokens stand in the step's row."""

    span: Span
    rows: slice

    @property
    def count(self) -> int:
        return self.span.end - self.span.begin


class _Prefill:
    """Several tokens of one sequence."""

    def __init__(self, cache: KvCache, placed: _Placed) -> None:
        self._cache = cache
        self._span, self._rows = placed.span, placed.rows
        self._slots = cache.slots(placed.span)
        self._blocks = cache.rows([placed.span])

    def attend(
        self,
        layer: int,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        scale: float,
        window: int | None,
        output: torch.Tensor,
    ) -> None:
        """As `StepAttention`, but for tensors (tokens, heads, width); writes its rows."""
        rows = self._rows
        self._cache.put(layer, self._slots, key[rows], value[rows])
        keys, values = (all_[:, : self._span.end] for all_ in self._cache.get(layer, self._blocks))
        mask = _causal(self._span, window, query.device)
        attended = _attend(query[rows].transpose(0, 1)[None], keys, values, mask, scale)
        output[rows] = attended[0].transpose(0, 1)


class _Decode:
    """One token of each of several sequences, side by side."""

    def __init__(self, cache: KvCache, placed: Sequence[_Placed]) -> None:
        spans = [each.span for each in placed]
        lengths = [span.end for span in spans]
        self._cache = cache
        self._slots = torch.cat([cache.slots(span) for span in spans])
        self._blocks = cache.rows(spans)
        self._lengths = torch.tensor(lengths, device=cache.device)[:, None]
        self._rows = torch.tensor([each.rows.start for each in placed], device=cache.device)

    def attend(
        self,
        layer: int,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        scale: float,
        window: int | None,
        output: torch.Tensor,
    ) -> None:
        """See `_Prefill.attend`."""
        rows = self._rows
        self._cache.put(layer, self._slots, key[rows], value[rows])
        keys, values = self._cache.get(layer, self._blocks)
        mask = self._mask(keys.shape[1], window)
        output[rows] = _attend(query[rows, :, None], keys, values, mask, scale)[:, :, 0]

    def _mask(self, longest: int, window: int | None) -> torch.Tensor:
        """Which tokens each one sees, bool (sequences, 1, 1, longest)."""
        places = torch.arange(longest, device=self._lengths.device)
        seen = places < self._lengths
        if window is not None:
            seen &= places >= self._lengths - window
        return seen[:, None, None, :]


class _CompiledDecode:
    """As `_Decode`, in one pass over the cache."""

    def __init__(self, cache: KvCache, placed: Sequence[_Placed]) -> None:
        spans = [each.span for each in placed]
        self._cache = cache
        self._attend = DecodeAttention(
            [each.rows.start for each in placed], cache.rows(spans), [span.end for span in spans]
        )

    def attend(
        self,
        layer: int,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        scale: float,
        window: int | None,
        output: torch.Tensor,
    ) -> None:
        """See `_Prefill.attend`."""
        self._attend(query, key, value, self._cache.memory[layer], window, scale, output)


def _causal(span: Span, window: int | None, device: torch.device) -> torch.Tensor:
    """Which tokens of a sequence each new one sees, bool (new, all)."""
    new = torch.arange(span.begin, span.end, device=device)[:, None]
    places = torch.arange(span.end, device=device)
    seen = places <= new
    if window is not None:
        seen &= places > new - window
    return seen


def _attend(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: torch.Tensor, scale: float
) -> torch.Tensor:
    """Attention of queries (n, heads, new, width) to keys and values (n, all, heads, width)."""
    return scaled_dot_product_attention(
        query,
        key.transpose(1, 2),
        value.transpose(1, 2),
        attn_mask=mask,
        scale=scale,
        enable_gqa=query.shape[1] != key.shape[2],
    )


_UNKNOWN = ("softcap", "s_aux", "position_bias")
"""What some models ask of attention, under transformers' names, and would miss in silence."""


def _attention(
    module: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    *,
    step: StepAttention | None = None,
    scaling: float | None = None,
    sliding_window: int | None = None,
    **options: Any,
) -> tuple[torch.Tensor, None]:
    """As transformers calls attention; without a step it is the usual one."""
    if step is None:
        attended, _ = sdpa_attention_forward(
            module, query, key, value, attention_mask, scaling=scaling, **options
        )
        return attended, None
    if unknown := [name for name in _UNKNOWN if options.get(name) is not None]:
        raise UnsupportedModelError(f"whose attention has {unknown}")
    scale = scaling if scaling is not None else query.shape[-1] ** -0.5
    attended = step(module.layer_idx, query[0], key[0], value[0], scale, sliding_window)
    return attended.unsqueeze(0), None


AttentionInterface.register(ATTENTION, _attention)
AttentionMaskInterface.register(ATTENTION, sdpa_mask)
