"""Linear layers in eight bits: a quarter of the memory that a step reads.

Weights are rounded once, with a scale for each output; inputs when they come, with a scale for each
token, so that a token's result does not depend on what is computed beside it. The product is
oneDNN's, which sums exactly.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import nn

from services.generator.layers.rounding import LARGEST, mixed_weights, round_rows


class Int8Linear(nn.Module):
    """The product with one or more float32 layers' weights, side by side.

    Args:
        layers: Linear layers with inputs of the same width, on a CPU.
    """

    def __init__(self, layers: Sequence[nn.Linear]) -> None:
        super().__init__()
        weights = mixed_weights(torch.cat([layer.weight.detach() for layer in layers]))
        scales = (weights.abs().amax(1) / LARGEST).clamp(min=torch.finfo(torch.float32).tiny)
        rounded = (weights / scales[:, None]).round().to(torch.int8)
        self.in_features, self.out_features = weights.shape[1], weights.shape[0]
        biases = [layer.bias.detach() for layer in layers if layer.bias is not None]
        self._bias = torch.cat(biases) if biases else None
        self._product: Any = torch.ops.onednn.qlinear_pointwise.default
        packed = torch.ops.onednn.qlinear_prepack(rounded, None)
        zeros = torch.zeros(len(scales), dtype=torch.int64)
        self._weights: Any = (packed, scales, zeros, None, 1.0, 0, torch.float32, "none", [], "")

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Inputs float32 (…, in_features) to float32 (…, out_features)."""
        rounded, scales = round_rows(inputs.reshape(-1, self.in_features))
        outputs = self.product(rounded)
        outputs *= scales
        if self._bias is not None:
            outputs += self._bias
        return outputs.view(*inputs.shape[:-1], self.out_features)

    def product(self, rounded: torch.Tensor) -> torch.Tensor:
        """Rows of `round_rows` to float32 (n, out_features), without scales and bias."""
        outputs: torch.Tensor = self._product(rounded, 1.0, 0, *self._weights)
        return outputs


def side_by_side(layers: Sequence[nn.Linear]) -> Iterator[nn.Module]:
    """Layers that stand in for linear ones which are always given the same tensor in turn."""
    product = Int8Linear(layers)
    shared, begin = _Shared(product, len(layers)), 0
    for layer in layers:
        yield _Part(shared, begin, begin + layer.out_features)
        begin += layer.out_features


class _Shared:
    """One product of which several layers give a part each.

    It is computed for the first that asks, and forgotten when the last one has asked.
    """

    def __init__(self, product: Int8Linear, parts: int) -> None:
        self.product = product
        self._parts = parts
        self._left = 0
        self._inputs: torch.Tensor | None = None
        self._outputs = torch.empty(0)

    def __call__(self, inputs: torch.Tensor) -> torch.Tensor:
        if inputs is not self._inputs:
            self._inputs, self._left = inputs, self._parts
            self._outputs = self.product(inputs)
        outputs = self._outputs
        self._left -= 1
        if not self._left:
            self._inputs, self._outputs = None, torch.empty(0)
        return outputs


class _Part(nn.Module):
    def __init__(self, shared: _Shared, begin: int, end: int) -> None:
        super().__init__()
        self.product = shared.product  # which makes it one of the model's modules
        self._shared, self._begin, self._end = shared, begin, end

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return self._shared(inputs)[..., self._begin : self._end]
