"""Layers in eight bits, and those that take one pass."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from torch import nn
from transformers.models.gemma2.modeling_gemma2 import Gemma2RMSNorm
from transformers.models.llama.modeling_llama import LlamaRMSNorm

from services.generator.layers.compiled import exponentials
from services.generator.layers.gated_mlp import Int8GatedMLP
from services.generator.layers.int8_linear import Int8Linear, side_by_side
from services.generator.layers.int8_product import OFFSET
from services.generator.layers.int8_weights import Product
from services.generator.layers.replacement import Int8Error, quantize
from services.generator.layers.rms_norm import RMSNorm
from services.generator.layers.rounding import mix_rows, mixed_weights, round_rows
from services.generator.models import LoadedModel

QKV = ("q_proj", "k_proj", "v_proj")
FLOATS = st.floats(-1e6, 1e6, width=32)
ROWS = arrays.arrays(np.float32, st.tuples(st.integers(1, 5), st.integers(1, 40)), elements=FLOATS)


@pytest.fixture(autouse=True)
def _no_gradients() -> Any:
    torch.manual_seed(3)
    with torch.inference_mode():
        yield


@settings(deadline=None)
@given(rows=ROWS)
def test_a_row_is_rounded_to_within_half_a_step_of_its_own_scale(rows: np.ndarray) -> None:
    rounded, scales = round_rows(torch.from_numpy(rows))
    mixed = rows.copy()
    mix_rows(mixed)
    numbers = rounded.numpy().astype(np.float64) - OFFSET
    error = np.abs(numbers * scales.numpy() - mixed)
    assert (error <= scales.numpy() * 0.501 + 1e-30).all()
    assert (np.abs(numbers) <= 127).all()


@settings(deadline=None)
@given(rows=ROWS)
def test_products_of_mixed_rows_and_mixed_weights_are_those_of_the_unmixed(
    rows: np.ndarray,
) -> None:
    weights = torch.randn(4, rows.shape[1])
    mixed = rows.copy()
    mix_rows(mixed)
    expected = torch.from_numpy(rows).double() @ weights.T.double()
    given = torch.from_numpy(mixed).double() @ mixed_weights(weights).T.double()
    tolerance = 1e-5 * float(np.abs(rows).sum() + 1)
    torch.testing.assert_close(given, expected, rtol=1e-5, atol=tolerance)


def test_a_large_number_does_not_cost_the_small_ones_their_bits() -> None:
    linear, rows = nn.Linear(576, 50, bias=False), torch.randn(8, 576)
    rows[:, 7] = 200
    expected = linear(rows)
    assert (Int8Linear([linear])(rows) - expected).norm() < 0.02 * expected.norm()


@given(numbers=arrays.arrays(np.float32, st.integers(1, 70), elements=st.floats(-80, 80, width=32)))
def test_exponentials_are_those_of_numpy(numbers: np.ndarray) -> None:
    expected = np.exp(numbers.astype(np.float64))
    exponentials(numbers, np.empty(len(numbers), np.int32))
    # What float32 keeps of a power of 80 times log2(e) is 80 * 2e-7.
    np.testing.assert_allclose(numbers, expected, rtol=3e-5)


def test_a_product_in_eight_bits_is_near_that_in_floats() -> None:
    linear, rows = nn.Linear(96, 50), torch.randn(3, 7, 96)
    expected, given = linear(rows), Int8Linear([linear])(rows)
    assert given.shape == expected.shape
    assert (given - expected).norm() < 0.02 * expected.norm()


def test_a_row_alone_is_what_it_is_among_others() -> None:
    linear, rows = Int8Linear([nn.Linear(96, 50)]), torch.randn(40, 96) * torch.rand(40, 1)
    together = linear(rows)
    assert all(
        torch.equal(linear(row[None])[0], mine) for row, mine in zip(rows, together, strict=True)
    )


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


def test_a_norm_in_one_pass_is_the_norm() -> None:
    theirs = LlamaRMSNorm(48, eps=1e-5)
    theirs.weight.copy_(torch.randn(48))
    wide = torch.randn(2, 5, 60) * 30
    for rows in (wide[..., :48].contiguous(), wide[..., 7:55]):
        torch.testing.assert_close(RMSNorm(theirs.weight, 1e-5)(rows), theirs(rows))


def test_a_gated_layer_is_near_that_in_floats() -> None:
    gate, up, down = (nn.Linear(*shape, bias=False) for shape in ((48, 80), (48, 80), (80, 48)))
    rows = torch.randn(2, 5, 48) * 3
    expected = down(nn.functional.silu(gate(rows)) * up(rows))
    given = Int8GatedMLP(gate, up, down)(rows)
    assert (given - expected).norm() < 0.03 * expected.norm()


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


class Block(nn.Module):
    """Layers under the names that transformers' models give them."""

    def __init__(self, activation: nn.Module, norm: nn.Module) -> None:
        super().__init__()
        self.q_proj, self.k_proj, self.v_proj = (nn.Linear(32, 16) for _ in range(3))
        self.lm_head = nn.Linear(32, 20)
        self.mlp = AnyMLP(activation)
        self.norm = norm


