"""Whether one layer computes what another does, but for rounding: found out by trying."""

import torch

_SIZES = 4.0 ** torch.arange(2, -4, -1)


def samples(width: int) -> torch.Tensor:
    """Rows to try, float32 (n, width), always the same.

    They are of many sizes: what a layer adds to a large row is lost beside it, and one activation
    is near another for small numbers, or for large ones.
    """
    rows = torch.randn(len(_SIZES), width, generator=torch.Generator().manual_seed(0))
    return rows * _SIZES[:, None]


def alike(given: torch.Tensor, expected: torch.Tensor, tolerance: float) -> bool:
    """Whether rows (…, width) differ by no more than a share of the largest number of each."""
    if given.shape != expected.shape:
        return False
    differences, largest = (given - expected).abs().amax(-1), expected.abs().amax(-1)
    return bool((differences <= tolerance * largest).all())
