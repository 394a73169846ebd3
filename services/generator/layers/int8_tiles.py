"""Sums of products of eight-bit matrices, for compiled loops, by the AMX instructions of CPUs.

They multiply tiles of 16 rows with as many outputs, several times as fast as instructions for
vectors; so also a step of many rows takes little longer than its weights take to come from memory.
"""

import ctypes
import platform
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from services.generator.layers import simd
from services.generator.layers.compiled import compiled

ROWS = 32
"""Rows whose sums are computed together."""

DEPTH = 64
"""Inputs are multiplied so many at a time, and must be a multiple of that."""

_GROUP_BYTES = 2 * simd.LINE  # of one row of a group's weights, and of its sums
_AHEAD = 8192  # bytes; see `int8_product`
_ARCH_PRCTL, _REQUEST_PERMISSION, _TILE_DATA = 158, 0x1023, 18
_BYTE = ir.IntType(8)
_LANES = simd.LANES
_PARTS = range(2)  # of the outputs


def _allowed() -> bool:
    """Whether this process may use the instructions; Linux asks to be asked."""
    if not simd.AMX or platform.system() != "Linux":
        return False
    return bool(ctypes.CDLL(None).syscall(_ARCH_PRCTL, _REQUEST_PERMISSION, _TILE_DATA) == 0)


AVAILABLE = _allowed()
"""Whether loops may compute so. What is compiled does not tell: it outlives the process."""


@intrinsic
def _configuration(_typing: Any, memory: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        array = context.make_array(signature.args[0])(context, builder, values[0])
        _emit(builder, "ldtilecfg", builder.bitcast(array.data, _BYTE.as_pointer()))
        return context.get_dummy_value()

    return types.void(memory), generate


@intrinsic
def _no_configuration(_typing: Any) -> Any:
    def generate(context: Any, builder: Any, _signature: Any, _values: Any) -> Any:
        _emit(builder, "tilerelease")
        return context.get_dummy_value()

    return types.void(), generate


@intrinsic
def _sums(_typing: Any, count: Any, words: Any, rows: Any, weights: Any, sums: Any) -> Any:
    def generate(context: Any, builder: Any, _signature: Any, values: Any) -> Any:
        count, *others = values
        few = builder.icmp_signed("<=", count, simd.size(_LANES))
        with builder.if_else(few) as (then, otherwise):
            with then:
                _sum(builder, 1, *others)
            with otherwise:
                _sum(builder, 2, *others)
        return context.get_dummy_value()

    return types.void(*[types.int64] * 5), generate


_load_configuration: Any = _configuration
release: Any = _no_configuration
"""For loops: forget the rows, so that the system need not keep what tiles hold."""

sum_tiles: Any = _sums
"""For loops: write the sums, int32 (count, 32), of rows and one group of outputs.

Args: how many rows, as they have been configured; words of a row; addresses of rows, weights and
sums, as in `int8_product`.
"""


@compiled
def configure(count: int) -> None:
    """Tell the CPU how many rows (ROWS at most) the sums have that are computed next."""
    first, second = min(_LANES, count), max(0, count - _LANES)
    memory = np.zeros(64, np.uint8)
    memory[0] = 1  # the only palette
    for tile, rows in enumerate((first, first, second, second, first, second, _LANES, _LANES)):
        memory[16 + 2 * tile] = DEPTH if rows else 0  # bytes of a row
        memory[48 + tile] = rows
    _load_configuration(memory)  # an array, which lives while it is read


def _sum(builder: Any, tiles: int, words: Any, rows: Any, weights: Any, sums: Any) -> None:
    """Emit it for one or two tiles of rows.

    Tiles 0 to 3 hold the sums, 4 and 5 rows, 6 and 7 weights.
    """
    for tile in range(2 * tiles):
        _emit(builder, "tilezero", _number(tile))
    row_bytes = builder.mul(words, simd.size(4))
    words_at_a_time = DEPTH // 4
    with cgutils.for_range(builder, builder.udiv(words, simd.size(words_at_a_time))) as loop:
        begin = builder.mul(loop.index, simd.size(words_at_a_time * _GROUP_BYTES))
        group = builder.add(weights, begin)
        for part in _PARTS:
            place = _pointer(builder, builder.add(group, simd.size(part * simd.LINE)))
            _emit(builder, "tileloadd64", _number(6 + part), place, simd.size(_GROUP_BYTES))
        for line in range(0, words_at_a_time * _GROUP_BYTES, simd.LINE):
            simd.prefetch(builder, builder.add(group, simd.size(_AHEAD + line)))
        for tile in range(tiles):
            first = builder.mul(row_bytes, simd.size(tile * _LANES))
            column = builder.mul(loop.index, simd.size(DEPTH))
            place = _pointer(builder, builder.add(rows, builder.add(first, column)))
            _emit(builder, "tileloadd64", _number(4 + tile), place, row_bytes)
            for part in _PARTS:
                numbers = (_number(number) for number in (2 * tile + part, 4 + tile, 6 + part))
                _emit(builder, "tdpbusd", *numbers)
    for tile in range(tiles):
        for part in _PARTS:
            offset = simd.size(tile * _LANES * _GROUP_BYTES + part * simd.LINE)
            place = _pointer(builder, builder.add(sums, offset))
            _emit(builder, "tilestored64", _number(2 * tile + part), place, simd.size(_GROUP_BYTES))


def _number(tile: int) -> Any:
    return ir.Constant(_BYTE, tile)


def _pointer(builder: Any, address: Any) -> Any:
    return builder.inttoptr(address, _BYTE.as_pointer())


def _emit(builder: Any, name: str, *arguments: Any) -> None:
    """One of the instructions, where loops are compiled for a CPU that has them."""
    if simd.AMX:
        simd.call(builder, f"llvm.x86.{name}", ir.VoidType(), *arguments)
