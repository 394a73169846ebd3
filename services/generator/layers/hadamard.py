"""The Hadamard transform of neighbouring columns, for compiled loops."""

from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from services.generator.layers import simd
from services.generator.layers.compiled import Floats, compiled

MOST = 64
"""Columns that are transformed together, where so many divide the width."""


@intrinsic
def _transform(_typing: Any, row: Any, begin: Any) -> Any:
    """Transform MOST columns of a row from one on."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        array = context.make_array(signature.args[0])(context, builder, arguments[0])
        address = builder.ptrtoint(builder.gep(array.data, [arguments[1]]), simd.SIZE)
        parts = [simd.load(builder, address, simd.FLOATS, number) for number in range(4)]
        for one, other in ((0, 2), (1, 3), (0, 1), (2, 3)):
            parts[one], parts[other] = (
                simd.add(builder, parts[one], parts[other]),
                simd.subtract(builder, parts[one], parts[other]),
            )
        for apart in (8, 4, 2, 1):
            parts = [_butterflies(builder, part, apart) for part in parts]
        for number, part in enumerate(parts):
            simd.store(builder, part, address, number)
        return context.get_dummy_value()

    return types.void(row, types.int64), generate


_transform_most: Any = _transform


@compiled
def columns(width: int) -> int:
    """How many columns of rows of a width are transformed together: a power of two."""
    count = 1
    while count < MOST and width % (2 * count) == 0:
        count *= 2
    return count


@compiled
def transform(row: Floats) -> None:
    """Transform each so many columns of a row (width,) that divides their number; unnormalised."""
    count = columns(len(row))
    if count == MOST:
        for begin in range(0, len(row), MOST):
            _transform_most(row, begin)
        return
    half = count // 2
    while half:
        for begin in range(0, len(row), 2 * half):
            for column in range(begin, begin + half):
                one, other = row[column], row[column + half]
                row[column], row[column + half] = one + other, one - other
        half //= 2


def _butterflies(builder: Any, part: Any, apart: int) -> Any:
    """Sums and differences of numbers that are so far apart in one vector."""
    lanes = range(simd.LANES)
    others = ir.Constant(simd.INTS, [lane ^ apart for lane in lanes])
    signs = ir.Constant(simd.FLOATS, [-1.0 if lane & apart else 1.0 for lane in lanes])
    moved = builder.shuffle_vector(part, part, others)
    return simd.multiply_add(builder, part, signs, moved)
