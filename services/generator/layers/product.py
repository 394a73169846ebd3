"""A product of small matrices, for compiled loops: the whole of it in registers.

What numba makes of three nested loops is a quarter as fast, and how it sums depends on the sizes.
Here each number of the result is summed in an order that its columns determine, whatever is beside
it.
"""

from typing import Any

from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from services.generator.layers import simd
from services.generator.layers.compiled import compiled

LANES = simd.LANES
"""Columns of a product."""

ROWS = 8
"""Rows of a product at most; as many sums hide how long one takes."""

WIDE = 4 * LANES
"""Columns of a wide product."""

WIDE_ROWS = 4
"""Rows of a wide product at most."""

_LINE = simd.LINE


@intrinsic
def _add_product(_typing: Any, left: Any, right: Any, total: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        arrays = _arrays(context, builder, signature, arguments)
        with simd.cases(builder, _rows(builder, arrays[0]), ROWS) as cases:
            for count in cases:
                _add(builder, _loader(signature), count, 1, *arrays)
        return context.get_dummy_value()

    return types.void(left, right, total), generate


@intrinsic
def _add_wide_product(_typing: Any, left: Any, right: Any, total: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        arrays = _arrays(context, builder, signature, arguments)
        with simd.cases(builder, _rows(builder, arrays[0]), WIDE_ROWS) as cases:
            for count in cases:
                _add(builder, _loader(signature), count, WIDE // LANES, *arrays)
        return context.get_dummy_value()

    return types.void(left, right, total), generate


add_product: Any = _add_product
"""For loops: `total += left @ right`, of float32 (rows, n), (n, LANES) and (rows, LANES).

`right` may be bfloat16, as uint16. There are ROWS rows at most. The numbers of each row lie side by
side; the rows may lie anywhere.
"""

add_wide_product: Any = _add_wide_product
"""As `add_product`, for WIDE columns and WIDE_ROWS rows."""


def _arrays(context: Any, builder: Any, signature: Any, arguments: Any) -> list[Any]:
    return [
        context.make_array(of)(context, builder, value)
        for of, value in zip(signature.args, arguments, strict=True)
    ]


def _rows(builder: Any, array: Any) -> Any:
    return builder.extract_value(array.shape, 0)


def _loader(signature: Any) -> Any:
    """What loads vectors of the right matrix."""
    return simd.load_bfloat16 if signature.args[1].dtype == types.uint16 else _load


def _load(builder: Any, address: Any, number: int) -> Any:
    return simd.load(builder, address, simd.FLOATS, number)


def _add(
    builder: Any, load: Any, count: int, width: int, left: Any, right: Any, total: Any
) -> None:
    """Emit the product of a known number of rows, `width` vectors wide.

    Of a narrow one, even and odd columns of `left` are summed by themselves: where there are few
    rows, they need not wait for each other.
    """
    begins = [_row(builder, left, simd.size(number)) for number in range(count)]
    totals = [_row(builder, total, simd.size(number)) for number in range(count)]
    sums = [[cgutils.alloca_once(builder, simd.FLOATS) for _ in range(width)] for _ in begins]
    for mine, place in zip(sums, totals, strict=True):
        for part, one in enumerate(mine):
            builder.store(simd.load(builder, place, simd.FLOATS, part), one)
    columns = builder.extract_value(left.shape, 1)
    if width == 1:
        odd = [[cgutils.alloca_once(builder, simd.FLOATS)] for _ in begins]
        for [one] in odd:
            builder.store(simd.zeros(simd.FLOATS), one)
        half = builder.udiv(columns, simd.size(2))
        with cgutils.for_range(builder, half) as loop:
            even_column = builder.mul(loop.index, simd.size(2))
            _add_column(builder, load, begins, right, even_column, sums)
            _add_column(builder, load, begins, right, builder.add(even_column, simd.size(1)), odd)
        with cgutils.for_range(builder, builder.urem(columns, simd.size(2))):
            _add_column(builder, load, begins, right, builder.sub(columns, simd.size(1)), sums)
        for [one], [other] in zip(sums, odd, strict=True):
            builder.store(simd.add(builder, builder.load(one), builder.load(other)), one)
    else:
        with cgutils.for_range(builder, columns) as loop:
            _add_column(builder, load, begins, right, loop.index, sums)
    for mine, place in zip(sums, totals, strict=True):
        for part, one in enumerate(mine):
            simd.store(builder, builder.load(one), place, part)


def _add_column(
    builder: Any, load: Any, begins: list[Any], right: Any, column: Any, sums: Any
) -> None:
    """Add what one column of `left` gives, which is multiplied with a row of `right`."""
    row = _row(builder, right, column)
    factors = [load(builder, row, part) for part in range(len(sums[0]))]
    for begin, mine in zip(begins, sums, strict=True):
        there = builder.inttoptr(begin, simd.FLOAT.as_pointer())
        number = builder.load(builder.gep(there, [column]))
        number = simd.spread(builder, number, simd.FLOATS)
        for one, factor in zip(mine, factors, strict=True):
            builder.store(simd.multiply_add(builder, number, factor, builder.load(one)), one)


def _row(builder: Any, array: Any, number: Any) -> Any:
    """The address of a row of an array."""
    stride = builder.extract_value(array.strides, 0)  # in bytes
    return builder.add(builder.ptrtoint(array.data, simd.SIZE), builder.mul(stride, number))


@intrinsic
def _weigh_row(_typing: Any, scores: Any, size: Any, begin: Any, end: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        array = context.make_array(signature.args[0])(context, builder, arguments[0])
        address = builder.ptrtoint(array.data, simd.SIZE)
        blocks = builder.udiv(arguments[1], simd.size(LANES))
        return _weigh(builder, address, blocks, arguments[2], arguments[3])

    return types.float32(scores, types.int64, types.int64, types.int64), generate


weigh: Any = _weigh_row
"""For loops: change scores into `exp(score - largest)`, and give the sum of those.

Args: scores, float32; how many, a multiple of LANES; the first that counts and the first behind
the last that does. The others become 0. The sum's order does not depend on those before.
"""


def _weigh(builder: Any, address: Any, blocks: Any, begin: Any, end: Any) -> Any:
    vector = cgutils.alloca_once(builder, simd.FLOATS)
    builder.store(simd.floats(float("-inf")), vector)
    with cgutils.for_range(builder, blocks) as loop:
        place = builder.add(address, builder.mul(loop.index, simd.size(4 * LANES)))
        counts = _counts(builder, loop.index, begin, end)
        score = simd.load(builder, place, simd.FLOATS)
        score = builder.select(counts, score, simd.floats(float("-inf")))
        builder.store(simd.largest(builder, builder.load(vector), score), vector)
    most = simd.spread(
        builder, simd.reduced(builder, builder.load(vector), simd.largest), simd.FLOATS
    )
    builder.store(simd.zeros(simd.FLOATS), vector)
    with cgutils.for_range(builder, blocks) as loop:
        place = builder.add(address, builder.mul(loop.index, simd.size(4 * LANES)))
        counts = _counts(builder, loop.index, begin, end)
        score = simd.subtract(builder, simd.load(builder, place, simd.FLOATS), most)
        weight = simd.exponential(builder, score)
        weight = builder.select(counts, weight, simd.zeros(simd.FLOATS))
        simd.store(builder, weight, place)
        builder.store(simd.add(builder, builder.load(vector), weight), vector)
    return simd.reduced(builder, builder.load(vector), simd.add)


def _counts(builder: Any, block: Any, begin: Any, end: Any) -> Any:
    """Which lanes of a block are between two places."""
    first = builder.trunc(builder.mul(block, simd.size(LANES)), simd.INT)
    places = builder.add(simd.spread(builder, first, simd.INTS), simd.steps())
    least, most = (
        simd.spread(builder, builder.trunc(each, simd.INT), simd.INTS) for each in (begin, end)
    )
    return builder.and_(
        builder.icmp_signed(">=", places, least), builder.icmp_signed("<", places, most)
    )


@intrinsic
def _prefetch_line(_typing: Any, address: Any) -> Any:
    def generate(context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        simd.prefetch(builder, arguments[0])
        return context.get_dummy_value()

    return types.void(types.int64), generate


_prefetch: Any = _prefetch_line


@compiled
def prefetch(numbers: Any) -> None:
    """Let numbers, which lie side by side, come from memory while something else is computed."""
    begin = numbers.ctypes.data
    for line in range(begin, begin + numbers.size * numbers.itemsize, _LINE):
        _prefetch(line)
