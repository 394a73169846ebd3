"""Attention that reads keys and values where they lie, in blocks, without gathering them first.

Flash-decoding (Dao et al., 2023) over blocks (Kwon et al., 2023, "Efficient memory management for
large language model serving with PagedAttention"), in Triton. One kernel serves prefill and decode:
a program takes a tile of queries of one sequence, all that share one key-value head, and part of
what they see; where that is cut into several parts, a second kernel brings them together.
"""

import torch
import triton
import triton.language as tl

_KEYS = 64  # of a step through what is seen
_PROMPT_QUERIES = 64
_LEAST_QUERIES = _LEAST_WIDTH = 16  # that tensor cores multiply

_MOST_SPLITS = 16
_PROGRAMS_PER_PROCESSOR = 4
_LOG2_E = 1.4426950408889634


def attend(
    output: torch.Tensor,
    query: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    tiles: torch.Tensor,
    tables: torch.Tensor,
    block_size: int,
    scale: float,
    window: int | None,
    most: int,
) -> None:
    """Attend, each token to those of its own sequence up to itself.

    Args:
        output: Where the result goes, (tokens, heads, width), contiguous.
        query: (heads, tokens, width).
        keys: (slots, key-value heads, width), contiguous; slot `n` is in block `n // block_size`.
        values: As `keys`.
        tiles: int32 (tiles, 4), contiguous: of each the first token's number in `query` and its
            place in the sequence, how many tokens there are, and the sequence's row in `tables`.
        tables: int32 (sequences, blocks), contiguous rows: the blocks of each sequence, in order.
        block_size: Tokens of a block.
        scale: Of the products.
        window: How many tokens, itself included, a token sees at most; all when None.
        most: Tokens of the tile that has most.
    """
    heads, _, width = query.shape
    groups = keys.shape[1]
    rows = max(_LEAST_QUERIES, triton.next_power_of_2(most * heads // groups))
    splits = _splits(len(tiles) * groups, query.device) if most == 1 else 1
    query = query if query.stride(2) == 1 else query.contiguous()
    parts, weights = output, output  # a single part is the result
    if splits > 1:
        parts = output.new_empty(len(tiles), heads, splits, width, dtype=torch.float32)
        weights = output.new_empty(len(tiles), heads, splits, dtype=torch.float32)
    padded = max(_LEAST_WIDTH, triton.next_power_of_2(width))
    _attend[(len(tiles), groups, splits)](
        parts,
        weights,
        query,
        keys,
        values,
        tiles,
        tables,
        query.stride(0),
        query.stride(1),
        tables.stride(0),
        scale * _LOG2_E,
        window=window or 0,
        groups=groups,
        group=heads // groups,
        width=width,
        padded=padded,
        block_size=block_size,
        rows=rows,
        span=_KEYS,
        splits=splits,
        num_warps=4,
        num_stages=3,
    )
    if splits > 1:
        _combine[(len(tiles), heads)](
            output, parts, weights, tiles, heads=heads, width=width, padded=padded, splits=splits
        )


@torch.library.custom_op("segue::decode_attention", mutates_args=())
def decode_attention(
    query: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    tiles: torch.Tensor,
    tables: torch.Tensor,
    block_size: int,
    scale: float,
    window: int | None,
) -> torch.Tensor:
    """Attend as `attend` does, one token of each sequence; what a compiled model calls.

    Returns:
        (tokens, heads, width).
    """
    output = query.new_empty(query.shape[1], query.shape[0], query.shape[2])
    attend(output, query, keys, values, tiles, tables, block_size, scale, window, most=1)
    return output


@decode_attention.register_fake
def _(query: torch.Tensor, *_: object) -> torch.Tensor:
    return query.new_empty(query.shape[1], query.shape[0], query.shape[2])


def tokens_of_a_tile(group: int, dtype: torch.dtype) -> int:
    """How many tokens of a prompt make a tile, `group` query heads sharing a key-value head.

    Tiles of float32 are small, or they would not fit into a processor's registers.
    """
    queries = _PROMPT_QUERIES if dtype.itemsize <= 2 else _LEAST_QUERIES
    return max(1, queries // group)


def _splits(tiles: int, device: torch.device) -> int:
    """Into how many parts to cut what each tile sees, so that no processor of a GPU idles."""
    if device.type != "cuda":  # where Triton is interpreted, to be tested
        return 2
    processors = torch.cuda.get_device_properties(device).multi_processor_count
    wanted = max(1, _PROGRAMS_PER_PROCESSOR * processors // tiles)
    return int(min(_MOST_SPLITS, triton.next_power_of_2(wanted)))


@triton.jit(do_not_specialize=["table_stride"])  # which differs from step to step
def _attend(
    parts,
    weights,
    query,
    keys,
    values,
    tiles,
    tables,
    query_head_stride,
    query_token_stride,
    table_stride,
    scale,
    window: tl.constexpr,
    groups: tl.constexpr,
    group: tl.constexpr,
    width: tl.constexpr,
    padded: tl.constexpr,
    block_size: tl.constexpr,
    rows: tl.constexpr,
    span: tl.constexpr,
    splits: tl.constexpr,
):
    head = tl.program_id(1)
    split = tl.program_id(2)
    tile = tiles + 4 * tl.program_id(0)
    first_token = tl.load(tile).to(tl.int64)
    first_place = tl.load(tile + 1)
    count = tl.load(tile + 2)
    table = tables + tl.load(tile + 3) * table_stride

    row = tl.arange(0, rows)
    column = tl.arange(0, padded)
    token = first_token + row // group
    place = first_place + row // group
    query_head = head * group + row % group
    wide = column < width
    inside = (row // group < count)[:, None] & wide[None, :]
    query_at = token * query_token_stride + query_head * query_head_stride
    q = tl.load(query + query_at[:, None] + column[None, :], mask=inside, other=0.0)

    # What the tile sees, and this program's part of it.
    seen_end = first_place + count
    seen_begin = 0
    if window > 0:
        seen_begin = tl.maximum(first_place + 1 - window, 0)
    length = tl.cdiv(tl.cdiv(seen_end - seen_begin, splits), span) * span
    begin = seen_begin + split * length
    end = tl.minimum(begin + length, seen_end)

    # Not minus infinity: its difference with itself is no number.
    best = tl.full((rows,), -1e30, tl.float32)
    total = tl.zeros((rows,), tl.float32)
    mixed = tl.zeros((rows, padded), tl.float32)
    for start in range(begin, end, span):
        key_place = start + tl.arange(0, span)
        there = key_place < end
        block = tl.load(table + key_place // block_size, mask=there, other=0).to(tl.int64)
        slot = block * block_size + key_place % block_size
        at = (slot * groups + head)[:, None] * width + column[None, :]
        present = there[:, None] & wide[None, :]
        k = tl.load(keys + at, mask=present, other=0.0)
        v = tl.load(values + at, mask=present, other=0.0)
        visible = there[None, :] & (key_place[None, :] <= place[:, None])
        if window > 0:
            visible &= key_place[None, :] > place[:, None] - window
        scores = tl.dot(q, tl.trans(k), input_precision="ieee") * scale
        scores = tl.where(visible, scores, float("-inf"))
        better = tl.maximum(best, tl.max(scores, 1))
        share = tl.exp2(scores - better[:, None])
        fade = tl.exp2(best - better)
        total = total * fade + tl.sum(share, 1)
        mixed = mixed * fade[:, None]
        mixed += tl.dot(share.to(v.dtype), v, input_precision="ieee")
        best = better

    some = total > 0  # a part may hold nothing that is seen
    total = tl.where(some, total, 1.0)
    mixed = mixed / total[:, None]
    result = token if splits == 1 else tl.program_id(0) + row // group
    part = (result * (groups * group) + query_head) * splits + split
    tl.store(parts + part[:, None] * width + column[None, :], mixed, mask=inside)
    if splits > 1:
        weight = tl.where(some, best + tl.log2(total), float("-inf"))
        tl.store(weights + part, weight, mask=row // group < count)


@triton.jit
def _combine(
    output,
    parts,
    weights,
    tiles,
    heads: tl.constexpr,
    width: tl.constexpr,
    padded: tl.constexpr,
    splits: tl.constexpr,
):
    row = tl.program_id(0) * heads + tl.program_id(1)
    part = row * splits + tl.arange(0, splits)
    column = tl.arange(0, padded)
    wide = column < width
    weight = tl.load(weights + part)  # of the first part at least it is finite
    share = tl.exp2(weight - tl.max(weight, 0))
    at = part[:, None] * width + column[None, :]
    part_output = tl.load(parts + at, mask=wide[None, :], other=0.0)
    mixed = tl.sum(part_output * share[:, None], 0) / tl.sum(share, 0)
    token = tl.load(tiles + 4 * tl.program_id(0)).to(tl.int64)
    tl.store(output + (token * heads + tl.program_id(1)) * width + column, mixed, mask=wide)
