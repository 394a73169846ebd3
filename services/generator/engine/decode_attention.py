"""Attention of one new token a sequence, on a CPU, which reads keys and values where they lie.

A copy into one tensor a step, as torch's attention wants it, would read and write all of them once
more, and what it costs to read them is what a step of many sequences costs.
"""

import ctypes
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from services.generator.layers.compiled import Floats, Words, compiled, exponentials, largest
from services.generator.openmp import carray, parallel, pointer, run, thread_count, thread_number

Ints = NDArray[np.int64]

_EVERYTHING = 2**31


class _Call(ctypes.Structure):
    """What the compiled loop is told; the first ones are addresses."""

    _fields_ = (
        *((name, ctypes.c_int64) for name in ("rows", "blocks", "lengths")),
        *((name, ctypes.c_int64) for name in ("query", "key", "value")),
        *((name, ctypes.c_int64) for name in ("keys", "values", "output")),
        *((name, ctypes.c_int64) for name in ("query_stride", "key_stride", "value_stride")),
        *((name, ctypes.c_int64) for name in ("sequences", "most", "tokens", "query_heads")),
        *((name, ctypes.c_int64) for name in ("count", "size", "heads", "width", "window")),
        ("scale", ctypes.c_float),
    )


class DecodeAttention:
    """Attends for one step; the sequences are shared out among torch's threads.

    Args:
        rows: Where each sequence's token stands in the step.
        blocks: int64 (sequences, most), where each sequence's tokens lie.
        lengths: How many tokens there are of each, the new one included.
    """

    def __init__(self, rows: Sequence[int], blocks: torch.Tensor, lengths: Sequence[int]) -> None:
        self._owned = np.array(rows), blocks.contiguous().numpy(), np.array(lengths)
        self._call = call = _Call()
        call.rows, call.blocks, call.lengths = (each.ctypes.data for each in self._owned)
        call.sequences, call.most = blocks.shape

    def __call__(
        self,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        memory: tuple[torch.Tensor, torch.Tensor],
        window: int | None,
        scale: float,
        output: torch.Tensor,
    ) -> None:
        """Keep each new token's key and value, and attend to all tokens of its sequence.

        All tensors are float32, and a token's numbers lie side by side.

        Args:
            query: (tokens, heads, width), of the step.
            key: (tokens, key-value heads, width).
            value: As `key`.
            memory: Keys and values of the layer, each (blocks, block size, key-value heads, width);
                written.
            window: How many of the last tokens one sees; all when None.
            scale: Of the products.
            output: (tokens, heads, width), written in the sequences' rows.
        """
        call, (keys, values) = self._call, memory
        # Rows of tokens, which are copied only if their numbers do not lie side by side.
        query_rows, key_rows, value_rows = query.flatten(1), key.flatten(1), value.flatten(1)
        call.query, call.query_stride = query_rows.data_ptr(), _stride(query_rows)
        call.key, call.key_stride = key_rows.data_ptr(), _stride(key_rows)
        call.value, call.value_stride = value_rows.data_ptr(), _stride(value_rows)
        call.keys, call.values, call.output = keys.data_ptr(), values.data_ptr(), output.data_ptr()
        call.count, call.size, call.heads, call.width = keys.shape
        call.tokens, call.query_heads = query.shape[:2]
        call.window, call.scale = window or _EVERYTHING, scale
        run(_share, call, call.sequences)


def _stride(rows: torch.Tensor) -> int:
    """From row to row; torch may say anything of a single one."""
    return max(rows.stride(0), rows.shape[1])


@compiled
def softmax(scores: Floats, bits: Words) -> None:
    """Change scores (n,) into weights that add up to 1; what is in bits (n,) does not matter."""
    scores -= largest(scores)
    exponentials(scores, bits)
    scores /= scores.sum()


@compiled
def _attend(
    query: Floats,
    keys: Floats,
    values: Floats,
    blocks: Ints,
    tokens: tuple[int, int],
    scale: np.float32,
    scores: Floats,
    bits: Words,
    output: Floats,
) -> None:
    """One sequence's new token: query and output (heads, width), keys and values as in memory.

    The heads of a token are read together, as they lie together.
    """
    first, end = tokens
    size, heads = keys.shape[1], keys.shape[2]
    shared_by = len(query) // heads
    for token in range(first, end):
        seen = keys[blocks[token // size], token % size]
        for head in range(heads):
            for one in range(head * shared_by, (head + 1) * shared_by):
                product = np.float32(0)
                for column in range(seen.shape[1]):
                    product += query[one, column] * seen[head, column]
                scores[one, token - first] = product * scale
    for one in range(len(query)):
        softmax(scores[one, : end - first], bits[: end - first])
    output[:] = 0
    for token in range(first, end):
        told = values[blocks[token // size], token % size]
        for head in range(heads):
            for one in range(head * shared_by, (head + 1) * shared_by):
                weight = scores[one, token - first]
                for column in range(told.shape[1]):
                    output[one, column] += weight * told[head, column]


@parallel(_Call)
def _share(calls: Any) -> None:
    """One thread's share of the sequences."""
    call = carray(calls, 1)[0]
    size, heads, width = call.size, call.heads, call.width
    rows = carray(pointer(call.rows), call.sequences, np.int64)
    blocks = carray(pointer(call.blocks), (call.sequences, call.most), np.int64)
    lengths = carray(pointer(call.lengths), call.sequences, np.int64)
    query = carray(pointer(call.query), (call.tokens, call.query_stride), np.float32)
    key = carray(pointer(call.key), (call.tokens, call.key_stride), np.float32)
    value = carray(pointer(call.value), (call.tokens, call.value_stride), np.float32)
    keys = carray(pointer(call.keys), (call.count, size, heads, width), np.float32)
    values = carray(pointer(call.values), (call.count, size, heads, width), np.float32)
    output = carray(pointer(call.output), (call.tokens, call.query_heads, width), np.float32)
    longest = lengths.max()
    asked = np.empty((call.query_heads, width), np.float32)
    told = np.empty((call.query_heads, width), np.float32)
    scores, bits = np.empty((call.query_heads, longest), np.float32), np.empty(longest, np.int32)
    for sequence in range(thread_number(), call.sequences, thread_count()):
        row, end = rows[sequence], lengths[sequence]
        block, place = blocks[sequence, (end - 1) // size], (end - 1) % size
        for head in range(heads):
            keys[block, place, head] = key[row, head * width : (head + 1) * width]
            values[block, place, head] = value[row, head * width : (head + 1) * width]
        for head in range(call.query_heads):
            asked[head] = query[row, head * width : (head + 1) * width]
        seen = (max(0, end - call.window), end)
        _attend(asked, keys, values, blocks[sequence], seen, call.scale, scores, bits, told)
        output[row] = told
