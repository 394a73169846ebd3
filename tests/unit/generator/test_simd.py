"""Vectors compute what numpy computes, whatever CPU they are compiled for."""

from collections.abc import Callable
from typing import Any

import numba
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numba import types
from numba.extending import intrinsic
from numpy.typing import NDArray

from services.generator.layers import simd
from services.generator.layers.compiled import OPTIONS

FLOATS = arrays.arrays(np.float32, simd.LANES, elements=st.floats(-80, 80, width=32))
BYTES = arrays.arrays(np.uint8, 4 * simd.LANES)
SIGNED = arrays.arrays(np.int8, 4 * simd.LANES)
WHOLE = arrays.arrays(np.int32, simd.LANES)


def compiled(emit: Callable[..., Any], *kinds: Any) -> Callable[..., NDArray[Any]]:
    """A function of vectors of some kinds that gives one of the first kind."""

    @intrinsic
    def vectors(_typing: Any, sources: Any, output: Any) -> Any:
        def generate(context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
            given = [
                simd.load(builder, builder.extract_value(arguments[0], number), kind)
                for number, kind in enumerate(kinds)
            ]
            simd.store(builder, emit(builder, *given), arguments[1])
            return context.get_dummy_value()

        return types.void(sources, output), generate

    one: Any = vectors  # numba's decorators have no types

    def loop(sources: Any, output: int) -> None:
        one(sources, output)

    run: Any = numba.njit(**OPTIONS | {"cache": False})(loop)

    def call(*arguments: NDArray[Any]) -> NDArray[Any]:
        output = np.empty_like(arguments[0])
        run(tuple(each.ctypes.data for each in arguments), output.ctypes.data)
        return output

    return call


silu = compiled(simd.silu, simd.FLOATS)
exponential = compiled(simd.exponential, simd.FLOATS)
multiply_add = compiled(simd.multiply_add, simd.FLOATS, simd.FLOATS, simd.FLOATS)
add_dots = compiled(simd.add_dots, simd.INTS, simd.INTS, simd.INTS)
total = compiled(
    lambda builder, numbers: simd.spread(
        builder, simd.reduced(builder, numbers, simd.add), simd.FLOATS
    ),
    simd.FLOATS,
)
most = compiled(
    lambda builder, numbers: simd.spread(
        builder, simd.reduced(builder, numbers, simd.largest), simd.FLOATS
    ),
    simd.FLOATS,
)


@given(numbers=FLOATS)
def test_exponentials_are_those_of_numpy(numbers: NDArray[np.float32]) -> None:
    # What float32 keeps of a power of 80 times log2(e) is 80 * 2e-7.
    np.testing.assert_allclose(exponential(numbers), np.exp(np.float64(numbers)), rtol=3e-5)


@given(numbers=FLOATS)
def test_silu_is_that_of_float64(numbers: NDArray[np.float32]) -> None:
    wide = numbers.astype(np.float64)
    np.testing.assert_allclose(silu(numbers), wide / (1 + np.exp(-wide)), rtol=3e-5, atol=1e-36)


def test_silu_of_what_is_very_large_is_the_number_itself_or_nothing() -> None:
    numbers = np.zeros(simd.LANES, np.float32)
    numbers[:6] = 100, 1e6, 3e38, -100, -1e6, -1e30
    np.testing.assert_allclose(silu(numbers)[:6], [100, 1e6, 3e38, 0, 0, 0], atol=1e-7)
    assert (silu(numbers)[6:] == 0).all()


@given(one=FLOATS, other=FLOATS, added=FLOATS)
def test_a_product_is_added(
    one: NDArray[np.float32], other: NDArray[np.float32], added: NDArray[np.float32]
) -> None:
    expected = one.astype(np.float64) * other + added
    np.testing.assert_allclose(multiply_add(one, other, added), expected, rtol=1e-6, atol=1e-3)


@given(sums=WHOLE, unsigned=BYTES, signed=SIGNED)
def test_products_of_bytes_are_added_exactly_and_wrap(
    sums: NDArray[np.int32], unsigned: NDArray[np.uint8], signed: NDArray[np.int8]
) -> None:
    products = unsigned.astype(np.int64) * signed
    expected = sums + products.reshape(-1, 4).sum(1)
    assert (add_dots(sums, unsigned, signed) == expected.astype(np.int32)).all()


@pytest.mark.parametrize("factor", [127, -127, -128])
def test_products_of_the_largest_bytes_are_not_cut_off(factor: int) -> None:
    sums, unsigned = np.zeros(simd.LANES, np.int32), np.full(4 * simd.LANES, 255, np.uint8)
    given = add_dots(sums, unsigned, np.full(4 * simd.LANES, factor, np.int8))
    assert (given == 4 * 255 * factor).all()


@given(numbers=FLOATS)
def test_vectors_are_reduced_to_one_number(numbers: NDArray[np.float32]) -> None:
    assert (most(numbers) == numbers.max()).all()
    np.testing.assert_allclose(total(numbers), numbers.sum(dtype=np.float64), rtol=1e-5, atol=1e-3)
