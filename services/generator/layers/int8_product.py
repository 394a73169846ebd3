"""The product of eight-bit matrices, for compiled loops, by the VNNI or AMX instructions of CPUs.

Rows are multiplied as they come, a few at a time, with weights that lie in the order in which they
are read. So a step of few rows, which takes as long as its weights take to come from memory, is
computed as fast as they come. Whole numbers are summed, which is exact: a row's result does not
depend on what is computed beside it.
"""

import ctypes
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from services.generator.layers import simd
from services.generator.layers.compiled import compiled
from services.generator.layers.int8_tiles import ROWS as TILE_ROWS
from services.generator.layers.int8_tiles import configure, release, sum_tiles
from services.generator.openmp import Call, carray, parallel, share

OUTPUTS = 32
"""Weights are read in groups of so many outputs."""

WORD = 4
"""Inputs that one instruction multiplies for each output."""

OFFSET = 128
"""What is added to a number of a row, so that it is never negative."""

GATED = 16
"""Outputs of a gate that stand beside as many of what it gates, in one group."""

_AHEAD = 8192  # bytes, which come from memory while what lies before them is multiplied
_ROWS = 8  # at a time: their sums are held in registers
_PARTS = range(OUTPUTS // simd.LANES)


class Int8Weights(Call):
    """Packed weights; the first are addresses.

    Attributes:
        weights: int8 (groups, words, OUTPUTS, WORD), in the order of the inputs.
        offsets: int32, of each output: the sum of its weights times OFFSET.
        scales: float32, of each output.
        bias: float32, of each output.
        words: Inputs / WORD.
        groups: Outputs / OUTPUTS.
        tiles: Whether many rows are multiplied by `int8_tiles`, 1 or 0.
    """

    _fields_ = tuple(
        (name, ctypes.c_int64)
        for name in ("weights", "offsets", "scales", "bias", "words", "groups", "tiles")
    )


class ProductCall(Call):
    """What the compiled loop is told: see `multiply_groups`."""

    _fields_ = (
        ("weights", Int8Weights),
        *((name, ctypes.c_int64) for name in ("count", "rows", "scales")),
        *((name, ctypes.c_int64) for name in ("output", "output_bytes")),
    )


@intrinsic
def _multiply_rows(
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
        count, words, rows, weights, *others, added, added_bytes, output, output_bytes = values
        with simd.cases(builder, count, _ROWS) as cases:
            for known in cases:
                sums = _dots(builder, known, words, rows, weights)
                for row, products in enumerate(_scaled(builder, sums, *others)):
                    addend = builder.add(added, builder.mul(added_bytes, simd.size(row)))
                    result = builder.add(output, builder.mul(output_bytes, simd.size(row)))
                    _add(builder, products, addend, result)
        return context.get_dummy_value()

    return types.void(*[types.int64] * 11), generate


@intrinsic
def _gate_rows(
    _typing: Any,
    count: Any,
    words: Any,
    rows: Any,
    weights: Any,
    offsets: Any,
    output_scales: Any,
    row_scales: Any,
    output: Any,
    output_bytes: Any,
) -> Any:
    def generate(context: Any, builder: Any, _signature: Any, values: Any) -> Any:
        count, words, rows, weights, *others, output, output_bytes = values
        with simd.cases(builder, count, _ROWS) as cases:
            for known in cases:
                sums = _dots(builder, known, words, rows, weights)
                for row, products in enumerate(_scaled(builder, sums, *others)):
                    result = builder.add(output, builder.mul(output_bytes, simd.size(row)))
                    _gate(builder, products, result)
        return context.get_dummy_value()

    return types.void(*[types.int64] * 9), generate


@intrinsic
def _multiply_sums(
    _typing: Any,
    sums: Any,
    offsets: Any,
    output_scales: Any,
    row_scales: Any,
    added: Any,
    output: Any,
) -> Any:
    def generate(context: Any, builder: Any, _signature: Any, values: Any) -> Any:
        sums, *others, added, output = values
        whole = [[simd.load(builder, sums, simd.INTS, part) for part in _PARTS]]
        for products in _scaled(builder, whole, *others):
            _add(builder, products, added, output)
        return context.get_dummy_value()

    return types.void(*[types.int64] * 6), generate


@intrinsic
def _gate_sums(
    _typing: Any, sums: Any, offsets: Any, output_scales: Any, row_scales: Any, output: Any
) -> Any:
    def generate(context: Any, builder: Any, _signature: Any, values: Any) -> Any:
        sums, *others, output = values
        whole = [[simd.load(builder, sums, simd.INTS, part) for part in _PARTS]]
        for products in _scaled(builder, whole, *others):
            _gate(builder, products, output)
        return context.get_dummy_value()

    return types.void(*[types.int64] * 5), generate


def _add(builder: Any, products: list[Any], added: Any, output: Any) -> None:
    """Write what is added to and the products of one row."""
    for part, value in enumerate(products):
        addends = simd.load(builder, added, simd.FLOATS, part)
        simd.store(builder, simd.add(builder, value, addends), output, part)


def _gate(builder: Any, products: list[Any], output: Any) -> None:
    """Write one row, of whose products the first are a gate, and the others what it gates."""
    gate, up = products
    simd.store(builder, simd.multiply(builder, simd.silu(builder, gate), up), output)


def _dots(builder: Any, count: int, words: Any, rows: Any, weights: Any) -> list[list[Any]]:
    """The sums of products of a known number of rows with one group of outputs."""
    zero = simd.zeros(simd.INTS)
    sums = [[cgutils.alloca_once(builder, simd.INTS) for _ in _PARTS] for _ in range(count)]
    for mine in sums:
        for one in mine:
            builder.store(zero, one)
    row_bytes = builder.mul(words, simd.size(WORD))
    begins = [simd.place(builder, rows, row, row_bytes, simd.INT) for row in range(count)]
    with cgutils.for_range(builder, words) as loop:
        group = builder.add(weights, builder.mul(loop.index, simd.size(WORD * OUTPUTS)))
        factors = [simd.load(builder, group, simd.INTS, part) for part in _PARTS]
        for part in _PARTS:
            line = builder.add(group, simd.size(_AHEAD + part * simd.LINE))
            simd.prefetch(builder, line)
        for begin, mine in zip(begins, sums, strict=True):
            word = builder.load(builder.gep(begin, [loop.index]), align=1)
            word = simd.spread(builder, word, simd.INTS)
            for one, factor in zip(mine, factors, strict=True):
                builder.store(simd.add_dots(builder, builder.load(one), word, factor), one)
    return [[builder.load(one) for one in mine] for mine in sums]


def _scaled(
    builder: Any, sums: list[list[Any]], offsets: Any, output_scales: Any, row_scales: Any
) -> Iterator[list[Any]]:
    """The products of each row, as floats."""
    for row, mine in enumerate(sums):
        scale = builder.load(simd.place(builder, row_scales, row, simd.size(4), simd.FLOAT))
        scale = simd.spread(builder, scale, simd.FLOATS)
        products = []
        for part, one in enumerate(mine):
            whole = builder.sub(one, simd.load(builder, offsets, simd.INTS, part))
            value = builder.sitofp(whole, simd.FLOATS)
            scales = simd.load(builder, output_scales, simd.FLOATS, part)
            products.append(simd.multiply(builder, simd.multiply(builder, value, scales), scale))
        yield products


_multiply_few: Any = _multiply_rows
_multiply_one: Any = _multiply_sums
_gate_few: Any = _gate_rows
_gate_one: Any = _gate_sums


@compiled
def _compute(
    weights: Any,
    groups: tuple[int, int],
    count: int,
    rows: int,
    scales: int,
    added: int,
    added_bytes: int,
    output: int,
    output_bytes: int,
    gated: bool,
) -> None:
    """See `multiply_groups`, and where `gated`, `gate_groups`."""
    many = weights.tiles and count > _ROWS
    sums = np.empty((TILE_ROWS if many else 1, OUTPUTS), np.int32)
    row_bytes, together = weights.words * WORD, TILE_ROWS if many else _ROWS
    configured = 0
    for group in range(groups[0], groups[1]):
        column = 4 * group * OUTPUTS  # in bytes
        packed_group = weights.weights + group * row_bytes * OUTPUTS
        offsets, output_scales = weights.offsets + column, weights.scales + column
        for row in range(0, count, together):
            some = min(together, count - row)
            mine, scale = rows + row * row_bytes, scales + 4 * row
            addend = added + row * added_bytes + column
            result = output + row * output_bytes + (column // 2 if gated else column)
            if many:
                if some != configured:
                    configure(some)
                    configured = some
                sum_tiles(some, weights.words, mine, packed_group, sums.ctypes.data)
                for one in range(some):
                    place, to = sums[one].ctypes.data, result + one * output_bytes
                    if gated:
                        _gate_one(place, offsets, output_scales, scale + 4 * one, to)
                    else:
                        more = addend + one * added_bytes
                        _multiply_one(place, offsets, output_scales, scale + 4 * one, more, to)
            elif gated:
                _gate_few(
                    some,
                    weights.words,
                    mine,
                    packed_group,
                    offsets,
                    output_scales,
                    scale,
                    result,
                    output_bytes,
                )
            else:
                _multiply_few(
                    some,
                    weights.words,
                    mine,
                    packed_group,
                    offsets,
                    output_scales,
                    scale,
                    addend,
                    added_bytes,
                    result,
                    output_bytes,
                )
    if many:
        release()


@compiled
def multiply_groups(
    weights: Any,
    first: int,
    last: int,
    count: int,
    rows: int,
    scales: int,
    added: int,
    added_bytes: int,
    output: int,
    output_bytes: int,
) -> None:
    """Some groups of outputs of `output = rows @ weights * scales + added`.

    Args:
        weights: Of Int8Weights.
        first: The first group.
        last: The first behind them.
        count: How many rows.
        rows: Address of uint8 (count, inputs), to which OFFSET has been added.
        scales: Address of float32 (count,).
        added: Address of float32 (count, outputs).
        added_bytes: From row to row of these; 0 adds the same to all.
        output: Address of float32 (count, outputs), written; may be `added`.
        output_bytes: From row to row of these.
    """
    groups = (first, last)
    _compute(weights, groups, count, rows, scales, added, added_bytes, output, output_bytes, False)


@compiled
def gate_groups(
    weights: Any,
    first: int,
    last: int,
    count: int,
    rows: int,
    scales: int,
    output: int,
    output_bytes: int,
) -> None:
    """`silu(gate) * up`, where each group has GATED outputs of a gate and GATED of up.

    Args:
        weights: As of `multiply_groups`, as those that are not explained here.
        first: The first group.
        last: The first behind them.
        count: How many rows.
        rows: Their address.
        scales: Their address.
        output: Address of float32 (count, outputs / 2), written.
        output_bytes: From row to row of these.
    """
    _compute(weights, (first, last), count, rows, scales, 0, 0, output, output_bytes, True)


@parallel(ProductCall)
def multiply(calls: Any) -> None:
    """One thread's share of a product with a bias."""
    call = carray(calls, 1)[0]
    first, last = share(call.weights.groups)
    multiply_groups(
        call.weights,
        first,
        last,
        call.count,
        call.rows,
        call.scales,
        call.weights.bias,
        0,
        call.output,
        call.output_bytes,
    )


def packed(weights: torch.Tensor) -> torch.Tensor:
    """Weights (outputs, inputs) in the order of `Int8Weights.weights`; padded with zeros.

    Like all of torch's memory they begin where a line of the CPU's cache does.
    """
    outputs, inputs = weights.shape
    padded = torch.zeros(outputs + -outputs % OUTPUTS, inputs, dtype=torch.int8)
    padded[:outputs] = weights
    grouped = padded.view(-1, OUTPUTS, inputs // WORD, WORD)
    return grouped.transpose(1, 2).contiguous()
