"""The KV cache of a CPU: keys and values of every layer, in blocks."""

import math
from collections.abc import Iterable, Sequence
from itertools import accumulate, chain
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from services.generator import openmp
from services.generator.engine.attention import (
    Span,
    StepAttention,
    UnsupportedModelError,
    heads_and_width,
)
from services.generator.engine.cpu_attention import (
    BLOCK_SIZE,
    TILE,
    AttentionCall,
    Ints,
    Rows,
    attend_bfloat16,
    attend_float32,
)
from services.generator.layers.product import LANES

EVERYTHING = 2**31
"""A window that nothing is outside of."""

_PAGE = 4096  # bytes
_KINDS: dict[torch.dtype, type[np.generic]] = {
    torch.float32: np.float32,
    torch.bfloat16: np.uint16,  # numpy has none
}


class CpuCache:
    """Keys and values of some tokens, in blocks of BLOCK_SIZE.

    The keys of a block lie as they are multiplied: a column is the numbers of all its tokens.

    Args:
        config: The model's configuration.
        blocks: How many blocks.
        dtype: What numbers are rounded to: torch.float32 or torch.bfloat16.
    """

    def __init__(self, config: Any, blocks: int, dtype: torch.dtype = torch.float32) -> None:
        keys, values = _block_shapes(config)
        self.dtype = dtype
        self.keys = _zeros((config.num_hidden_layers, blocks, *keys), _KINDS[dtype])
        self.values = _zeros((config.num_hidden_layers, blocks, *values), _KINDS[dtype])
        self._begins = tuple(
            each.ctypes.data + np.arange(len(each)) * each.strides[0]
            for each in (self.keys, self.values)
        )

    def reserve(self) -> None:
        """Take all of the memory from the system now: it takes long to, and texts would wait."""
        for each in (self.keys, self.values):
            each.reshape(-1)[:: _PAGE // each.itemsize] = 0

    def addresses(self, layers: Any) -> tuple[Any, Any]:
        """Where the keys and the values of layers begin, int64, given their numbers."""
        keys, values = self._begins
        return keys[layers], values[layers]

    @staticmethod
    def block_bytes(config: Any, dtype: torch.dtype = torch.float32) -> int:
        """Memory that one block takes."""
        numbers = sum(math.prod(shape) for shape in _block_shapes(config))
        return int(config.num_hidden_layers * numbers * dtype.itemsize)

    def attention(self, spans: Sequence[Span], shares: Sequence[int] = ()) -> "CpuAttention":
        """Attention for a step with these tokens; see `CpuAttention`."""
        return CpuAttention(self, spans, shares)


def _zeros(shape: tuple[int, ...], kind: type[np.generic]) -> NDArray[Any]:
    """Zeros that are the system's until they are written to, from the start of a page on."""
    numbers = math.prod(shape)
    memory = np.zeros(numbers + _PAGE, kind)
    begin = -memory.ctypes.data % _PAGE // memory.itemsize
    return memory[begin : begin + numbers].reshape(shape)


def _block_shapes(config: Any) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Of a layer's keys and values; see `AttentionCall`."""
    heads, width = heads_and_width(config)
    padded = -(-width // LANES) * LANES
    return (heads, width, BLOCK_SIZE), (heads, BLOCK_SIZE, padded)


class CpuAttention(StepAttention):
    """Attention for one step; the work is shared out among torch's threads.

    Args:
        cache: Where keys and values are put and read.
        spans: The tokens of each sequence, in the order in which they stand in the row.
        shares: How many sequences each thread computes by itself, one after the other, where layers
            can be computed so; none where all threads compute all together.

    Attributes:
        cache: That cache.
        call: What a compiled loop that attends is told of the step.
        places: int64 (tokens,), where each token stands in its sequence.
    """

    def __init__(self, cache: CpuCache, spans: Sequence[Span], shares: Sequence[int] = ()) -> None:
        super().__init__(len(cache.keys))
        tables, begins = _tables(spans)
        if tables.min() < 0 or tables.max() >= cache.keys.shape[1]:
            raise IndexError("a text has a block that the cache has not")
        self.places, slots = _places(spans)
        tiles, begun = _tiles(spans, begins, shares)
        self.cache = cache
        self._owned = slots, tiles, tables, begun
        self.call = call = AttentionCall()
        addresses = (each.ctypes.data for each in self._owned)
        call.slots, call.tiles, call.tables, call.shares = addresses
        call.share_count = len(shares)
        call.tokens, call.tile_count, call.listed = len(slots), len(tiles), len(tables)
        call.longest = max(map(_block_count, spans)) * BLOCK_SIZE
        _, call.blocks, call.heads, call.width, _ = cache.keys.shape

    def _attend(
        self,
        layer: int,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        scale: float,
        window: int | None,
    ) -> torch.Tensor:
        heads, tokens, width = query.shape
        call = self.call
        shape = call.heads, call.tokens, call.width
        if not shape == key.shape == value.shape == (call.heads, tokens, width) or (
            heads % call.heads
        ):
            raise UnsupportedModelError(f"whose layer {layer} has not the heads of its config")
        output = torch.empty(tokens, heads, width)
        # Tensors of other types, or whose rows do not lie side by side, are copied.
        kept = [each.float() for each in (query, key, value)]
        kept = [each if each.stride(2) == 1 else each.contiguous() for each in kept]
        call.query, call.key, call.value = (_rows(each) for each in kept)
        call.output, call.query_heads = _rows(output.transpose(0, 1)), heads
        call.keys, call.values = (int(each) for each in self.cache.addresses(layer))
        call.window, call.scale = window or EVERYTHING, scale
        attend = attend_float32 if self.cache.dtype == torch.float32 else attend_bfloat16
        openmp.run(attend, call, call.tile_count * call.heads)
        return output.to(query.dtype)


def _rows(tensor: torch.Tensor) -> Rows:
    head, token, _ = tensor.stride()
    return Rows(tensor.data_ptr(), 4 * head, 4 * token)


def _block_count(span: Span) -> int:
    """How many blocks hold all tokens so far."""
    return -(-span.end // BLOCK_SIZE)


def _tables(spans: Sequence[Span]) -> tuple[Ints, list[int]]:
    """The blocks of all tokens so far, int64, and where those of each sequence begin."""
    counts = list(map(_block_count, spans))
    for span, count in zip(spans, counts, strict=True):
        if len(span.blocks) < count:
            raise ValueError(f"{span.end} tokens do not fit {len(span.blocks)} blocks")
    tables = [span.blocks[:count] for span, count in zip(spans, counts, strict=True)]
    return _array(chain.from_iterable(tables)), list(accumulate(counts, initial=0))


def _places(spans: Sequence[Span]) -> tuple[Ints, Ints]:
    """Where each token stands in its sequence, and where it lies in the cache."""
    places: list[int] = []
    slots: list[int] = []
    for begin, end, blocks in spans:
        for place in range(begin, end):
            places.append(place)
            slots.append(blocks[place // BLOCK_SIZE] * BLOCK_SIZE + place % BLOCK_SIZE)
    return _array(places), _array(slots)


def _tiles(
    spans: Sequence[Span], tables: Sequence[int], shares: Sequence[int]
) -> tuple[Ints, Ints]:
    """See `AttentionCall.tiles` and `AttentionCall.shares`."""
    tiles: list[int] = []
    begun = [(0, 0)]  # the first token and the first tile of each span
    tokens = 0
    for (begin, end, _), table in zip(spans, tables, strict=False):
        for place in range(begin, end, TILE):
            tiles += tokens + place - begin, place, min(end - place, TILE), table
        tokens += end - begin
        begun.append((tokens, len(tiles) // 4))
    firsts = chain.from_iterable(begun[bound] for bound in accumulate(shares, initial=0))
    return _array(tiles).reshape(-1, 4), _array(firsts).reshape(-1, 2)


def _array(numbers: Iterable[int]) -> Ints:
    return np.fromiter(numbers, np.int64)
