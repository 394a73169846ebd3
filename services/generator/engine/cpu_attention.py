"""Attention of a step's tokens on a CPU, which reads keys and values where they lie.

Each number of a token's result is summed in an order that its place in the sequence determines, and
nothing else: not with how many others it is computed, nor what of its sequence was computed before.
So a text is the same to the last bit whoever grows beside it (batch invariance; "Defeating
Nondeterminism in LLM Inference", He et al., 2025).
"""

import ctypes
from typing import Any

import numpy as np
from numba import types
from numba.extending import overload
from numpy.typing import NDArray

from services.generator.layers.compiled import OPTIONS, Floats, compiled
from services.generator.layers.product import (
    LANES,
    ROWS,
    WIDE,
    WIDE_ROWS,
    add_product,
    add_wide_product,
    prefetch,
    weigh,
)
from services.generator.openmp import (
    Call,
    barrier,
    carray,
    parallel,
    pointer,
    share,
    thread_count,
    thread_number,
)

Ints = NDArray[np.int64]

BLOCK_SIZE = LANES
"""Tokens of a block."""

_ALL_BUT_SIGN = np.uint32(2**31 - 1)
_INFINITE = np.uint32(0x7F800000)

TILE = 16
"""Tokens of one sequence at most that are attended to together, so that keys are read once."""

_ENOUGH = 4  # tiles for each thread, so that one tile more or less for it makes little difference
_READY = 4  # blocks


class Rows(Call):
    """A float32 tensor (heads, tokens, width), the numbers of a row side by side.

    Attributes:
        address: Where it begins.
        head: Bytes from head to head.
        token: Bytes from token to token.
    """

    _fields_ = tuple((name, ctypes.c_int64) for name in ("address", "head", "token"))


class AttentionCall(Call):
    """What the compiled loop is told; all but the first are numbers, or addresses of arrays.

    Attributes:
        query: Of the step's tokens, as `key` and `value`; `output` is written.
        keys: float32 or bfloat16 (blocks, heads, width, BLOCK_SIZE), written.
        values: As `keys` (blocks, heads, BLOCK_SIZE, width up to a multiple of LANES), written.
        slots: int64 (tokens,), where each token lies: `n` in block `n // BLOCK_SIZE`.
        tiles: int64 (tile_count, 4), tokens of one sequence: the first one's number in the step,
            its place in the sequence, how many there are, and where the sequence's table begins.
        tables: int64 (listed,), the blocks of each sequence, one sequence after the other.
        shares: int64 (share_count + 1, 2), the first token and the first tile of each share that a
            thread can compute by itself, and what is behind the last; 0 where there are none.
        longest: Tokens of the blocks of the longest sequence.
        window: How many tokens, itself included, a token sees at most.
        scale: Of the products.
    """

    _fields_ = (
        *((name, Rows) for name in ("query", "key", "value", "output")),
        *((name, ctypes.c_int64) for name in ("keys", "values", "slots", "tiles", "tables")),
        *((name, ctypes.c_int64) for name in ("tokens", "tile_count", "listed")),
        *((name, ctypes.c_int64) for name in ("shares", "share_count")),
        *((name, ctypes.c_int64) for name in ("blocks", "heads", "query_heads", "width")),
        *((name, ctypes.c_int64) for name in ("longest", "window")),
        ("scale", ctypes.c_float),
    )