class AnyMLP(nn.Module):
    def __init__(self, activation: nn.Module) -> None:
        super().__init__()
        self.gate_proj, self.up_proj = (nn.Linear(32, 64, bias=False) for _ in range(2))
        self.down_proj = nn.Linear(64, 32, bias=False)
        self.activation = activation

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        product: torch.Tensor = self.down_proj(
            self.activation(self.gate_proj(rows)) * self.up_proj(rows)
        )
        return product


def test_what_computes_the_same_is_replaced() -> None:
    block = Block(nn.SiLU(), LlamaRMSNorm(32))
    quantize(block)
    assert isinstance(block.mlp, Int8GatedMLP)
    assert isinstance(block.norm, RMSNorm)
    assert isinstance(block.lm_head, Int8Linear)
    assert not [module for module in block.modules() if type(module) is nn.Linear]


def test_what_computes_something_else_stays_but_for_its_linear_layers() -> None:
    norm = Gemma2RMSNorm(32)
    norm.weight.copy_(torch.randn(32))
    block = Block(nn.GELU(), norm)
    rows = torch.randn(5, 32)
    expected = block.mlp(rows)
    quantize(block)
    assert isinstance(block.mlp, AnyMLP)
    assert isinstance(block.norm, Gemma2RMSNorm)
    assert not [module for module in block.modules() if type(module) is nn.Linear]
    assert (block.mlp(rows) - expected).norm() < 0.05 * expected.norm()


@pytest.mark.parametrize("width", [32, 16])
def test_layers_that_are_not_alike_are_replaced_one_by_one(width: int) -> None:
    block = Block(nn.SiLU(), LlamaRMSNorm(32))
    block.k_proj = nn.Linear(width, 16, bias=False)
    rows = {name: torch.randn(3, width if name == "k_proj" else 32) for name in QKV}
    expected = {name: getattr(block, name)(mine) for name, mine in rows.items()}
    quantize(block)
    for name, mine in rows.items():
        assert (getattr(block, name)(mine) - expected[name]).norm() < 0.03 * expected[name].norm()


def test_a_model_elsewhere_is_refused_with_what_to_do() -> None:
    with pytest.raises(Int8Error, match="--dtype"):
        quantize(nn.Linear(4, 4, device="meta"))


def test_a_model_in_eight_bits_says_nearly_what_it_says_in_floats(
    tiny_llama: LoadedModel, tiny_llama_int8: LoadedModel
) -> None:
    ids = torch.randint(5, 400, (2, 30))
    expected, given = tiny_llama.model(ids).logits, tiny_llama_int8.model(ids).logits
    assert (given - expected).norm() < 0.03 * expected.norm()
    assert tiny_llama_int8.description.dtype == "int8"
    assert tiny_llama_int8.description.parameters == tiny_llama.description.parameters
