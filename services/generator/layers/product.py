"""A product of small matrices, for compiled loops: the whole of it in registers.

What numba makes of three nested loops is a quarter as fast, and how it sums depends on the sizes.
Here each number of the result is one sum, in the order of the columns, whatever is beside it.
"""

from typing import Any

from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from services.generator.layers import simd
from services.generator.layers.compiled import Floats, compiled

LANES = simd.LANES
"""Columns of a product."""

_LINE = simd.LINE

ROWS = 8
"""Rows of a product at most; as many sums hide how long one takes."""


@intrinsic
def _add_product(_typing: Any, left: Any, right: Any, total: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        arrays = [
            context.make_array(of)(context, builder, value)
            for of, value in zip(signature.args, arguments, strict=True)
        ]
        rows, columns = cgutils.unpack_tuple(builder, arrays[0].shape)
        with simd.cases(builder, rows, ROWS) as cases:
            for count in cases:
                _add(builder, count, columns, *arrays)
        return context.get_dummy_value()

    return types.void(left, right, total), generate


add_product: Any = _add_product
"""For loops: `total += left @ right`, of float32 (rows, n), (n, LANES) and (rows, LANES).

There are ROWS rows at most. The numbers of each row lie side by side; the rows may lie anywhere.
"""


def _add(builder: Any, count: int, columns: Any, left: Any, right: Any, total: Any) -> None:
    """Emit the product of a known number of rows."""
    rows = [_row(builder, left, simd.size(number)) for number in range(count)]
    totals = [_row(builder, total, simd.size(number)) for number in range(count)]
    sums = [cgutils.alloca_once(builder, simd.FLOATS) for _ in range(count)]  # become registers
    for one, place in zip(sums, totals, strict=True):
        builder.store(simd.load(builder, place, simd.FLOATS), one)
    with cgutils.for_range(builder, columns) as loop:
        factors = simd.load(builder, _row(builder, right, loop.index), simd.FLOATS)
        for one, row in zip(sums, rows, strict=True):
            begin = builder.inttoptr(row, simd.FLOAT.as_pointer())
            number = builder.load(builder.gep(begin, [loop.index]))
            factor = simd.spread(builder, number, simd.FLOATS)
            builder.store(simd.multiply_add(builder, factor, factors, builder.load(one)), one)
    for one, place in zip(sums, totals, strict=True):
        simd.store(builder, builder.load(one), place)


def _row(builder: Any, array: Any, number: Any) -> Any:
    """The address of a row of an array."""
    stride = builder.extract_value(array.strides, 0)  # in bytes
    return builder.add(builder.ptrtoint(array.data, simd.SIZE), builder.mul(stride, number))


@intrinsic
def _prefetch_line(_typing: Any, address: Any) -> Any:
    def generate(context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        simd.prefetch(builder, arguments[0])
        return context.get_dummy_value()

    return types.void(types.int64), generate


_prefetch: Any = _prefetch_line


@compiled
def prefetch(numbers: Floats) -> None:
    """Let numbers, which lie side by side, come from memory while something else is computed."""
    begin = numbers.ctypes.data
    for line in range(begin, begin + 4 * numbers.size, _LINE):
        _prefetch(line)
