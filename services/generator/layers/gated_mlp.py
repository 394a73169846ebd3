"""The gated feed-forward layer of Llama and its kin, in eight bits.

What is between its products takes one pass.
"""

import torch
from torch import nn

from services.generator.layers.int8_linear import Int8Linear
from services.generator.layers.rounding import gate_and_round


class Int8GatedMLP(nn.Module):
    """`down(silu(gate(x)) * up(x))` (SwiGLU, Shazeer, 2020) of layers without bias.

    Args:
        gate: Linear layers, as their names say.
        up: As wide as `gate`.
        down: Back from that width.
    """

    def __init__(self, gate: nn.Linear, up: nn.Linear, down: nn.Linear) -> None:
        super().__init__()
        self.gate_up = Int8Linear([gate, up])
        self.down = Int8Linear([down])

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Inputs float32 (…, width) to float32 of the same shape."""
        both = self.gate_up(inputs.reshape(-1, self.gate_up.in_features))
        return self.down.product(*gate_and_round(both)).view(inputs.shape)
