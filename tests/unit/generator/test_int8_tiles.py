"""What the instructions for tiles compute is what those for vectors do, to the last bit."""

import pytest
import torch

from services.generator.layers import int8_tiles
from services.generator.layers.int8_weights import Product

pytestmark = pytest.mark.skipif(not int8_tiles.AVAILABLE, reason="this CPU has no AMX")

INPUTS, OUTPUTS = 2 * int8_tiles.DEPTH, 70


@pytest.mark.parametrize("count", [9, 15, 16, 17, 31, 32, 33, 48, 49, 63, 64, 65, 100])
def test_many_rows_are_what_each_is_alone(count: int) -> None:
    torch.manual_seed(count)
    weights = torch.randint(-127, 128, (OUTPUTS, INPUTS), dtype=torch.int8)
    product = Product(weights, torch.rand(OUTPUTS), torch.randn(OUTPUTS))
    assert product.weights.tiles
    rows, scales = torch.randint(1, 256, (count, INPUTS), dtype=torch.uint8), torch.rand(count, 1)
    together = product(rows, scales)
    for row in range(count):
        assert torch.equal(product(rows[row, None], scales[row, None])[0], together[row])
    product.weights.tiles = 0
    assert torch.equal(product(rows, scales), together)


def test_rows_that_no_tile_divides_are_computed_by_vectors() -> None:
    product = Product(
        torch.ones(OUTPUTS, INPUTS + 4, dtype=torch.int8), torch.ones(OUTPUTS), torch.zeros(OUTPUTS)
    )
    assert not product.weights.tiles
