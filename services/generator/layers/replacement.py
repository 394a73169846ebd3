"""Which layers of a model are replaced."""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import nn

from services.generator import openmp
from services.generator.layers.gated_mlp import Int8GatedMLP
from services.generator.layers.int8_linear import Int8Linear, side_by_side
from services.generator.layers.int8_product import GATED
from services.generator.layers.likeness import alike, samples
from services.generator.layers.rms_norm import RMSNorm

INT8 = "int8"
"""The type of a model whose linear layers are in eight bits."""

# Layers that transformers' attention gives the same input.
_SIBLINGS = ("q_proj", "k_proj", "v_proj")


class Int8Error(Exception):
    """The model cannot be computed in eight bits here."""

    def __init__(self) -> None:
        super().__init__(
            "int8 is for models on a CPU; choose another type with --dtype, such as float32"
        )


def quantize(model: nn.Module) -> None:
    """Round the linear layers of a float32 model to eight bits, and speed up what is between them.

    Raises:
        Int8Error: the model is not on a CPU.
    """
    if any(weight.device.type != "cpu" for weight in model.parameters()):
        raise Int8Error
    with openmp.one_thread():
        _replace(model)


def _replace(parent: nn.Module) -> None:
    for name, layer in _replacements(parent):
        setattr(parent, name, layer)
    for child in parent.children():
        _replace(child)


def _replacements(parent: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    children: dict[str, Any] = dict(parent.named_children())
    if _alike([children.get(name) for name in _SIBLINGS]):
        layers = side_by_side([children.pop(name) for name in _SIBLINGS])
        yield from zip(_SIBLINGS, layers, strict=True)
    for name, child in children.items():
        if layer := _replacement(child):
            yield name, layer


def _alike(layers: Sequence[Any]) -> bool:
    """Whether these can be computed side by side."""
    if any(type(layer) is not nn.Linear for layer in layers):
        return False
    return len({(layer.in_features, layer.bias is None) for layer in layers}) == 1


def _replacement(layer: nn.Module) -> nn.Module | None:
    if type(layer) is nn.Linear:
        return Int8Linear([layer])
    if type(layer).__name__.endswith("RMSNorm"):
        return _norm(layer)
    if type(layer).__name__.endswith("MLP"):
        return _mlp(layer)
    return None


def _norm(layer: Any) -> RMSNorm | None:
    """One that computes the same, if there is: some models add 1 to the weights."""
    epsilon = getattr(layer, "variance_epsilon", getattr(layer, "eps", None))
    if epsilon is None or getattr(layer, "weight", None) is None:
        return None
    norm = RMSNorm(layer.weight, epsilon)
    return norm if _same(norm, layer, len(layer.weight), tolerance=1e-5) else None


def _mlp(layer: Any) -> Int8GatedMLP | None:
    """One that computes the same but for rounding, if there is."""
    names = ("gate_proj", "up_proj", "down_proj")
    parts: list[Any] = [getattr(layer, name, None) for name in names]
    if any(type(part) is not nn.Linear or part.bias is not None for part in parts):
        return None
    if parts[0].out_features % GATED:
        return None
    mlp = Int8GatedMLP(*parts)
    return mlp if _same(mlp, layer, parts[0].in_features, tolerance=0.1) else None


def _same(ours: nn.Module, theirs: nn.Module, width: int, *, tolerance: float) -> bool:
    rows = samples(width)
    with torch.inference_mode():
        return alike(ours(rows), theirs(rows), tolerance)
