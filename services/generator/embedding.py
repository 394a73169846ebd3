"""From the vectors of a text's tokens to the vector of the text."""

import enum

import numpy as np
import numpy.typing as npt

Vectors = npt.NDArray[np.float32]


class Pooling(enum.Enum):
    """How the vectors of tokens become one."""

    MEAN = enum.auto()
    LAST = enum.auto()


def pool(states: Vectors, pooling: Pooling, *, normalize: bool) -> Vectors:
    """Make one vector of many.

    Args:
        states: The vectors of at least one token, (tokens, dimension).
        pooling: `MEAN` weighs all alike; `LAST` takes the last, the only one of a causal model that
            has seen the whole text.
        normalize: Scale to length 1. A vector of zeros, which has no direction, stays.

    Returns:
        The text's vector, (dimension,).
    """
    wide = (states if pooling is Pooling.MEAN else states[-1:]).mean(axis=0, dtype=np.float64)
    length = np.linalg.norm(wide) if normalize else 1.0
    vector: Vectors = (wide / (length or 1.0)).astype(np.float32)
    return vector
