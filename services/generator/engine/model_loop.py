"""A step of a model of Llama's kind, from tokens to logits, or some of its layers, in one loop."""

import ctypes
from typing import Any

import numpy as np

from services.generator.engine import work_sharing
from services.generator.engine.layer_loop import (
    LayerCall,
    Work,
    alone,
    compute_layer,
    floats,
    with_others,
)
from services.generator.layers.compiled import compiled
from services.generator.layers.int8_product import Int8Weights, multiply_groups
from services.generator.layers.rms_norm import normalize_row
from services.generator.layers.rounding import round_row
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

_LAYER = np.dtype(LayerCall)


class ModelCall(Call):
    """What the compiled loop is told; all but the first and the last ones are addresses.

    Attributes:
        head: What gives the logits.
        board: Of `work_sharing.board`.
        layers: Of LayerCall, `layer_count` one after the other; their `hidden`, `cosines` and
            `sines` are written where there is an embedding.
        embedding: float32 (vocabulary, width); 0 where those are there already.
        tokens: int64 (the step's tokens,), rows of the embedding.
        places: As `tokens`, rows of the angles.
        all_cosines: float32 (places, width of a head).
        all_sines: As `all_cosines`.
        norm: float32 (width,).
        wanted: int64 (wanted_count,), tokens after which logits are wanted.
        rounded: bytes (wanted_count, width), written.
        scales: float32 (wanted_count,), written.
        logits: float32 (wanted_count, logit_bytes / 4), written.
    """

    _fields_ = (
        ("head", Int8Weights),
        *((name, ctypes.c_int64) for name in ("board", "layers", "embedding")),
        *((name, ctypes.c_int64) for name in ("tokens", "places")),
        *((name, ctypes.c_int64) for name in ("all_cosines", "all_sines", "norm", "wanted")),
        *((name, ctypes.c_int64) for name in ("rounded", "scales", "logits")),
        *((name, ctypes.c_int64) for name in ("logit_bytes", "layer_count", "wanted_count")),
        ("epsilon", ctypes.c_float),
    )


@compiled
def _ints(address: int, count: int) -> Any:
    return carray(pointer(address), count, np.int64)


@compiled
def _embed(call: Any, layer: Any, work: Work) -> None:
    """Look up tokens, and the angles that they are rotated by."""
    count, angles, width = layer.attention.tokens, layer.attention.width, layer.hidden_width
    tokens, places = _ints(call.tokens, count), _ints(call.places, count)
    for row in range(work.first, work.last):
        token, place = tokens[row], places[row]
        floats(layer.hidden, row, width)[:] = floats(call.embedding, token, width)
        floats(layer.cosines, row, angles)[:] = floats(call.all_cosines, place, angles)
        floats(layer.sines, row, angles)[:] = floats(call.all_sines, place, angles)


@compiled
def _compute_alone(call: Any, layers: Any) -> None:
    """A thread's shares of the step, and what others hand over to it."""
    attention, number = layers[0].attention, thread_number()
    while True:
        # Fewer threads than shares may have come.
        if number < attention.share_count:
            first, work = 0, alone(attention, number)
            number += thread_count()
            if call.embedding:
                _embed(call, layers[0], work)
        else:
            first, work = work_sharing.take(call.board)
            if first < 0:
                return
        for layer in range(first, len(layers)):
            work = work_sharing.hand_over(call.board, attention, layer, work)
            compute_layer(layers[layer], work)
        work_sharing.end(call.board)


@compiled
def _compute_together(call: Any, layers: Any) -> None:
    """A thread's part of what all compute together."""
    work = with_others(layers[0].attention)
    if call.embedding:
        _embed(call, layers[0], work)
    for layer in range(len(layers)):
        compute_layer(layers[layer], work)
        barrier()


@compiled
def _normalize(call: Any, layer: Any) -> None:
    """Normalise and round this thread's share of the rows that logits are wanted of."""
    wanted, width = _ints(call.wanted, call.wanted_count), layer.hidden_width
    weight, scratch = floats(call.norm, 0, width), np.empty(width, np.float32)
    first, last = share(call.wanted_count)
    for number in range(first, last):
        row = floats(layer.hidden, wanted[number], width)
        normalize_row(row, weight, call.epsilon, scratch)
        rounded = carray(pointer(call.rounded + number * width), width, np.uint8)
        floats(call.scales, number, 1)[0] = round_row(scratch, rounded)


@parallel(ModelCall)
def compute(calls: Any) -> None:
    """Compute layers, and what is before and behind them where the call has that."""
    call = carray(calls, 1)[0]
    layers = carray(pointer(call.layers), call.layer_count, _LAYER)
    if layers[0].attention.share_count:
        _compute_alone(call, layers)
    else:
        _compute_together(call, layers)
    if call.wanted_count:
        barrier()
        _normalize(call, layers[0])
        barrier()
        head = call.head
        first, last = share(head.groups)
        rows, logits = (call.wanted_count, call.rounded, call.scales), call.logits
        multiply_groups(head, first, last, *rows, head.bias, 0, logits, call.logit_bytes)
