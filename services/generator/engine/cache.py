"""The KV cache: keys and values of every layer, in blocks, and attention that reads them there."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

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
        shape = (config.num_hidden_layers, blocks * block_size, heads, width)
        self.block_size = block_size
        self.keys = torch.zeros(shape, dtype=dtype, device=device)
        self.values = torch.zeros(shape, dtype=dtype, device=device)

    def slots(self, span: Span, begin: int) -> torch.Tensor:
        """Where a sequence's tokens from `begin` on lie, int64."""
        places = torch.arange(begin, span.end)
        blocks = torch.tensor(span.blocks)[places // self.block_size]
        return blocks * self.block_size + places % self.block_size


def token_bytes(config: Any, dtype: torch.dtype) -> int:
    """Memory that one token takes in the cache."""
    heads, width = _heads(config)
    return int(2 * config.num_hidden_layers * heads * width * dtype.itemsize)


def _heads(config: Any) -> tuple[int, int]:
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
        self._cache = cache
        self._spans = spans
        device = cache.keys.device
        ends = torch.tensor([span.end - span.begin for span in spans]).cumsum(0).tolist()
        self._rows = [
            slice(end - (span.end - span.begin), end) for span, end in zip(spans, ends, strict=True)
        ]
        self._new = torch.cat([cache.slots(span, span.begin) for span in spans]).to(device)
        single = [number for number, span in enumerate(spans) if span.end - span.begin == 1]
        self._single = _Single.of(cache, [spans[number] for number in single])
        self._single_rows = torch.tensor([self._rows[number].start for number in single])
        self._others = [
            (self._rows[number], span, cache.slots(span, 0).to(device))
            for number, span in enumerate(spans)
            if span.end - span.begin > 1
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
        keys, values = self._cache.keys[layer], self._cache.values[layer]
        keys[self._new] = key.transpose(0, 1)
        values[self._new] = value.transpose(0, 1)
        output = torch.empty_like(query.transpose(0, 1), memory_format=torch.contiguous_format)
        if self._single:
            attended = _attend(
                query[:, self._single_rows].transpose(0, 1).unsqueeze(2),
                keys[self._single.slots].transpose(1, 2),
                values[self._single.slots].transpose(1, 2),
                self._single.mask(window),
                scale,
            )
            output[self._single_rows] = attended.squeeze(2)
        for rows, span, slots in self._others:
            attended = _attend(
                query[:, rows].unsqueeze(0),
                keys[slots].transpose(0, 1).unsqueeze(0),
                values[slots].transpose(0, 1).unsqueeze(0),
                _causal(span, window, query.device),
                scale,
            )
            output[rows] = attended[0].transpose(0, 1)
        return output


@dataclass(frozen=True)
class _Single:
    """Sequences of which one token is computed, side by side.

    Attributes:
        slots: int64 (sequences, longest), where their tokens lie; slot 0 behind the end.
        lengths: int64 (sequences, 1), how many they have.
    """

    slots: torch.Tensor
    lengths: torch.Tensor

    @classmethod
    def of(cls, cache: KvCache, spans: Sequence[Span]) -> "_Single | None":
        if not spans:
            return None
        lengths = torch.tensor([span.end for span in spans])
        slots = torch.zeros(len(spans), int(lengths.max()), dtype=torch.int64)
        for row, span in enumerate(spans):
            slots[row, : span.end] = cache.slots(span, 0)
        device = cache.keys.device
        return cls(slots.to(device), lengths[:, None].to(device))

    def mask(self, window: int | None) -> torch.Tensor:
        """Which tokens each one sees, bool (sequences, 1, 1, longest)."""
        places = torch.arange(self.slots.shape[1], device=self.slots.device)
        seen = places < self.lengths
        if window is not None:
            seen &= places >= self.lengths - window
        return seen[:, None, None, :]


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
    grouped = query.shape[1] != key.shape[1]
    return scaled_dot_product_attention(
        query, key, value, attn_mask=mask, scale=scale, enable_gqa=grouped
    )


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
    scale = scaling if scaling is not None else query.shape[-1] ** -0.5
    attended = step(module.layer_idx, query[0], key[0], value[0], scale, sliding_window)
    return attended.unsqueeze(0), None


AttentionInterface.register(ATTENTION, _attention)
AttentionMaskInterface.register(ATTENTION, sdpa_mask)
