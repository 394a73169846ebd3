"""The gated feed-forward layer of Llama and its kin, in eight bits.

What is between its products takes one pass.
"""

from collections.abc import Iterator

import torch
from torch import nn

from services.generator.layers.int8_linear import Int8Linear
from services.generator.layers.int8_product import GATED
from services.generator.layers.rounding import gate_and_round


class Int8GatedMLP(nn.Module):
    """`down(silu(gate(x)) * up(x))` (SwiGLU, Shazeer, 2020) of layers without bias.

    Args:
        gate: Linear layers, as their names say; of a multiple of GATED outputs.
        up: As wide as `gate`.
        down: Back from that width.
    """

    def __init__(self, gate: nn.Linear, up: nn.Linear, down: nn.Linear) -> None:
        super().__init__()
        self.gate_up = Int8Linear(list(_in_turn(gate, up)))
        self.down = Int8Linear([down])

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Inputs float32 (…, width) to float32 of the same shape."""
        both = self.gate_up(inputs.reshape(-1, self.gate_up.in_features))
        return self.down.product(*gate_and_round(both)).view(inputs.shape)


def _in_turn(gate: nn.Linear, up: nn.Linear) -> Iterator[nn.Linear]:
    """Parts of the layers, GATED outputs each: what belongs together is computed together."""
    for begin in range(0, gate.out_features, GATED):
        for layer in (gate, up):
            part = nn.Linear(layer.in_features, GATED, bias=False, device="meta")
            part.weight = nn.Parameter(layer.weight[begin : begin + GATED], requires_grad=False)
            yield part
