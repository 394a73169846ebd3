"""Weights of linear layers in eight bits, and their product with rows in eight bits."""

import torch
from torch.nn.functional import pad

from services.generator import openmp
from services.generator.layers import int8_tiles, simd
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


def product(weights: torch.Tensor, bias: torch.Tensor | None) -> "Product":
    """Round weights, float32 (outputs, inputs), with a scale for each output."""
    scales = (weights.abs().amax(1) / LARGEST).clamp(min=torch.finfo(torch.float32).tiny)
    rounded = (weights / scales[:, None]).round().to(torch.int8)
    return Product(rounded, scales, torch.zeros(len(weights)) if bias is None else bias.float())


class Product:
    """A product with rounded weights: what sums is exact, up to 133,000 inputs.

    Args:
        weights: int8 (outputs, inputs), none of which is -128.
        scales: float32 (outputs,).
        bias: As `scales`.

    Attributes:
        weights: For compiled loops, while this lives.
    """

    def __init__(self, weights: torch.Tensor, scales: torch.Tensor, bias: torch.Tensor) -> None:
        self._outputs = len(weights)
        self._padding = -weights.shape[1] % WORD
        offsets = OFFSET * weights.sum(1, dtype=torch.int32)
        more = -self._outputs % OUTPUTS
        self._owned = (
            packed(pad(weights, (0, self._padding))),
            *(pad(each, (0, more)) for each in (offsets, scales, bias)),
        )
        groups, words = self._owned[0].shape[:2]
        addresses = (each.data_ptr() for each in self._owned)
        tiles = int8_tiles.AVAILABLE and words * WORD % int8_tiles.DEPTH == 0
        self.weights = Int8Weights(*addresses, words, groups, tiles)
        self._memory: torch.Tensor | None = None

    def keep_memory(self) -> None:
        """From now on write results where the last one was, which is lost.

        For large ones: the system would have to clear new memory each time.
        """
        self._memory = self._new(0)

    def __call__(self, rows: torch.Tensor, scales: torch.Tensor) -> torch.Tensor:
        """Rows and scales of `round_rows` to float32 (n, outputs), scaled, with the bias added."""
        count, weights = len(rows), self.weights
        if self._padding:
            rows = pad(rows, (0, self._padding))
        output = self.output(count)
        addresses = rows.data_ptr(), scales.data_ptr(), output.data_ptr()
        call = ProductCall(weights, count, *addresses, 4 * output.shape[1])
        openmp.run(multiply, call, weights.groups if count else 0)
        return output[:, : self._outputs]

    def output(self, count: int) -> torch.Tensor:
        """Memory for the results of some rows, and what is behind each: float32 (count, …)."""
        if self._memory is None:
            return self._new(count)
        if len(self._memory) < count:
            self._memory = self._new(count)
        return self._memory[:count]

    def _new(self, count: int) -> torch.Tensor:
        # Rows a power of two apart would have to share the same few lines of the CPU's cache.
        return torch.empty(count, OUTPUTS * self.weights.groups + simd.LANES)
