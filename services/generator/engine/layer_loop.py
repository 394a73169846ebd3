"""A decoder layer of Llama's kind, in one compiled loop."""

import ctypes
from typing import Any

import numpy as np

from services.generator.engine.cpu_attention import AttentionCall, attend_share, keep_share
from services.generator.engine.cpu_attention import row as head_row
from services.generator.layers.compiled import Floats, compiled
from services.generator.layers.hadamard import MOST, transform
from services.generator.layers.int8_product import (
    GATED,
    Int8Weights,
    gate_groups,
    multiply_groups,
    share,
)
from services.generator.layers.rms_norm import normalize_row
from services.generator.layers.rounding import LARGEST, peak, round_row, round_to
from services.generator.openmp import (
    Call,
    barrier,
    carray,
    parallel,
    pointer,
    thread_count,
    thread_number,
)


class LayerCall(Call):
    """What the compiled loop is told; widths are those of one token.

    Attributes:
        attention: Its query, key and value lie side by side, as the first product gives them.
        hidden: Address of float32 (tokens, hidden_width), changed.
        inner: Of float32 (tokens, inner_width), written.
        rounded: Of bytes for the widest rows that are rounded, written.
        scales: Of float32 (tokens,), written.
        peaks: Of float32 (tokens, threads), written.
        cosines: Of float32 (tokens, width of a head).
        sines: As `cosines`.
        attention_norm: Of float32 (hidden_width,).
        mlp_norm: As `attention_norm`.
        count: Layers from this one on that are computed one after the other.
    """

    _fields_ = (
        ("attention", AttentionCall),
        *((name, Int8Weights) for name in ("projections", "output", "gate_up", "down")),
        *((name, ctypes.c_int64) for name in ("hidden", "inner", "rounded", "scales", "peaks")),
        *((name, ctypes.c_int64) for name in ("cosines", "sines", "attention_norm", "mlp_norm")),
        *((name, ctypes.c_int64) for name in ("hidden_width", "inner_width", "count")),
        *((name, ctypes.c_float) for name in ("attention_epsilon", "mlp_epsilon")),
    )


@compiled
def _floats(address: int, row: int, width: int) -> Floats:
    found: Floats = carray(pointer(address + 4 * row * width), width, np.float32)
    return found


@compiled
def _round(call: Any, row: int, scratch: Floats) -> None:
    """Round a row of one token, changed."""
    rounded = carray(pointer(call.rounded + row * len(scratch)), len(scratch), np.uint8)
    _floats(call.scales, row, 1)[0] = round_row(scratch, rounded)


@compiled
def _normalize_share(call: Any, norm: int, epsilon: float) -> None:
    weight = _floats(norm, 0, call.hidden_width)
    scratch = np.empty(call.hidden_width, np.float32)
    for token in range(thread_number(), call.attention.tokens, thread_count()):
        normalize_row(_floats(call.hidden, token, call.hidden_width), weight, epsilon, scratch)
        _round(call, token, scratch)


@compiled
def _rotate(numbers: Floats, cosines: Floats, sines: Floats) -> None:
    """Rotary embedding (RoFormer, Su et al., 2021) of one head of one token, changed."""
    half = len(numbers) // 2
    for column in range(half):
        one, other = numbers[column], numbers[half + column]
        numbers[column] = one * cosines[column] - other * sines[column]
        numbers[half + column] = other * cosines[half + column] + one * sines[half + column]


@compiled
def _rotate_share(call: Any) -> None:
    attention = call.attention
    for token in range(thread_number(), attention.tokens, thread_count()):
        cosines = _floats(call.cosines, token, attention.width)
        sines = _floats(call.sines, token, attention.width)
        for head in range(attention.query_heads):
            _rotate(head_row(attention.query, head, token, attention.width), cosines, sines)
        for head in range(attention.heads):
            _rotate(head_row(attention.key, head, token, attention.width), cosines, sines)


@compiled
def _attended_share(call: Any) -> None:
    width = call.attention.query_heads * call.attention.width
    for token in range(thread_number(), call.attention.tokens, thread_count()):
        _round(call, token, _floats(call.attention.output.address, token, width))


@compiled
def _gated_columns(call: Any) -> tuple[int, int]:
    """The columns that this thread computes, rounds and reads again: its own, as far as can be."""
    blocks, mine, threads = call.inner_width // MOST, thread_number(), thread_count()
    return blocks * mine // threads * MOST, blocks * (mine + 1) // threads * MOST


@compiled
def _gate_share(call: Any) -> None:
    """Gate and mix this thread's columns, and tell the largest of each row."""
    begin, end = _gated_columns(call)
    tokens, width = call.attention.tokens, call.inner_width
    gate_groups(
        call.gate_up,
        begin // GATED,
        end // GATED,
        tokens,
        call.rounded,
        call.scales,
        call.inner,
        4 * width,
    )
    for token in range(tokens):
        inner = _floats(call.inner, token, width)[begin:end]
        transform(inner)
        _floats(call.peaks, token, thread_count())[thread_number()] = peak(inner)


@compiled
def _round_gated_share(call: Any) -> None:
    """Round this thread's columns, when all have told the largest."""
    begin, end = _gated_columns(call)
    width = call.inner_width
    for token in range(call.attention.tokens):
        inner = _floats(call.inner, token, width)[begin:end]
        rounded = carray(pointer(call.rounded + token * width), width, np.uint8)
        most = _floats(call.peaks, token, thread_count()).max()
        round_to(inner, most, rounded[begin:end])
        if begin == 0:
            _floats(call.scales, token, 1)[0] = most / np.float32(LARGEST)


@compiled
def _project_share(call: Any) -> None:
    """Queries, keys and values side by side."""
    weights, query = call.projections, call.attention.query
    first, last = share(weights.groups)
    multiply_groups(
        weights,
        first,
        last,
        call.attention.tokens,
        call.rounded,
        call.scales,
        weights.bias,
        0,
        query.address,
        query.token,
    )


@compiled
def _add_share(call: Any, weights: Any) -> None:
    """Add a product to what the layer was given."""
    first, last = share(weights.groups)
    multiply_groups(
        weights,
        first,
        last,
        call.attention.tokens,
        call.rounded,
        call.scales,
        call.hidden,
        4 * call.hidden_width,
        call.hidden,
        4 * call.hidden_width,
    )


@compiled
def _compute(call: Any) -> None:
    """Compute one layer, when its input is there."""
    _normalize_share(call, call.attention_norm, call.attention_epsilon)
    barrier()
    _project_share(call)
    barrier()
    _rotate_share(call)
    keep_share(call.attention, np.uint16)  # of the tokens that this thread has rotated
    barrier()
    attend_share(call.attention, np.uint16)
    barrier()
    _attended_share(call)
    barrier()
    _add_share(call, call.output)
    barrier()
    _normalize_share(call, call.mlp_norm, call.mlp_epsilon)
    barrier()
    _gate_share(call)
    barrier()
    _round_gated_share(call)
    barrier()
    _add_share(call, call.down)


@parallel(LayerCall)
def compute(calls: Any) -> None:
    """Compute layers one after the other."""
    layers = carray(calls, carray(calls, 1)[0].count)
    for layer in range(len(layers)):
        _compute(layers[layer])
        barrier()
