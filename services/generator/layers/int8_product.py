"""The product of eight-bit matrices, for compiled loops, by the VNNI instructions of CPUs.

Rows are multiplied as they come, a few at a time, with weights that lie in the order in which they
are read. So a step of few rows, which takes as long as its weights take to come from memory, is
computed as fast as they come. Whole numbers are summed, which is exact: a row's result does not
depend on what is computed beside it.
"""

import ctypes
from typing import Any

import llvmlite.binding
import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from services.generator.layers.compiled import compiled
from services.generator.openmp import carray, parallel, thread_count, thread_number

AVAILABLE = bool(llvmlite.binding.get_host_cpu_features().get("avx512vnni"))
"""Whether this machine's CPU has the instructions."""

OUTPUTS = 32
"""Weights are read in groups of so many outputs."""

WORD = 4
"""Inputs that one instruction multiplies for each output."""

OFFSET = 128
"""What is added to a number of a row, so that it is never negative."""

_ROWS = 8  # at a time: their sums are held in registers
_LANES = 16  # outputs of an instruction

# Where there is a flag, numba adds none that lets factors change places, here and not there.
_EXACT = ("nsz",)

_INT = ir.IntType(32)
_SIZE = ir.IntType(64)
_FLOAT = ir.FloatType()
_INTS = ir.VectorType(_INT, _LANES)
_FLOATS = ir.VectorType(_FLOAT, _LANES)


class Int8Weights(ctypes.Structure):
    """Packed weights; the first are addresses.

    Attributes:
        weights: int8 (groups, words, OUTPUTS, WORD), in the order of the inputs.
        offsets: int32, of each output: the sum of its weights times OFFSET.
        scales: float32, of each output.
        bias: float32, of each output.
        words: Inputs / WORD.
        groups: Outputs / OUTPUTS.
    """

    _fields_ = tuple(
        (name, ctypes.c_int64)
        for name in ("weights", "offsets", "scales", "bias", "words", "groups")
    )


class ProductCall(ctypes.Structure):
    """What the compiled loop is told: see `multiply_share`."""

    _fields_ = (
        ("weights", Int8Weights),
        *((name, ctypes.c_int64) for name in ("count", "rows", "scales")),
        *((name, ctypes.c_int64) for name in ("output", "output_bytes")),
    )


@intrinsic
def _multiply(
    _typing: Any,
    count: Any,
    words: Any,
    rows: Any,
    weights: Any,
    offsets: Any,
    output_scales: Any,
    row_scales: Any,
    added: Any,
    added_bytes: Any,
    output: Any,
    output_bytes: Any,
) -> Any:
    def generate(context: Any, builder: Any, _signature: Any, values: Any) -> Any:
        count, *others = values
        done = builder.append_basic_block("done")
        cases = builder.switch(count, done)
        for rows in range(1, _ROWS + 1):
            block = builder.append_basic_block(f"rows_{rows}")
            cases.add_case(ir.Constant(_SIZE, rows), block)
            builder.position_at_end(block)
            _emit(builder, rows, *others)
            builder.branch(done)
        builder.position_at_end(done)
        return context.get_dummy_value()

    return types.void(*[types.int64] * 11), generate


