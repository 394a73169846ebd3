"""A product of small matrices, for compiled loops: the whole of it in registers.

What numba makes of three nested loops is a quarter as fast, and how it sums depends on the sizes.
Here each number of the result is one sum, in the order of the columns, whatever is beside it.
"""

from typing import Any

import llvmlite.binding
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

LANES = 16
"""Columns of a product."""

ROWS = 8
"""Rows of a product at most; as many sums hide how long one takes."""

_FUSED = bool(llvmlite.binding.get_host_cpu_features().get("fma"))
# Where there is a flag, numba adds none that lets sums change their order, here and not there.
_IN_ORDER = ("nsz",)

_FLOAT = ir.FloatType()
_BYTE = ir.IntType(8)
_SIZE = ir.IntType(64)
_VECTOR = ir.VectorType(_FLOAT, LANES)
_SAME = ir.Constant(ir.VectorType(ir.IntType(32), LANES), None)  # the first one, for every lane


@intrinsic
def _add_product(_typing: Any, left: Any, right: Any, total: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        arrays = [
            context.make_array(of)(context, builder, value)
            for of, value in zip(signature.args, arguments, strict=True)
        ]
        rows, columns = cgutils.unpack_tuple(builder, arrays[0].shape)
        done = builder.append_basic_block("done")
        cases = builder.switch(rows, done)
        for count in range(1, ROWS + 1):
            block = builder.append_basic_block(f"rows_{count}")
            cases.add_case(ir.Constant(_SIZE, count), block)
            builder.position_at_end(block)
            _add(builder, count, columns, *arrays)
            builder.branch(done)
        builder.position_at_end(done)
        return context.get_dummy_value()

    return types.void(left, right, total), generate


add_product: Any = _add_product
"""For loops: `total += left @ right`, of float32 (rows, n), (n, LANES) and (rows, LANES).

There are ROWS rows at most. The numbers of each row lie side by side; the rows may lie anywhere.
"""


def _add(builder: Any, count: int, columns: Any, left: Any, right: Any, total: Any) -> None:
    """Emit the product of a known number of rows."""
    rows = [_row(builder, left, ir.Constant(_SIZE, number)) for number in range(count)]
    totals = [
        builder.bitcast(_row(builder, total, ir.Constant(_SIZE, number)), _VECTOR.as_pointer())
        for number in range(count)
    ]
    sums = [cgutils.alloca_once(builder, _VECTOR) for _ in range(count)]  # become registers
    for one, place in zip(sums, totals, strict=True):
        builder.store(builder.load(place, align=4), one)
    with cgutils.for_range(builder, columns) as loop:
        place = builder.bitcast(_row(builder, right, loop.index), _VECTOR.as_pointer())
        factors = builder.load(place, align=4)
        for one, row in zip(sums, rows, strict=True):
            factor = _spread(builder, builder.load(builder.gep(row, [loop.index])))
            builder.store(_multiply_add(builder, factor, factors, builder.load(one)), one)
    for one, place in zip(sums, totals, strict=True):
        builder.store(builder.load(one), place, align=4)


def _multiply_add(builder: Any, factor: Any, factors: Any, added: Any) -> Any:
    if not _FUSED:
        product = builder.fmul(factor, factors, flags=_IN_ORDER)
        return builder.fadd(product, added, flags=_IN_ORDER)
    kind = ir.FunctionType(_VECTOR, [_VECTOR] * 3)
    function = cgutils.get_or_insert_function(builder.module, kind, f"llvm.fma.v{LANES}f32")
    return builder.call(function, [factor, factors, added])


def _row(builder: Any, array: Any, number: Any) -> Any:
    """Where a row of an array begins."""
    stride = builder.extract_value(array.strides, 0)  # in bytes
    begin = builder.bitcast(array.data, _BYTE.as_pointer())
    row = builder.gep(begin, [builder.mul(stride, number)])
    return builder.bitcast(row, _FLOAT.as_pointer())


def _spread(builder: Any, number: Any) -> Any:
    """A vector of one number."""
    undefined = ir.Constant(_VECTOR, ir.Undefined)
    one = builder.insert_element(undefined, number, ir.Constant(ir.IntType(32), 0))
    return builder.shuffle_vector(one, undefined, _SAME)
