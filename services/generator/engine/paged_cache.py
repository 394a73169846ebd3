"""The KV cache of a GPU, and attention that reads its blocks in place."""

from collections.abc import Sequence
from itertools import accumulate
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, DTypeLike

from services.generator.engine.attention import Span, StepAttention, heads_and_width
from services.generator.engine.paged_attention import attend, decode_attention, tokens_of_a_tile


class PagedCache:
    """Keys and values of some tokens, in blocks, and one block more for what nobody reads.

    A layer's lie in tensors of their own: a compiled model that writes to a part of a larger one
    copies the whole.

    Args:
        config: The model's configuration.
        blocks: How many blocks are lent.
        block_size: Tokens in each.
        dtype: Of the model.
        device: Of the model.

    Attributes:
        keys: Of each layer, (slots, key-value heads, width); slot `n` is in block
            `n // block_size`.
        values: As `keys`.
        scratch: Number of the block that is not lent.
    """

    def __init__(
        self, config: Any, blocks: int, block_size: int, dtype: torch.dtype, device: torch.device
    ) -> None:
        groups, width = heads_and_width(config)
        shape = ((blocks + 1) * block_size, groups, width)
        self.layers = int(config.num_hidden_layers)
        self.block_size = block_size
        self.scratch = blocks
        self.device = device
        self.keys = [torch.zeros(shape, dtype=dtype, device=device) for _ in range(self.layers)]
        self.values = [torch.zeros_like(keys) for keys in self.keys]

    def put(self, layer: int, slots: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> None:
        """Keep (key-value heads, tokens, width) of each in slots, int64 (tokens,)."""
        self.keys[layer].index_put_((slots,), key.transpose(0, 1))
        self.values[layer].index_put_((slots,), value.transpose(0, 1))


class PagedAttention(StepAttention):
    """Attention for one step: some tokens of several sequences, one behind the other in one row.

    Args:
        cache: Where keys and values are put and read.
        spans: The tokens of each sequence, in the order in which they stand in the row.
    """

    def __init__(self, cache: PagedCache, spans: Sequence[Span]) -> None:
        super().__init__(cache.layers)
        self._cache = cache
        self._spans = spans
        counts = [-(-span.end // cache.block_size) for span in spans]
        tables = np.zeros((len(spans), max(counts)), np.int32)
        slots = []
        for table, span, count in zip(tables, spans, counts, strict=True):
            table[:count] = span.blocks[:count]
            places = np.arange(span.begin, span.end)
            slots.append(
                table[places // cache.block_size].astype(np.int64) * cache.block_size
                + places % cache.block_size
            )
        self._tables = to_device(tables, np.int32, cache.device)
        self._slots = to_device(np.concatenate(slots), np.int64, cache.device)
        self._tiles: list[tuple[torch.Tensor, int]] = []  # and how many tokens each has at most

    def _attend(
        self,
        layer: int,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        scale: float,
        window: int | None,
    ) -> torch.Tensor:
        cache = self._cache
        cache.put(layer, self._slots, key, value)
        if not self._tiles:
            self._tiles = self._cut(len(query) // len(key), query.dtype)
        output = query.new_empty(query.shape[1], query.shape[0], query.shape[2])
        for tiles, most in self._tiles:
            attend(
                output,
                query,
                cache.keys[layer],
                cache.values[layer],
                tiles,
                self._tables,
                cache.block_size,
                scale,
                window,
                most,
            )
        return output

    def _cut(self, group: int, dtype: torch.dtype) -> list[tuple[torch.Tensor, int]]:
        """Tiles of single tokens, for which few queries are multiplied, and those of prompts."""
        most = tokens_of_a_tile(group, dtype)
        singles: list[tuple[int, ...]] = []
        others: list[tuple[int, ...]] = []
        firsts = accumulate((span.end - span.begin for span in self._spans), initial=0)
        for row, (span, first) in enumerate(zip(self._spans, firsts, strict=False)):
            tiles = singles if span.end - span.begin == 1 else others
            for place in range(span.begin, span.end, most):
                count = min(most, span.end - place)
                tiles.append((first + place - span.begin, place, count, row))
        return [
            (to_device(tiles, np.int32, self._cache.device), size)
            for tiles, size in ((singles, 1), (others, most))
            if tiles
        ]


class DecodeAttention(StepAttention):
    """Attention for a step in which each sequence has one token; it can be compiled.

    Args:
        cache: Where keys and values are put and read.
        places: Where each token stands in its sequence, int64 (sequences,).
        tables: int32 (sequences, blocks): the blocks of each sequence, in order.
    """

    def __init__(self, cache: PagedCache, places: torch.Tensor, tables: torch.Tensor) -> None:
        super().__init__(cache.layers)
        self._cache = cache
        self._tables = tables
        blocks = tables.gather(1, (places // cache.block_size)[:, None])[:, 0]
        self._slots = blocks.long() * cache.block_size + places % cache.block_size
        numbers = torch.arange(len(places), device=places.device)
        tiles = torch.stack([numbers, places, torch.ones_like(places), numbers], dim=1)
        self._tiles = tiles.int()

    def _attend(
        self,
        layer: int,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        scale: float,
        window: int | None,
    ) -> torch.Tensor:
        cache = self._cache
        cache.put(layer, self._slots, key, value)
        keys, values = cache.keys[layer], cache.values[layer]
        output: torch.Tensor = decode_attention(
            query, keys, values, self._tiles, self._tables, cache.block_size, scale, window
        )
        return output


def to_device(values: ArrayLike, dtype: DTypeLike, device: torch.device) -> torch.Tensor:
    """Copy numbers to a device; nothing waits for a GPU that is still busy."""
    there = torch.from_numpy(np.ascontiguousarray(values, dtype))
    if device.type == "cuda":
        there = there.pin_memory()
    return there.to(device, non_blocking=True)
