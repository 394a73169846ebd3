"""Compiling loops (numba): when their module is imported, not when the first request comes.

The machine code is kept beside the source, so that this takes seconds once and milliseconds from
then on. Arrays are declared read-only, as those that are mapped from a model are; others fit too.
"""

from collections.abc import Callable
from typing import Any, TypeVar, cast

from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic

Loop = TypeVar("Loop", bound=Callable[..., Any])

_BYTE = ir.IntType(8)

INT = types.int64
FLOAT = types.float64


def _array(dtype: types.Type, dimensions: int, *, readonly: bool = True) -> types.Type:
    return types.Array(dtype, dimensions, "C", readonly=readonly)


INTS = _array(types.int64, 1)
INT_ROWS = _array(types.int64, 2)
INTS_32 = _array(types.int32, 1)
INTS_16 = _array(types.int16, 1)
BYTES = _array(types.uint8, 1)
SHORTS = _array(types.uint16, 1)
FLOATS = _array(types.float64, 1)
FLOAT_ROWS = _array(types.float64, 2)
VECTORS = _array(types.float32, 2)

WORK_FLOATS = _array(types.float64, 1, readonly=False)
WORK_BYTES = _array(types.uint8, 1, readonly=False)

compiled = njit(cache=True, nogil=True)
"""For loops that other loops call; they are compiled with these."""


def compiled_for(*arguments: types.Type, nogil: bool = False) -> Callable[[Loop], Loop]:
    """For loops that Python calls, with arguments of the types given.

    `nogil` lets other threads run meanwhile; it pays for loops that take longer than a thread waits
    to get the interpreter back.
    """
    return cast("Callable[[Loop], Loop]", njit(arguments, cache=True, nogil=nogil))


@intrinsic
def _prefetch(_typing: Any, array: Any, row: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        data = context.make_array(signature.args[0])(context, builder, arguments[0]).data
        pointer = builder.bitcast(builder.gep(data, [arguments[1]]), _BYTE.as_pointer())
        read, to_first_level, of_data = (ir.Constant(ir.IntType(32), k) for k in (0, 3, 1))
        kind = ir.FunctionType(
            ir.VoidType(), [_BYTE.as_pointer(), *(each.type for each in (read, read, read))]
        )
        name = "llvm.prefetch.p0i8"
        function = cgutils.get_or_insert_function(builder.module, kind, name)
        builder.call(function, [pointer, read, to_first_level, of_data])
        return context.get_dummy_value()

    return types.void(array, row), generate


prefetch: Any = _prefetch
"""For loops: let what is at a place of an array's memory come while something else is computed."""
