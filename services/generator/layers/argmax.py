"""The largest number of each row, each thread's columns by the thread that has computed them."""

import ctypes
from typing import Any

import numpy as np
import torch
from numba import types
from numba.extending import intrinsic

from services.generator import openmp
from services.generator.layers import simd
from services.generator.layers.compiled import Floats, compiled
from services.generator.openmp import Call, carray, parallel, pointer, thread_count, thread_number

_PART = 16 * simd.BLOCK  # columns that are searched again for the place of their largest number


class _Call(Call):
    """What the compiled loop is told; all but numbers of rows and columns are addresses.

    Attributes:
        rows: float32 (count, width), rows so many bytes apart.
        values: float32 (threads, count), written: the largest number of a thread's columns.
        columns: int64 (threads, count), written: where it stands.
    """

    _fields_ = tuple(
        (name, ctypes.c_int64)
        for name in ("rows", "row_bytes", "count", "width", "values", "columns")
    )


@intrinsic
def _largest_of_blocks(_typing: Any, numbers: Any) -> Any:
    """The largest number of an array, but for those behind its last whole block."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        array = context.make_array(signature.args[0])(context, builder, arguments[0])
        return simd.reduced_blocks(builder, array, simd.floats(float("-inf")), simd.largest)

    return types.float32(numbers), generate


_quick: Any = _largest_of_blocks


@compiled
def _largest(numbers: Floats) -> np.float32:
    most: np.float32 = _quick(numbers)
    for place in range(len(numbers) // simd.BLOCK * simd.BLOCK, len(numbers)):
        most = numbers[place] if numbers[place] > most else most
    return most


@compiled
def _find(row: Floats) -> int:
    """Where the largest number of a row is first; 0 where there is none."""
    most, found = np.float32(-np.inf), 0
    for begin in range(0, len(row), _PART):
        here = _largest(row[begin : begin + _PART])
        if here > most:
            most, found = here, begin
    while found < len(row) and row[found] != most:
        found += 1
    return found if found < len(row) else 0


@parallel(_Call)
def _argmax(calls: Any) -> None:
    call = carray(calls, 1)[0]
    mine, threads = thread_number(), thread_count()
    begin, end = call.width * mine // threads, call.width * (mine + 1) // threads
    values = carray(pointer(call.values), (threads, call.count), np.float32)
    columns = carray(pointer(call.columns), (threads, call.count), np.int64)
    for row in range(call.count):
        numbers = carray(pointer(call.rows + row * call.row_bytes), call.width, np.float32)
        found = begin + _find(numbers[begin:end])
        values[mine, row], columns[mine, row] = numbers[found], found


def argmax(rows: torch.Tensor) -> torch.Tensor:
    """Where each row's largest number is, the first of equal ones, int64 (n,).

    A row of which a number is none has no largest; any column is given for it.

    Args:
        rows: float32 (n, width) on a CPU, the numbers of a row side by side; at least one column.
    """
    threads = min(torch.get_num_threads(), rows.shape[1])
    values = np.full((threads, len(rows)), -np.inf, np.float32)
    columns = np.zeros((threads, len(rows)), np.int64)
    call = _Call(
        rows.data_ptr(), 4 * rows.stride(0), *rows.shape, values.ctypes.data, columns.ctypes.data
    )
    openmp.run(_argmax, call, threads)
    best = values.argmax(axis=0)
    return torch.from_numpy(columns[best, np.arange(len(rows))])
