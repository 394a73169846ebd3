"""A decoder layer of Llama's kind, in one compiled loop.

Threads either share the outputs of each product, and wait for each other before what needs all of
them; or each computes some of the step's sequences by itself, through all layers (see `shares`).
"""

import ctypes
from typing import Any, NamedTuple

import numpy as np

from services.generator.engine.cpu_attention import AttentionCall, attend_share, attend_tiles, keep
from services.generator.engine.cpu_attention import row as head_row
from services.generator.layers.compiled import Floats, compiled
from services.generator.layers.hadamard import MOST, transform
from services.generator.layers.int8_product import (
    GATED,
    WORD,
    Int8Weights,
    gate_groups,
    multiply_groups,
)
from services.generator.layers.rms_norm import normalize_row
from services.generator.layers.rounding import LARGEST, peak, round_row, round_to
from services.generator.openmp import (
    Call,
    barrier,
    carray,
    pointer,
    share,
    thread_count,
    thread_number,
)


class LayerCall(Call):
    """What the compiled loop is told; widths are those of one token.

    Attributes:
        attention: Its query, key and value lie side by side, as the first product gives them.
        hidden: Address of float32 (tokens, hidden_width), changed.
        inner: Of float32 (tokens, inner_width), written.
        rounded: Of bytes (tokens, widest), written: rows that are rounded.
        scales: Of float32 (tokens,), written.
        peaks: Of float32 (threads, tokens), written.
        cosines: Of float32 (tokens, width of a head).
        sines: As `cosines`.
        attention_norm: Of float32 (hidden_width,).
        mlp_norm: As `attention_norm`.
    """

    _fields_ = (
        ("attention", AttentionCall),
        *((name, Int8Weights) for name in ("projections", "output", "gate_up", "down")),
        *((name, ctypes.c_int64) for name in ("hidden", "inner", "rounded", "scales", "peaks")),
        *((name, ctypes.c_int64) for name in ("cosines", "sines", "attention_norm", "mlp_norm")),
        *((name, ctypes.c_int64) for name in ("hidden_width", "inner_width", "widest")),
        *((name, ctypes.c_float) for name in ("attention_epsilon", "mlp_epsilon")),
    )


@compiled
def floats(address: int, row: int, width: int) -> Floats:
    """A row of an array (rows, width)."""
    found: Floats = carray(pointer(address + 4 * row * width), width, np.float32)
    return found


class Work(NamedTuple):
    """What a thread computes of a step.

    Attributes:
        alone: Whether it needs nothing of what others compute.
        first: The first token whose rows it takes as a whole.
        last: The first behind them.
        begin: The first token of which it computes products: all outputs, or its share of them.
        end: The first behind them.
        first_tile: Of its tokens, where it is alone.
        last_tile: The first behind them.
    """

    alone: bool
    first: int
    last: int
    begin: int
    end: int
    first_tile: int
    last_tile: int


@compiled
def alone(attention: Any, number: int) -> Work:
    """A share that is computed without the others."""
    shares = carray(pointer(attention.shares), (attention.share_count + 1, 2), np.int64)
    first, last = shares[number, 0], shares[number + 1, 0]
    return Work(True, first, last, first, last, shares[number, 1], shares[number + 1, 1])


@compiled
def with_others(attention: Any) -> Work:
    """A thread's part of what all compute together."""
    first, last = share(attention.tokens)
    return Work(False, first, last, 0, attention.tokens, 0, 0)


@compiled
def _wait(work: Work) -> None:
    """For others, where what comes next needs what they compute."""
    if not work.alone:
        barrier()


@compiled
def _mine(work: Work, count: int) -> tuple[int, int]:
    """Its share of so many outputs: the first, and the first behind them."""
    return (0, count) if work.alone else share(count)


@compiled
def _rounded(call: Any, work: Work, token: int, width: int) -> int:
    """Where the rounded row of one of the tokens is; each that works alone has its own memory."""
    return int(call.rounded + work.begin * call.widest + (token - work.begin) * width)


@compiled
def _round(call: Any, work: Work, token: int, row: Floats) -> None:
    """Round a row of one token, changed."""
    rounded = carray(pointer(_rounded(call, work, token, len(row))), len(row), np.uint8)
    floats(call.scales, token, 1)[0] = round_row(row, rounded)


@compiled
def _normalize(call: Any, work: Work, norm: int, epsilon: float) -> None:
    weight = floats(norm, 0, call.hidden_width)
    scratch = np.empty(call.hidden_width, np.float32)
    for token in range(work.first, work.last):
        normalize_row(floats(call.hidden, token, call.hidden_width), weight, epsilon, scratch)
        _round(call, work, token, scratch)


