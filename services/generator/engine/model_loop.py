"""A step of a model of Llama's kind, from tokens to logits, or some of its layers, in one loop."""

import ctypes
from typing import Any

import numpy as np

from services.generator.engine.layer_loop import LayerCall, compute_layers, floats
from services.generator.layers.compiled import compiled
from services.generator.layers.int8_product import Int8Weights, multiply_groups
from services.generator.layers.rms_norm import normalize_row
from services.generator.layers.rounding import round_row
from services.generator.openmp import Call, barrier, carray, parallel, pointer, share

_LAYER = np.dtype(LayerCall)


class ModelCall(Call):
    """What the compiled loop is told; all but the first and the last ones are addresses.

    Attributes:
        head: What gives the logits.
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
        *((name, ctypes.c_int64) for name in ("layers", "embedding", "tokens", "places")),
        *((name, ctypes.c_int64) for name in ("all_cosines", "all_sines", "norm", "wanted")),
        *((name, ctypes.c_int64) for name in ("rounded", "scales", "logits")),
        *((name, ctypes.c_int64) for name in ("logit_bytes", "layer_count", "wanted_count")),
        ("epsilon", ctypes.c_float),
    )


@compiled
def _ints(address: int, count: int) -> Any:
    return carray(pointer(address), count, np.int64)


@compiled
def _embed(call: Any, layer: Any) -> None:
    """Look up this thread's share of the tokens, and of the angles that they are rotated by."""
    count, angles = layer.attention.tokens, layer.attention.width
    tokens, places = _ints(call.tokens, count), _ints(call.places, count)
    first, last = share(count)
    for row in range(first, last):
        token, place = tokens[row], places[row]
        width = layer.hidden_width
        floats(layer.hidden, row, width)[:] = floats(call.embedding, token, width)
        floats(layer.cosines, row, angles)[:] = floats(call.all_cosines, place, angles)
        floats(layer.sines, row, angles)[:] = floats(call.all_sines, place, angles)


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
    if call.embedding:
        _embed(call, layers[0])
        barrier()
    compute_layers(layers)
    if call.wanted_count:
        barrier()
        _normalize(call, layers[0])
        barrier()
        head = call.head
        first, last = share(head.groups)
        rows, logits = (call.wanted_count, call.rounded, call.scales), call.logits
        multiply_groups(head, first, last, *rows, head.bias, 0, logits, call.logit_bytes)
