"""Rows of floats as eight-bit numbers, in which no single large one takes all of them.

A model's states have a few columns that are much larger than the others, and the step between two
eight-bit numbers is a share of the largest. So numbers are first mixed, 64 columns at a time, by a
Hadamard transform, which the weights that they are multiplied with have undergone too (QuaRot,
Ashkboos et al., 2024): the products stay, and the largest shrinks.
"""

import ctypes
from typing import Any

import numpy as np
import torch
from numba import types
from numba.extending import intrinsic
from numpy.typing import NDArray

from services.generator.layers import simd
from services.generator.layers.compiled import Floats, compiled
from services.generator.layers.hadamard import columns, transform
from services.generator.layers.int8_product import GATED, OFFSET
from services.generator.openmp import (
    Call,
    carray,
    parallel,
    pointer,
    run,
    thread_count,
    thread_number,
)

Bytes = NDArray[np.uint8]

LARGEST = 127
"""What the largest number of a row becomes."""

_ROWS_A_THREAD = 4

_TINY = np.float32(1e-30)
_ALL_BUT_SIGN = np.int32(2**31 - 1)
# Added to a small number it leaves the nearest whole one in the last bits.
_ROUNDING = np.float32(1.5 * 2**23)
_OFFSET = np.int32(OFFSET)


class _Call(Call):
    """What the compiled loops are told; the first ones are addresses."""

    _fields_ = tuple(
        (name, ctypes.c_int64)
        for name in ("source", "source_bytes", "rounded", "scales", "count", "width")
    )


@intrinsic
def _peak_of_blocks(_typing: Any, row: Any) -> Any:
    """As `peak`, of a row of whole blocks."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        array = context.make_array(signature.args[0])(context, builder, arguments[0])
        most = simd.reduced_blocks(builder, array, simd.zeros(simd.INTS), _farther)
        return builder.bitcast(most, simd.FLOAT)

    return types.float32(row), generate


def _farther(builder: Any, most: Any, others: Any) -> Any:
    """The larger of each two numbers without sign, and of the bits of others without theirs."""
    others = builder.and_(others, simd.ints(int(_ALL_BUT_SIGN)))
    return builder.select(builder.icmp_signed(">", most, others), most, others)


_peak: Any = _peak_of_blocks


@compiled
def peak(row: Floats) -> np.float32:
    """The largest number of a row, without its sign; no number, where one of them is none."""
    # Floats without their sign are in the order of their bits.
    if len(row) % simd.BLOCK == 0:
        quick: np.float32 = _peak(row)
        return quick
    words = row.view(np.int32)
    most = np.zeros(1, np.int32)
    for column in range(len(words)):
        most[0] = max(most[0], words[column] & _ALL_BUT_SIGN)
    found: np.float32 = most.view(np.float32)[0]
    return found


@compiled
def round_to(row: Floats, most: np.float32, rounded: Bytes) -> None:
    """Round numbers (n,), changed, none of which is larger than `most`, so that that is LARGEST."""
    words = row.view(np.int32)
    inverse = np.float32(LARGEST) / most if most > _TINY else np.float32(0)
    for column in range(len(row)):
        row[column] = row[column] * inverse + _ROUNDING
    for column in range(len(row)):
        rounded[column] = np.uint8(words[column] + _OFFSET)


@compiled
def round_row(row: Floats, rounded: Bytes) -> np.float32:
    """Mix and round a row (width,), changed, as `round_rows` does; gives its scale."""
    transform(row)
    most = peak(row)
    round_to(row, most, rounded)
    scale: np.float32 = most / np.float32(LARGEST)
    return scale


@intrinsic
def _gate_lanes(_typing: Any, both: Any, inner: Any) -> Any:
    """`silu(gate) * up` of GATED numbers of each, which stand at one address."""

    def generate(context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        gate, up = (simd.load(builder, arguments[0], simd.FLOATS, part) for part in range(2))
        gated = simd.multiply(builder, simd.silu(builder, gate), up)
        simd.store(builder, gated, arguments[1])
        return context.get_dummy_value()

    return types.void(both, inner), generate


_gate: Any = _gate_lanes


@parallel(_Call)
def _round_rows(calls: Any) -> None:
    """One thread's share of the rows."""
    call = carray(calls, 1)[0]
    rounded = carray(pointer(call.rounded), (call.count, call.width), np.uint8)
    scales = carray(pointer(call.scales), call.count, np.float32)
    scratch = np.empty(call.width, np.float32)
    for row in range(thread_number(), call.count, thread_count()):
        scratch[:] = carray(pointer(call.source + row * call.source_bytes), call.width, np.float32)
        scales[row] = round_row(scratch, rounded[row])


@parallel(_Call)
def _gate_and_round(calls: Any) -> None:
    """One thread's share of the rows."""
    call = carray(calls, 1)[0]
    width = call.width
    rounded = carray(pointer(call.rounded), (call.count, width), np.uint8)
    scales = carray(pointer(call.scales), call.count, np.float32)
    inner = np.empty(width, np.float32)
    begin = inner.ctypes.data
    for row in range(thread_number(), call.count, thread_count()):
        both = call.source + row * call.source_bytes
        for column in range(0, width, GATED):
            _gate(both + 8 * column, begin + 4 * column)
        scales[row] = round_row(inner, rounded[row])


def mixed_weights(weights: torch.Tensor) -> torch.Tensor:
    """Weights (outputs, width) for rows that are mixed."""
    rows = weights.numpy().copy()
    mix_rows(rows)
    return torch.from_numpy(rows / columns(rows.shape[1]))


@compiled
def mix_rows(rows: Floats) -> None:
    """Mix each row (n, width), changed."""
    for row in range(len(rows)):
        transform(rows[row])


def round_rows(rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Mix each row, and round it to whole numbers between -127 and 127 times a scale of its own.

    Args:
        rows: float32 (n, width).

    Returns:
        uint8 (n, width), to which OFFSET has been added, and the scales, float32 (n, 1).
    """
    return _run(_round_rows, rows, rows.shape[1])


def gate_and_round(both: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Compute `silu(gate) * up` of each row, mix and round it as `round_rows` does.

    Args:
        both: float32 (n, 2 * width), GATED columns of gate and GATED of up in turn.
    """
    return _run(_gate_and_round, both, both.shape[1] // 2)


def _run(loop: Any, rows: torch.Tensor, width: int) -> tuple[torch.Tensor, torch.Tensor]:
    if rows.stride(1) != 1:
        rows = rows.contiguous()
    count = len(rows)
    rounded = torch.empty(count, width, dtype=torch.uint8)
    scales = torch.empty(count, 1)
    addresses = rows.data_ptr(), 4 * rows.stride(0), rounded.data_ptr(), scales.data_ptr()
    run(loop, _Call(*addresses, count, width), -(-count // _ROWS_A_THREAD))
    return rounded, scales