@compiled
def _rotate(numbers: Floats, cosines: Floats, sines: Floats) -> None:
    """Rotary embedding (RoFormer, Su et al., 2021) of one head of one token, changed."""
    half = len(numbers) // 2
    for column in range(half):
        one, other = numbers[column], numbers[half + column]
        numbers[column] = one * cosines[column] - other * sines[column]
        numbers[half + column] = other * cosines[half + column] + one * sines[half + column]


@compiled
def _rotate_heads(call: Any, work: Work) -> None:
    attention = call.attention
    for token in range(work.first, work.last):
        cosines = floats(call.cosines, token, attention.width)
        sines = floats(call.sines, token, attention.width)
        for head in range(attention.query_heads):
            _rotate(head_row(attention.query, head, token, attention.width), cosines, sines)
        for head in range(attention.heads):
            _rotate(head_row(attention.key, head, token, attention.width), cosines, sines)


@compiled
def _attend(call: Any, work: Work) -> None:
    if work.alone:
        attend_tiles(call.attention, np.uint16, work.first_tile, work.last_tile)
    else:
        attend_share(call.attention, np.uint16)


@compiled
def _round_attended(call: Any, work: Work) -> None:
    width = call.attention.query_heads * call.attention.width
    for token in range(work.first, work.last):
        _round(call, work, token, floats(call.attention.output.address, token, width))


@compiled
def _gated(call: Any, work: Work) -> tuple[int, int]:
    """The columns that it computes, rounds and reads again: its own, as far as can be."""
    first, last = _mine(work, call.inner_width // MOST)
    return first * MOST, last * MOST


@compiled
def _peaks(call: Any, work: Work, thread: int) -> Floats:
    """The largest of each row of what a thread has gated."""
    return floats(call.peaks, 0 if work.alone else thread, call.attention.tokens)


@compiled
def _gate(call: Any, work: Work) -> None:
    """Gate and mix its columns, and tell the largest of each row."""
    first, last = _gated(call, work)
    width, begin = call.inner_width, work.begin
    gate_groups(
        call.gate_up,
        first // GATED,
        last // GATED,
        work.end - begin,
        _rounded(call, work, begin, call.hidden_width),
        call.scales + 4 * begin,
        call.inner + 4 * begin * width,
        4 * width,
    )
    peaks = _peaks(call, work, thread_number())
    for token in range(begin, work.end):
        inner = floats(call.inner, token, width)[first:last]
        transform(inner)
        peaks[token] = peak(inner)


@compiled
def _round_gated(call: Any, work: Work) -> None:
    """Round its columns, when all have told the largest."""
    first, last = _gated(call, work)
    width = call.inner_width
    for token in range(work.begin, work.end):
        most = np.float32(0)
        for thread in range(1 if work.alone else thread_count()):
            most = max(most, _peaks(call, work, thread)[token])
        rounded = carray(pointer(_rounded(call, work, token, width)), width, np.uint8)
        round_to(floats(call.inner, token, width)[first:last], most, rounded[first:last])
        if first == 0:
            floats(call.scales, token, 1)[0] = most / np.float32(LARGEST)


@compiled
def _project(call: Any, work: Work) -> None:
    """Queries, keys and values side by side."""
    weights, query = call.projections, call.attention.query
    first, last = _mine(work, weights.groups)
    multiply_groups(
        weights,
        first,
        last,
        work.end - work.begin,
        _rounded(call, work, work.begin, call.hidden_width),
        call.scales + 4 * work.begin,
        weights.bias,
        0,
        query.address + work.begin * query.token,
        query.token,
    )


@compiled
def _add(call: Any, work: Work, weights: Any) -> None:
    """Add a product to what the layer was given."""
    first, last = _mine(work, weights.groups)
    hidden = call.hidden + 4 * work.begin * call.hidden_width
    multiply_groups(
        weights,
        first,
        last,
        work.end - work.begin,
        _rounded(call, work, work.begin, weights.words * WORD),
        call.scales + 4 * work.begin,
        hidden,
        4 * call.hidden_width,
        hidden,
        4 * call.hidden_width,
    )


@compiled
def compute_layer(call: Any, work: Work) -> None:
    """Compute a thread's part of one layer, when its input is there."""
    _normalize(call, work, call.attention_norm, call.attention_epsilon)
    _wait(work)
    _project(call, work)
    _wait(work)
    _rotate_heads(call, work)
    keep(call.attention, np.uint16, work.first, work.last)
    _wait(work)
    _attend(call, work)
    _wait(work)
    _round_attended(call, work)
    _wait(work)
    _add(call, work, call.output)
    _wait(work)
    _normalize(call, work, call.mlp_norm, call.mlp_epsilon)
    _wait(work)
    _gate(call, work)
    _wait(work)
    _round_gated(call, work)
    _wait(work)
    _add(call, work, call.down)
