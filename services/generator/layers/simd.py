"""Vectors of 16 numbers, from which compiled loops are built where numba would not find them.

Each function emits instructions; `builder` is llvmlite's. What they compute does not depend on
where they stand: sums and products are fused where that is said, and nowhere else.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial, reduce
from typing import Any

from llvmlite import ir
from numba.core import cgutils
from numba.core.registry import cpu_target

LANES = 16

LINE = 64
"""Bytes that come from memory together."""

FLOAT = ir.FloatType()
INT = ir.IntType(32)
SIZE = ir.IntType(64)
FLOATS = ir.VectorType(FLOAT, LANES)
INTS = ir.VectorType(INT, LANES)
_SHORTS = ir.VectorType(ir.IntType(16), 2 * LANES)

# What numba compiles for, which need not be all that this machine's CPU has.
_FEATURES = frozenset(cpu_target.target_context.codegen().magic_tuple()[2].split(","))
_FUSED = "+fma" in _FEATURES
_VNNI = "+avx512vnni" in _FEATURES

AMX = {"+amx-tile", "+amx-int8"} <= _FEATURES
"""Whether loops are compiled for a CPU with tiles."""


# Where there is a flag, numba adds none that lets sums change their order, here and not there.
_EXACT = ("nsz",)


def size(number: int) -> Any:
    """A number for addresses."""
    return ir.Constant(SIZE, number)


def floats(number: float) -> Any:
    """A vector of one number."""
    return ir.Constant(FLOATS, [number] * LANES)


def ints(number: int) -> Any:
    """A vector of one whole number."""
    return ir.Constant(INTS, [number] * LANES)


def zeros(kind: Any) -> Any:
    """A vector of zeros."""
    return ir.Constant(kind, None)


def place(builder: Any, address: Any, number: int, apart: Any, kind: Any) -> Any:
    """The pointer to the n-th of some things that are so many bytes apart, from an address on."""
    return builder.inttoptr(
        builder.add(address, builder.mul(apart, size(number))), kind.as_pointer()
    )


def load(builder: Any, address: Any, kind: Any, number: int = 0) -> Any:
    """The n-th vector from an address on, which need not be aligned."""
    begin = builder.inttoptr(address, kind.as_pointer())
    return builder.load(builder.gep(begin, [size(number)]), align=2)


def load_bfloat16(builder: Any, address: Any, number: int = 0) -> Any:
    """The n-th vector of bfloat16 from an address on, as floats."""
    halves = load(builder, address, ir.VectorType(ir.IntType(16), LANES), number)
    return builder.bitcast(builder.shl(builder.zext(halves, INTS), ints(16)), FLOATS)


def store(builder: Any, value: Any, address: Any, number: int = 0) -> None:
    """Write the n-th vector from an address on."""
    begin = builder.inttoptr(address, value.type.as_pointer())
    builder.store(value, builder.gep(begin, [size(number)]), align=4)


def prefetch(builder: Any, address: Any) -> None:
    """Let a line come from memory; there need not be any at the address."""
    pointer = builder.inttoptr(address, ir.IntType(8).as_pointer())
    read, to_second_level, data = (ir.Constant(INT, number) for number in (0, 2, 1))
    call(builder, "llvm.prefetch.p0i8", ir.VoidType(), pointer, read, to_second_level, data)


def spread(builder: Any, number: Any, kind: Any) -> Any:
    """A vector of one number that is not known yet."""
    undefined = ir.Constant(kind, ir.Undefined)
    one = builder.insert_element(undefined, number, ir.Constant(INT, 0))
    return builder.shuffle_vector(one, undefined, zeros(INTS))


def add(builder: Any, one: Any, other: Any) -> Any:
    """Sums."""
    return builder.fadd(one, other, flags=_EXACT)


def subtract(builder: Any, one: Any, other: Any) -> Any:
    """Differences."""
    return builder.fsub(one, other, flags=_EXACT)


def multiply(builder: Any, one: Any, other: Any) -> Any:
    """Products."""
    return builder.fmul(one, other, flags=_EXACT)


def multiply_add(builder: Any, one: Any, other: Any, added: Any) -> Any:
    """`one * other + added`, fused where the CPU can."""
    if not _FUSED:
        return add(builder, multiply(builder, one, other), added)
    return call(builder, "llvm.fma.v16f32", FLOATS, one, other, added)


def add_dots(builder: Any, sums: Any, unsigned: Any, signed: Any) -> Any:
    """Add to each of the sums the four products of four unsigned bytes with four signed ones."""
    if _VNNI:
        return call(builder, "llvm.x86.avx512.vpdpbusd.512", INTS, sums, unsigned, signed)
    left, right = (builder.bitcast(each, _SHORTS) for each in (unsigned, signed))
    byte, mask = (ir.Constant(_SHORTS, [number] * 2 * LANES) for number in (8, 255))
    for one, other in (
        (builder.and_(left, mask), builder.ashr(builder.shl(right, byte), byte)),
        (builder.lshr(left, byte), builder.ashr(right, byte)),
    ):
        sums = builder.add(sums, _pair_sums(builder, one, other))
    return sums


def _pair_sums(builder: Any, one: Any, other: Any) -> Any:
    """The sums of each two neighbouring products; LLVM finds the instruction for it (PMADDWD).

    The one that takes bytes as they are (PMADDUBSW) cuts sums off at 16 bits.
    """
    wide = ir.VectorType(INT, 2 * LANES)
    products = builder.mul(builder.sext(one, wide), builder.sext(other, wide))
    even, odd = (
        builder.shuffle_vector(
            products, products, ir.Constant(INTS, list(range(first, 2 * LANES, 2)))
        )
        for first in (0, 1)
    )
    return builder.add(even, odd)


def exponential(builder: Any, numbers: Any) -> Any:
    """`e ** x`, from about 1e-38 to 1e38; exact to 2e-7 of it for each unit of the power of 2.

    2 ** whole * 2 ** fraction, the second by a polynomial: a call of the library's for each number
    would take longer than all else.
    """
    powers = multiply(builder, numbers, floats(1.4426950408889634))
    powers = call(builder, "llvm.minnum.v16f32", FLOATS, powers, floats(126))
    powers = call(builder, "llvm.maxnum.v16f32", FLOATS, powers, floats(-126))
    whole = call(builder, "llvm.floor.v16f32", FLOATS, powers)
    rest = subtract(builder, powers, whole)
    value = floats(1.8775767e-3)
    for factor in (8.9893397e-3, 5.5826318e-2, 2.4015361e-1, 6.9315308e-1, 9.9999994e-1):
        value = multiply_add(builder, value, rest, floats(factor))
    exponents = builder.add(builder.fptosi(whole, INTS), ints(127))
    return multiply(builder, value, builder.bitcast(builder.shl(exponents, ints(23)), FLOATS))


def silu(builder: Any, numbers: Any) -> Any:
    """`x / (1 + exp(-x))`."""
    negative = subtract(builder, zeros(FLOATS), numbers)
    divisor = add(builder, exponential(builder, negative), floats(1))
    return builder.fdiv(numbers, divisor, flags=_EXACT)


def largest(builder: Any, one: Any, other: Any) -> Any:
    """The larger of each two numbers."""
    return builder.select(builder.fcmp_ordered(">", one, other, flags=_EXACT), one, other)


def reduced(builder: Any, vector: Any, combine: Callable[[Any, Any, Any], Any]) -> Any:
    """One number of a vector: halves of it are combined until one is left."""
    for apart in (8, 4, 2, 1):
        others = ir.Constant(INTS, [lane ^ apart for lane in range(LANES)])
        vector = combine(builder, vector, builder.shuffle_vector(vector, vector, others))
    return builder.extract_element(vector, ir.Constant(INT, 0))


def steps() -> Any:
    """The number of each lane."""
    return ir.Constant(INTS, list(range(LANES)))


BLOCK = 4 * LANES
"""Numbers of a row that are combined at a time."""


def reduced_blocks(builder: Any, array: Any, first: Any, combine: Any) -> Any:
    """One number of all in the whole blocks of an array.

    Args:
        builder: As everywhere here.
        array: Of one dimension, its numbers side by side.
        first: A vector to begin with.
        combine: Is given the builder, a vector so far, and the next one.
    """
    address = builder.ptrtoint(array.data, SIZE)
    blocks = builder.udiv(builder.extract_value(array.shape, 0), size(BLOCK))
    # Several are combined side by side, as one would wait for the one before it.
    parts = [cgutils.alloca_once(builder, first.type) for _ in range(BLOCK // LANES)]
    for part in parts:
        builder.store(first, part)
    with cgutils.for_range(builder, blocks) as loop:
        block = builder.add(address, builder.mul(loop.index, size(4 * BLOCK)))
        for number, part in enumerate(parts):
            vector = load(builder, block, first.type, number)
            builder.store(combine(builder, builder.load(part), vector), part)
    whole = reduce(partial(combine, builder), map(builder.load, parts))
    return reduced(builder, whole, combine)


@contextmanager
def cases(builder: Any, count: Any, most: int) -> Iterator[Iterator[int]]:
    """Emit a case for each number from 1 to `most` that `count` may have; for others, nothing.

    What is emitted while one of the numbers is the current one is its case.
    """
    done = builder.append_basic_block("done")
    switch = builder.switch(count, done)

    def each() -> Iterator[int]:
        for number in range(1, most + 1):
            block = builder.append_basic_block(f"case_{number}")
            switch.add_case(size(number), block)
            builder.position_at_end(block)
            yield number
            builder.branch(done)

    yield each()
    builder.position_at_end(done)


def call(builder: Any, name: str, result: Any, *arguments: Any) -> Any:
    """What one of LLVM's functions gives."""
    kind = ir.FunctionType(result, [one.type for one in arguments])
    return builder.call(cgutils.get_or_insert_function(builder.module, kind, name), arguments)
