"""Linear layers in eight bits: a quarter of the memory that a step reads.

Weights are rounded once, with a scale for each output; inputs when they come, with a scale for each
token, so that a token's result does not depend on what is computed beside it.
"""

from collections.abc import Iterator, Sequence

import torch
from torch import nn

from services.generator.layers.int8_weights import product
from services.generator.layers.rounding import mixed_weights, round_rows


class Int8Linear(nn.Module):
    """The product with one or more float32 layers' weights, side by side.

    Args:
        layers: Linear layers on a CPU, with inputs of the same width; all have a bias or none.

    Attributes:
        product: Of rows that are rounded.
        biased: Whether there is a bias.
    """

    def __init__(self, layers: Sequence[nn.Linear]) -> None:
        super().__init__()
        weights = torch.cat([layer.weight.detach() for layer in layers])
        biases = [layer.bias.detach() for layer in layers if layer.bias is not None]
        self.biased = bool(biases)
        self.in_features, self.out_features = weights.shape[1], weights.shape[0]
        self.product = product(mixed_weights(weights), torch.cat(biases) if biases else None)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Inputs float32 (…, in_features) to float32 (…, out_features)."""
        rows = inputs.reshape(-1, self.in_features)
        return self.product(*round_rows(rows)).view(*inputs.shape[:-1], self.out_features)


def side_by_side(layers: Sequence[nn.Linear]) -> Iterator[nn.Module]:
    """Layers that stand in for linear ones which are always given the same tensor in turn."""
    shared, begin = _Shared(Int8Linear(layers), len(layers)), 0
    for layer in layers:
        yield Part(shared, begin, begin + layer.out_features)
        begin += layer.out_features


class _Shared:
    """One product of which several layers give a part each.

    It is computed for the first that asks, and forgotten when the last one has asked.
    """

    def __init__(self, linear: Int8Linear, parts: int) -> None:
        self.linear = linear
        self._parts = parts
        self._left = 0
        self._inputs: torch.Tensor | None = None
        self._outputs = torch.empty(0)

    def __call__(self, inputs: torch.Tensor) -> torch.Tensor:
        if inputs is not self._inputs:
            self._inputs, self._left = inputs, self._parts
            self._outputs = self.linear(inputs)
        outputs = self._outputs
        self._left -= 1
        if not self._left:
            self._inputs, self._outputs = None, torch.empty(0)
        return outputs


class Part(nn.Module):
    """Stands in for one of several layers; `linear` is all of them, side by side."""

    def __init__(self, shared: _Shared, begin: int, end: int) -> None:
        super().__init__()
        self.linear = shared.linear  # which makes it one of the model's modules
        self._shared, self._begin, self._end = shared, begin, end

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """As the layer's."""
        return self._shared(inputs)[..., self._begin : self._end]
