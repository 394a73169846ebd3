"""Weights of linear layers in eight bits, and their product with rows in eight bits."""

from typing import Any, Protocol

import torch
from torch.nn.functional import pad

from services.generator import openmp
from services.generator.layers import simd
from services.generator.layers.int8_product import (
    OFFSET,
    OUTPUTS,
    WORD,
    Int8Weights,
    ProductCall,
    multiply,
    packed,
)
from services.generator.layers.rounding import LARGEST


class Product(Protocol):
    """A product with rounded weights; what sums is exact."""

    def __call__(self, rows: torch.Tensor, scales: torch.Tensor) -> torch.Tensor:
        """Rows and scales of `round_rows` to float32 (n, outputs), scaled, with the bias added."""


def product(weights: torch.Tensor, bias: torch.Tensor | None) -> Product:
    """Round weights, float32 (outputs, inputs), with a scale for each output.

    The product is the fastest that this machine has for few rows.
    """
    scales = (weights.abs().amax(1) / LARGEST).clamp(min=torch.finfo(torch.float32).tiny)
    rounded = (weights / scales[:, None]).round().to(torch.int8)
    bias = torch.zeros(len(weights)) if bias is None else bias.float()
    ours = simd.VNNI and weights.shape[1] % WORD == 0
    return (VnniProduct if ours else OnednnProduct)(rounded, scales, bias)


class VnniProduct:
    """By `int8_product`.

    Args:
        weights: int8 (outputs, inputs), of a multiple of WORD inputs.
        scales: float32 (outputs,).
        bias: As `scales`.

    Attributes:
        weights: For compiled loops.
    """

    def __init__(self, weights: torch.Tensor, scales: torch.Tensor, bias: torch.Tensor) -> None:
        self._outputs = len(weights)
        padding = -self._outputs % OUTPUTS
        offsets = OFFSET * weights.sum(1, dtype=torch.int32)
        self._owned = (
            packed(weights),
            *(pad(each, (0, padding)) for each in (offsets, scales, bias)),
        )
        groups, words = self._owned[0].shape[:2]
        self.weights = Int8Weights(*(each.data_ptr() for each in self._owned), words, groups)

    def __call__(self, rows: torch.Tensor, scales: torch.Tensor) -> torch.Tensor:
        """See `Product`."""
        count, weights = len(rows), self.weights
        # Rows a power of two apart would have to share the same few lines of the CPU's cache.
        output = torch.empty(count, OUTPUTS * weights.groups + simd.LANES)
        addresses = rows.data_ptr(), scales.data_ptr(), output.data_ptr()
        call = ProductCall(weights, count, *addresses, 4 * output.shape[1])
        openmp.run(multiply, call, weights.groups if count else 0)
        return output[:, : self._outputs]


class OnednnProduct:
    """By oneDNN, which torch brings; see `VnniProduct`."""

    def __init__(self, weights: torch.Tensor, scales: torch.Tensor, bias: torch.Tensor) -> None:
        self._bias = bias
        self._product: Any = torch.ops.onednn.qlinear_pointwise.default
        prepacked = torch.ops.onednn.qlinear_prepack(weights, None)
        zeros = torch.zeros(len(scales), dtype=torch.int64)
        self._weights: Any = (prepacked, scales, zeros, None, 1.0, 0, torch.float32, "none", [], "")

    def __call__(self, rows: torch.Tensor, scales: torch.Tensor) -> torch.Tensor:
        """See `Product`."""
        outputs: torch.Tensor = self._product(rows, 1.0, OFFSET, *self._weights)
        outputs *= scales
        outputs += self._bias
        return outputs