@compiled
def _score(
    queries: Floats,
    keys: Any,
    values: Any,
    table: Ints,
    head: int,
    size: int,
    scores: Floats,
) -> None:
    """The products of queries (n, width) with the keys of the tokens of whole blocks.

    The values, which are read next, are let come.
    """
    scores[: len(queries), :size] = 0
    for at in range(0, size, BLOCK_SIZE):
        seen = keys[table[at // BLOCK_SIZE], head]
        if at + BLOCK_SIZE < size:
            prefetch(keys[table[at // BLOCK_SIZE + 1], head])
        prefetch(values[table[at // BLOCK_SIZE], head])
        for row in range(0, len(queries), ROWS):
            last = min(row + ROWS, len(queries))
            add_product(queries[row:last], seen, scores[row:last, at : at + LANES])


@compiled
def _collect(weights: Floats, values: Any, table: Ints, head: int, told: Floats) -> None:
    """The sums of the values of tokens, by weights (n, tokens).

    What lies behind the last token is another's, or nobody's.
    """
    count, tokens = weights.shape
    told[:] = 0
    wide = told.shape[1] % WIDE == 0
    columns, rows = (WIDE, WIDE_ROWS) if wide else (LANES, ROWS)
    for at in range(0, tokens, BLOCK_SIZE):
        end = min(at + BLOCK_SIZE, tokens)
        seen = values[table[at // BLOCK_SIZE], head, : end - at]
        for row in range(0, count, rows):
            last = min(row + rows, count)
            for column in range(0, told.shape[1], columns):
                mine = weights[row:last, at:end]
                there = seen[:, column : column + columns]
                sums = told[row:last, column : column + columns]
                if wide:
                    add_wide_product(mine, there, sums)
                else:
                    add_product(mine, there, sums)


@compiled
def _attend(
    query: Floats,
    keys: Any,
    values: Any,
    table: Ints,
    head: int,
    place: int,
    window: int,
    scores: Floats,
    sums: Floats,
    output: Floats,
) -> None:
    """One tile and head: queries (tokens, query heads that share it, width), scaled.

    There is a row of scores for each query, which begin with the first block that one of them sees.
    """
    tokens, shared_by, width = query.shape
    count = tokens * shared_by
    asked, told = query.reshape(count, width), output.reshape(count, output.shape[2])
    first = max(0, place + 1 - window) // BLOCK_SIZE
    begin, end = first * BLOCK_SIZE, place + tokens
    size = -(-end // BLOCK_SIZE) * BLOCK_SIZE - begin
    _score(asked, keys, values, table[first:], head, size, scores)
    for row in range(count):
        behind = place + row // shared_by + 1
        ahead = max(0, behind - window)
        sums[row] = weigh(scores[row], size, ahead - begin, behind - begin)
    _collect(scores[:count, : end - begin], values, table[first:], head, told)
    for row in range(count):
        told[row] /= sums[row]


@compiled
def row(rows: Any, head: int, token: int, width: int) -> Floats:
    """The numbers of one head of one token."""
    found: Floats = carray(
        pointer(rows.address + head * rows.head + token * rows.token), width, np.float32
    )
    return found


def _put(numbers: Any, memory: Any) -> None:
    """Keep numbers in memory of their type, or as bfloat16 in memory of uint16."""
    raise NotImplementedError("this is for compiled loops")


@overload(_put, jit_options=OPTIONS)
def _put_overload(numbers: Any, memory: Any) -> Any:
    def as_they_are(numbers: Any, memory: Any) -> None:
        memory[:] = numbers

    def rounded_to_even(numbers: Any, memory: Any) -> None:
        words = numbers.view(np.uint32)
        for place in range(len(words)):
            word = words[place]
            even = (word >> np.uint32(16)) & np.uint32(1)
            # What is no number must not become one.
            number = (word & _ALL_BUT_SIGN) <= _INFINITE
            added = np.uint32(0x7FFF) + even if number else np.uint32(0)
            memory[place] = (word + added) >> np.uint32(16)

    return rounded_to_even if memory.dtype == types.uint16 else as_they_are


@compiled
def _keep(key: Any, value: Any, token: int, keys: Any, values: Any, slot: int) -> None:
    """Put one token's keys and values where they lie."""
    block, place = slot // BLOCK_SIZE, slot % BLOCK_SIZE
    width = keys.shape[2]
    for head in range(keys.shape[1]):
        _put(row(key, head, token, width), keys[block, head, :, place])
        _put(row(value, head, token, width), values[block, head, place, :width])


@compiled
def _memory(call: Any, kind: Any) -> tuple[Any, Any]:
    """Where keys and values lie."""
    padded = -(-call.width // LANES) * LANES
    shape = (call.blocks, call.heads, call.width, BLOCK_SIZE)
    keys = carray(pointer(call.keys), shape, kind)
    shape = (call.blocks, call.heads, BLOCK_SIZE, padded)
    return keys, carray(pointer(call.values), shape, kind)


@compiled
def keep(call: Any, kind: Any, first: int, last: int) -> None:
    """Put the keys and values of some tokens, up to the last one, where they lie.

    A thread keeps what stands side by side: two that wrote to neighbours would wait for each other.

    Args:
        call: Of AttentionCall.
        kind: Of numbers in memory: np.float32, or np.uint16 for bfloat16.
        first: The first token.
        last: The first behind them.
    """
    keys, values = _memory(call, kind)
    slots = carray(pointer(call.slots), call.tokens, np.int64)
    for token in range(first, last):
        _keep(call.key, call.value, token, keys, values, slots[token])


@compiled
def _let_come(keys: Any, tables: Ints, tile: Ints, head: int) -> None:
    """Let the keys that a job reads first come, while the one before it is computed."""
    blocks = min(_READY, tile[1] // BLOCK_SIZE + 1)
    for block in tables[tile[3] : tile[3] + blocks]:
        prefetch(keys[block, head])


@compiled
def _ask(call: Any, head: int, first: int, query: Floats) -> None:
    """Scaled queries of some tokens and of the query heads that share a head, written."""
    tokens, shared_by, width = query.shape
    for token in range(tokens):
        for other in range(shared_by):
            numbers = row(call.query, head * shared_by + other, first + token, width)
            for column in range(width):
                query[token, other, column] = numbers[column] * call.scale


@compiled
def _tell(call: Any, head: int, first: int, output: Floats) -> None:
    """Put what was attended to where it is read."""
    tokens, shared_by, _ = output.shape
    for token in range(tokens):
        for other in range(shared_by):
            numbers = row(call.output, head * shared_by + other, first + token, call.width)
            numbers[:] = output[token, other, : call.width]


@compiled
def _attend_jobs(call: Any, kind: Any, begin: int, end: int, apart: int, together: int) -> None:
    """Attend to `together` jobs, a head of a tile each, from each begin on; begins are `apart`."""
    keys, values = _memory(call, kind)
    tiles = carray(pointer(call.tiles), (call.tile_count, 4), np.int64)
    tables = carray(pointer(call.tables), call.listed, np.int64)
    shared_by = call.query_heads // call.heads
    query = np.empty((TILE, shared_by, call.width), np.float32)
    output = np.empty((TILE, shared_by, values.shape[3]), np.float32)
    scores = np.empty((TILE * shared_by, call.longest), np.float32)
    sums = np.empty(TILE * shared_by, np.float32)
    for first_job in range(begin, end, apart):
        for job in range(first_job, first_job + together):
            following = job + 1 if job + 1 < first_job + together else first_job + apart
            if following < end:
                _let_come(keys, tables, tiles[following // call.heads], following % call.heads)
            head = job % call.heads
            first, place, count, listed = tiles[job // call.heads]
            table, asked, told = tables[listed:], query[:count], output[:count]
            _ask(call, head, first, asked)
            _attend(asked, keys, values, table, head, place, call.window, scores, sums, told)
            _tell(call, head, first, told)


@compiled
def attend_tiles(call: Any, kind: Any, first: int, last: int) -> None:
    """Attend with some tiles, up to the last one, whose sequences' keys and values are kept."""
    _attend_jobs(call, kind, first * call.heads, last * call.heads, call.heads, call.heads)


@compiled
def attend_share(call: Any, kind: Any) -> None:
    """One thread's share of the tiles and heads, when all keys and values have been kept.

    Where there are enough tiles, a thread does all heads of one, whose keys lie side by side.
    """
    threads = thread_count()
    together = call.heads if call.tile_count >= _ENOUGH * threads else 1
    jobs = call.tile_count * call.heads
    _attend_jobs(call, kind, thread_number() * together, jobs, threads * together, together)


@compiled
def _keep_and_attend(call: Any, kind: Any) -> None:
    first, last = share(call.tokens)
    keep(call, kind, first, last)
    barrier()
    attend_share(call, kind)


@parallel(AttentionCall)
def attend_float32(calls: Any) -> None:
    """Keep keys and values, and attend."""
    _keep_and_attend(carray(calls, 1)[0], np.float32)


@parallel(AttentionCall)
def attend_bfloat16(calls: Any) -> None:
    """As `attend_float32`."""
    _keep_and_attend(carray(calls, 1)[0], np.uint16)
