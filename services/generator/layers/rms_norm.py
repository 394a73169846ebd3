"""RMSNorm in one pass, where transformers' models take six.

Each of those is a call of a library, which for the few tokens of a step costs more than what it
computes.
"""

import numpy as np
import torch
from torch import nn

from services.generator.layers.compiled import FLOAT, ROW, ROWS, Floats, compiled, compiled_for


@compiled
def normalize_row(row: Floats, weight: Floats, epsilon: float, output: Floats) -> None:
    """Normalise a row (width,) into output."""
    squares = np.float32(0)
    for column in range(len(row)):
        squares += row[column] * row[column]
    mean = squares / np.float32(len(row))
    scale = np.float32(1) / np.sqrt(mean + np.float32(epsilon))
    for column in range(len(row)):
        output[column] = row[column] * scale * weight[column]


@compiled_for(ROWS, ROW, FLOAT, ROWS)
def _normalize(rows: Floats, weight: Floats, epsilon: float, output: Floats) -> None:
    for row in range(len(rows)):
        normalize_row(rows[row], weight, epsilon, output[row])


class RMSNorm(nn.Module):
    """Root mean square normalisation (Zhang and Sennrich, 2019) of float32 rows.

    Args:
        weight: Of each column.
        epsilon: Added to the mean of squares.
    """

    def __init__(self, weight: torch.Tensor, epsilon: float) -> None:
        super().__init__()
        self.weight = weight.detach().numpy()
        self.epsilon = epsilon

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Rows (…, width) to rows of the same shape."""
        rows = inputs.reshape(-1, len(self.weight)).contiguous()
        output = torch.empty_like(rows)
        _normalize(rows.numpy(), self.weight, self.epsilon, output.numpy())
        return output.view(inputs.shape)
