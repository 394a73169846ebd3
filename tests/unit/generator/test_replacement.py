"""Which layers of a model are replaced, and by what."""

from collections.abc import Iterator

import pytest
import torch
from torch import nn
from transformers.models.gemma2.modeling_gemma2 import Gemma2RMSNorm
from transformers.models.llama.modeling_llama import LlamaRMSNorm

from services.generator.layers.gated_mlp import Int8GatedMLP
from services.generator.layers.int8_linear import Int8Linear
from services.generator.layers.likeness import alike, samples
from services.generator.layers.replacement import Int8Error, quantize
from services.generator.layers.rms_norm import RMSNorm
from services.generator.models import LoadedModel

QKV = ("q_proj", "k_proj", "v_proj")


@pytest.fixture(autouse=True)
def _no_gradients() -> Iterator[None]:
    torch.manual_seed(3)
    with torch.inference_mode():
        yield


def test_rows_are_alike_that_differ_by_a_share_of_each_ones_largest_number() -> None:
    rows = samples(20)
    assert alike(rows * 1.009, rows, tolerance=0.01)
    small = torch.where(torch.arange(len(rows))[:, None] == len(rows) - 1, rows * 1.02, rows)
    assert not alike(small, rows, tolerance=0.01)
    assert not alike(rows[:1], rows, tolerance=0.01)
    assert not alike(rows * torch.nan, rows, tolerance=0.01)


def test_a_norm_in_one_pass_is_the_norm() -> None:
    theirs = LlamaRMSNorm(48, eps=1e-5)
    theirs.weight.copy_(torch.randn(48))
    wide = torch.randn(2, 5, 60) * 30
    for rows in (wide[..., :48].contiguous(), wide[..., 7:55]):
        torch.testing.assert_close(RMSNorm(theirs.weight, 1e-5)(rows), theirs(rows))


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
