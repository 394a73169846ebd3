"""Linear layers in eight bits, and their product."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from services.generator import openmp
from services.generator.layers.gated_mlp import Int8GatedMLP
from services.generator.layers.int8_linear import Int8Linear, side_by_side
from services.generator.layers.int8_product import (
    GATED,
    OFFSET,
    OUTPUTS,
    WORD,
    ProductCall,
    gate_groups,
    multiply_groups,
)
from services.generator.layers.int8_weights import Product
from services.generator.openmp import carray, parallel, share

MARGIN = 5


@pytest.fixture(autouse=True)
def _no_gradients() -> Iterator[None]:
    torch.manual_seed(3)
    threads = torch.get_num_threads()
    with torch.inference_mode():
        yield
    torch.set_num_threads(threads)


@parallel(ProductCall)
def add(calls: Any) -> None:
    """Add a product to what is there."""
    call = carray(calls, 1)[0]
    first, last = share(call.weights.groups)
    multiply_groups(
        call.weights,
        first,
        last,
        call.count,
        call.rows,
        call.scales,
        call.output,
        call.output_bytes,
        call.output,
        call.output_bytes,
    )


@parallel(ProductCall)
def gate(calls: Any) -> None:
    """Gate what a product gives."""
    call = carray(calls, 1)[0]
    first, last = share(call.weights.groups)
    gate_groups(
        call.weights,
        first,
        last,
        call.count,
        call.rows,
        call.scales,
        call.output,
        call.output_bytes,
    )


class Numbers:
    """Random weights and rows in eight bits, and their product."""

    def __init__(self, count: int, words: int, groups: int) -> None:
        self.rows = torch.randint(1, 256, (count, WORD * words), dtype=torch.uint8)
        self.scales = torch.rand(count, 1) / 1000
        weights = torch.randint(-127, 128, (OUTPUTS * groups, WORD * words), dtype=torch.int8)
        scales = torch.rand(len(weights)) / 50
        self.product = Product(weights, scales, torch.zeros(len(weights)))
        whole = (self.rows.double() - OFFSET) @ weights.T.double()
        self.expected = whole * scales * self.scales

    def run(self, loop: Any, output: torch.Tensor, width: int) -> None:
        """Run a loop that writes the first columns of some rows, whose others must stay."""
        margin = output[:, width:].clone()
        addresses = (each.data_ptr() for each in (self.rows, self.scales, output))
        call = ProductCall(self.product.weights, len(output), *addresses, 4 * output.shape[1])
        openmp.run(loop, call, torch.get_num_threads())
        assert torch.equal(output[:, width:], margin)


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("groups", [1, 2, 5])
@pytest.mark.parametrize("count", [0, 1, 7, 8, 9, 20])
def test_loops_add_and_gate_products_and_touch_nothing_else(
    count: int, groups: int, threads: int
) -> None:
    torch.set_num_threads(threads)
    numbers, width = Numbers(count, 9, groups), OUTPUTS * groups
    output = torch.randn(count, width + MARGIN)
    expected = output[:, :width].double() + numbers.expected
    numbers.run(add, output, width)
    torch.testing.assert_close(output[:, :width], expected.float())
    gates, ups = numbers.expected.view(count, groups, 2, GATED).unbind(2)
    expected = (nn.functional.silu(gates) * ups).reshape(count, width // 2)
    numbers.run(gate, output, width // 2)
    torch.testing.assert_close(output[:, : width // 2], expected.float())


@settings(deadline=None)
@given(
    count=st.integers(0, 20),
    inputs=st.integers(1, 80),
    outputs=st.integers(1, 70),
    seed=st.integers(0, 99),
)
def test_a_product_sums_exactly(count: int, inputs: int, outputs: int, seed: int) -> None:
    torch.manual_seed(seed)
    weights = torch.randint(-127, 128, (outputs, inputs), dtype=torch.int8)
    rows = torch.randint(1, 256, (count, inputs), dtype=torch.uint8)
    scales, row_scales = torch.rand(outputs), torch.rand(count, 1)
    bias = torch.randn(outputs)
    given = Product(weights, scales, bias)(rows, row_scales)
    whole = (rows.int() - OFFSET) @ weights.T.int()
    torch.testing.assert_close(given, whole.float() * scales * row_scales + bias)


@pytest.mark.parametrize("inputs", [2, 576, 70_000, 133_000])
def test_a_product_of_the_largest_numbers_is_exact_though_sums_on_the_way_may_not_fit(
    inputs: int,
) -> None:
    weights = torch.full((2, inputs), 127, dtype=torch.int8)
    weights[1] *= -1
    rows = torch.full((1, inputs), 127 + OFFSET, dtype=torch.uint8)
    given = Product(weights, torch.ones(2), torch.zeros(2))(rows, torch.ones(1, 1))
    assert given.tolist() == [[np.float32(sign * 127 * 127 * inputs) for sign in (1, -1)]]


def test_a_product_in_eight_bits_is_near_that_in_floats() -> None:
    linear, rows = nn.Linear(96, 50), torch.randn(3, 7, 96)
    expected, given = linear(rows), Int8Linear([linear])(rows)
    assert given.shape == expected.shape
    assert (given - expected).norm() < 0.02 * expected.norm()


def test_a_large_number_does_not_cost_the_small_ones_their_bits() -> None:
    linear, rows = nn.Linear(576, 50, bias=False), torch.randn(8, 576)
    rows[:, 7] = 200
    expected = linear(rows)
    assert (Int8Linear([linear])(rows) - expected).norm() < 0.02 * expected.norm()


def test_a_row_alone_is_what_it_is_among_others() -> None:
    linear, rows = Int8Linear([nn.Linear(96, 50)]), torch.randn(40, 96) * torch.rand(40, 1)
    together = linear(rows)
    assert all(
        torch.equal(linear(row[None])[0], mine) for row, mine in zip(rows, together, strict=True)
    )


def test_a_product_that_keeps_its_memory_gives_the_same() -> None:
    linear = nn.Linear(24, 40)
    layer, keeping = Int8Linear([linear]), Int8Linear([linear])
    keeping.product.keep_memory()
    for count in (0, 3, 5, 2):
        rows = torch.randn(count, 24)
        assert torch.equal(keeping(rows), layer(rows))


def test_layers_side_by_side_give_what_each_gives_alone() -> None:
    layers = [nn.Linear(32, width) for width in (16, 8, 8)]  # a group of outputs is 32
    standing_in = list(side_by_side(layers))
    for rows in (torch.randn(1, 4, 32), torch.randn(2, 32)):
        for layer, other in zip(layers, standing_in, strict=True):
            assert torch.equal(other(rows), Int8Linear([layer])(rows))


def test_layers_side_by_side_see_that_their_input_was_changed_in_place() -> None:
    layers = [nn.Linear(32, 8), nn.Linear(32, 8)]
    standing_in, rows = list(side_by_side(layers)), torch.randn(2, 32)
    for factor in (1, 2):
        rows *= factor
        for layer, other in zip(layers, standing_in, strict=True):
            assert torch.equal(other(rows), Int8Linear([layer])(rows))


def test_a_gated_layer_is_near_that_in_floats() -> None:
    gate, up, down = (nn.Linear(*shape, bias=False) for shape in ((48, 80), (48, 80), (80, 48)))
    rows = torch.randn(2, 5, 48) * 3
    expected = down(nn.functional.silu(gate(rows)) * up(rows))
    given = Int8GatedMLP(gate, up, down)(rows)
    assert (given - expected).norm() < 0.03 * expected.norm()