def _emit(
    builder: Any,
    count: int,
    words: Any,
    rows: Any,
    weights: Any,
    offsets: Any,
    output_scales: Any,
    row_scales: Any,
    added: Any,
    added_bytes: Any,
    output: Any,
    output_bytes: Any,
) -> None:
    """Emit the product of a known number of rows and one group of outputs."""
    parts = range(OUTPUTS // _LANES)
    zero = ir.Constant(_INTS, None)
    sums = [[cgutils.alloca_once_value(builder, zero) for _ in parts] for _ in range(count)]
    for mine in sums:
        for one in mine:
            builder.store(zero, one)
    row_bytes = builder.mul(words, ir.Constant(_SIZE, WORD))
    begins = [_at(builder, rows, row, row_bytes, _INT) for row in range(count)]
    with cgutils.for_range(builder, words) as loop:
        place = builder.add(weights, builder.mul(loop.index, ir.Constant(_SIZE, WORD * OUTPUTS)))
        read = [_vector(builder, place, part, _INTS) for part in parts]
        for begin, mine in zip(begins, sums, strict=True):
            word = _spread(builder, builder.load(builder.gep(begin, [loop.index])), _INTS)
            for one, factors in zip(mine, read, strict=True):
                builder.store(_dot(builder, builder.load(one), word, factors), one)
    for row, mine in enumerate(sums):
        row_scale = builder.load(_at(builder, row_scales, row, ir.Constant(_SIZE, 4), _FLOAT))
        row_scale = _spread(builder, row_scale, _FLOATS)
        addend = builder.add(added, builder.mul(added_bytes, ir.Constant(_SIZE, row)))
        result = builder.add(output, builder.mul(output_bytes, ir.Constant(_SIZE, row)))
        for part, one in zip(parts, mine, strict=True):
            whole = builder.sub(builder.load(one), _vector(builder, offsets, part, _INTS))
            value = builder.sitofp(whole, _FLOATS)
            value = builder.fmul(
                value, _vector(builder, output_scales, part, _FLOATS), flags=_EXACT
            )
            value = builder.fmul(value, row_scale, flags=_EXACT)
            value = builder.fadd(value, _vector(builder, addend, part, _FLOATS), flags=_EXACT)
            there = builder.gep(
                builder.inttoptr(result, _FLOATS.as_pointer()), [ir.Constant(_SIZE, part)]
            )
            builder.store(value, there, align=4)


def _at(builder: Any, begin: Any, number: int, apart: Any, kind: Any) -> Any:
    """The pointer to the n-th of some things that are so many bytes apart."""
    address = builder.add(begin, builder.mul(apart, ir.Constant(_SIZE, number)))
    return builder.inttoptr(address, kind.as_pointer())


def _vector(builder: Any, address: Any, number: int, kind: Any) -> Any:
    """The n-th vector from an address on."""
    begin = builder.inttoptr(address, kind.as_pointer())
    return builder.load(builder.gep(begin, [ir.Constant(_SIZE, number)]), align=4)


def _spread(builder: Any, number: Any, kind: Any) -> Any:
    """A vector of one number."""
    undefined = ir.Constant(kind, ir.Undefined)
    one = builder.insert_element(undefined, number, ir.Constant(_INT, 0))
    return builder.shuffle_vector(one, undefined, ir.Constant(_INTS, None))


def _dot(builder: Any, sums: Any, word: Any, factors: Any) -> Any:
    """Add the products of four unsigned bytes with four signed ones, in each lane."""
    if AVAILABLE:
        kind = ir.FunctionType(_INTS, [_INTS, _INTS, _INTS])
        name = "llvm.x86.avx512.vpdpbusd.512"
        function = cgutils.get_or_insert_function(builder.module, kind, name)
        return builder.call(function, [sums, word, factors])
    for bits in range(0, 32, 8):
        byte = builder.and_(builder.lshr(word, _all(bits)), _all(255))
        factor = builder.ashr(builder.shl(factors, _all(24 - bits)), _all(24))
        sums = builder.add(sums, builder.mul(byte, factor))
    return sums


def _all(number: int) -> Any:
    return ir.Constant(_INTS, [number] * _LANES)


@compiled
def multiply_share(
    weights: Any,
    count: int,
    rows: int,
    scales: int,
    added: int,
    added_bytes: int,
    output: int,
    output_bytes: int,
) -> None:
    """One thread's share of the outputs: `output = rows @ weights * scales + added`.

    Args:
        weights: Of Int8Weights.
        count: How many rows.
        rows: Address of uint8 (count, inputs), to which OFFSET has been added.
        scales: Address of float32 (count,).
        added: Address of float32 (count, outputs).
        added_bytes: From row to row of these; 0 adds the same to all.
        output: Address of float32 (count, outputs), written; may be `added`.
        output_bytes: From row to row of these.
    """
    threads, mine = thread_count(), thread_number()
    row_bytes = weights.words * WORD
    for group in range(weights.groups * mine // threads, weights.groups * (mine + 1) // threads):
        column = 4 * group * OUTPUTS  # in bytes
        for row in range(0, count, _ROWS):
            _multiply(
                min(_ROWS, count - row),
                weights.words,
                rows + row * row_bytes,
                weights.weights + group * row_bytes * OUTPUTS,
                weights.offsets + column,
                weights.scales + column,
                scales + 4 * row,
                added + row * added_bytes + column,
                added_bytes,
                output + row * output_bytes + column,
                output_bytes,
            )


@parallel(ProductCall)
def multiply(calls: Any) -> None:
    """One thread's share of a product with a bias."""
    call = carray(calls, 1)[0]
    multiply_share(
        call.weights,
        call.count,
        call.rows,
        call.scales,
        call.weights.bias,
        0,
        call.output,
        call.output_bytes,
    )


def packed(weights: np.ndarray[Any, np.dtype[np.int8]]) -> np.ndarray[Any, np.dtype[np.int8]]:
    """Weights (outputs, inputs) in the order of `Int8Weights.weights`; padded with zeros."""
    outputs, inputs = weights.shape
    padded = np.pad(weights, ((0, -outputs % OUTPUTS), (0, 0)))
    grouped = padded.reshape(-1, OUTPUTS, inputs // WORD, WORD)
    return np.ascontiguousarray(grouped.transpose(0, 2, 1, 3))
