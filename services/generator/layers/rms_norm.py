"""RMSNorm in one pass, where transformers' models take six.

Each of those is a call of a library, which for the few tokens of a step costs more than what it
computes.
"""

import numpy as np
import torch
from torch import nn

from services.generator.layers.compiled import FLOAT, ROW, ROWS, Floats, compiled_for


class RMSNorm(nn.Module):
    """Root mean square normalisation (Zhang and Sennrich, 2019) of float32 rows.

    Args:
        weight: Of each column.
        epsilon: Added to the mean of squares.
    """

    def __init__(self, weight: torch.Tensor, epsilon: float) -> None:
        super().__init__()
        self._weight = weight.detach().numpy()
        self._epsilon = epsilon

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Rows (…, width) to rows of the same shape."""
        rows = inputs.reshape(-1, len(self._weight)).contiguous()
        output = torch.empty_like(rows)
        normalize(rows.numpy(), self._weight, self._epsilon, output.numpy())
        return output.view(inputs.shape)


@compiled_for(ROWS, ROW, FLOAT, ROWS)
def normalize(rows: Floats, weight: Floats, epsilon: float, output: Floats) -> None:
    """Normalise rows (n, width) into output, of the same shape."""
    width = rows.shape[1]
    for row in range(rows.shape[0]):
        squares = np.float32(0)
        for column in range(width):
            squares += rows[row, column] * rows[row, column]
        scale = np.float32(1) / np.sqrt(squares / np.float32(width) + epsilon)
        for column in range(width):
            output[row, column] = rows[row, column] * scale * weight[column]
