"""Numbers in memory that several threads change at the same time, for compiled loops."""

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

_INT64 = ir.IntType(64)
_ORDER = "seq_cst"


def _place(builder: Any, address: Any) -> Any:
    return builder.inttoptr(address, _INT64.as_pointer())


def _intrinsic(
    generated: Callable[..., Any], result: types.Type, *arguments: types.Type
) -> tuple[Any, Callable[..., Any]]:
    def generate(context: Any, builder: Any, _signature: Any, values: Any) -> Any:
        address, *others = values
        given = generated(builder, _place(builder, address), *others)
        return context.get_dummy_value() if given is None else given

    return result(types.int64, *arguments), generate


@intrinsic
def _load(_typing: Any, _address: Any) -> Any:
    def generated(builder: Any, place: Any) -> Any:
        return builder.load_atomic(place, _ORDER, 8)

    return _intrinsic(generated, types.int64)


@intrinsic
def _store(_typing: Any, _address: Any, _number: Any) -> Any:
    def generated(builder: Any, place: Any, number: Any) -> None:
        builder.store_atomic(number, place, _ORDER, 8)

    return _intrinsic(generated, types.void, types.int64)


@intrinsic
def _add(_typing: Any, _address: Any, _number: Any) -> Any:
    def generated(builder: Any, place: Any, number: Any) -> Any:
        return builder.atomic_rmw("add", place, number, _ORDER)

    return _intrinsic(generated, types.int64, types.int64)


@intrinsic
def _exchange(_typing: Any, _address: Any, _expected: Any, _number: Any) -> Any:
    def generated(builder: Any, place: Any, expected: Any, number: Any) -> Any:
        done = builder.cmpxchg(place, expected, number, _ORDER, _ORDER)
        return builder.extract_value(done, 1)

    return _intrinsic(generated, types.boolean, types.int64, types.int64)


load: Any = _load
"""The int64 at an address, and all that was written before it was."""

store: Any = _store
"""Write an int64 to an address, after all that was written before."""

add: Any = _add
"""Add to the int64 at an address; gives what it was."""

exchange: Any = _exchange
"""Write the last argument to an address, if the int64 there is the one before; true if it was."""
