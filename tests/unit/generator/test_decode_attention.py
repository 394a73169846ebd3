"""The compiled attention of one token a sequence is torch's."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import scaled_dot_product_attention

from services.generator import openmp
from services.generator.engine.decode_attention import DecodeAttention

pytestmark = pytest.mark.skipif(not openmp.AVAILABLE, reason="torch is built with another OpenMP")

SIZE = 4
SCALE = 0.3


def attended(
    query: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, window: int | None
) -> torch.Tensor:
    """Of one sequence: query (heads, width), keys and values (tokens, heads, width)."""
    begin = 0 if window is None else max(0, len(keys) - window)
    key, value = (each[None, begin:].transpose(1, 2) for each in (keys, values))
    output = scaled_dot_product_attention(
        query[None, :, None], key, value, scale=SCALE, enable_gqa=True
    )
    return output[0, :, 0]


@settings(deadline=None)  # threads that wait for each other are slow on a busy machine
@given(
    lengths=st.lists(st.integers(1, 40), min_size=1, max_size=9),
    heads=st.sampled_from([(1, 1), (4, 4), (6, 2), (9, 3)]),
    width=st.sampled_from([3, 16, 64]),
    window=st.sampled_from([None, 1, 5, 100]),
    others=st.integers(0, 3),
    data=st.data(),
)
def test_each_sequence_attends_to_its_own_tokens(
    lengths: list[int],
    heads: tuple[int, int],
    width: int,
    window: int | None,
    others: int,
    data: st.DataObject,
) -> None:
    torch.manual_seed(data.draw(st.integers(0, 99)))
    count, most = len(lengths), -(-max(lengths) // SIZE)
    blocks = torch.randperm(count * most).view(count, most)
    memory = (torch.randn(count * most, SIZE, heads[1], width) for _ in range(2))
    keys, values = memory
    tokens = count + others
    rows = torch.randperm(tokens)[:count].tolist()
    # As the models give them: parts of one wider product.
    wide = torch.randn(tokens, heads[0] + 2 * heads[1], width)
    query, key, value = torch.split(wide, [heads[0], heads[1], heads[1]], dim=1)
    output = torch.full((tokens, heads[0], width), 7.0)
    DecodeAttention(rows, blocks, lengths)(query, key, value, (keys, values), window, SCALE, output)
    for sequence, (row, length) in enumerate(zip(rows, lengths, strict=True)):
        kept, told = (each[blocks[sequence]].flatten(0, 1)[:length] for each in (keys, values))
        assert torch.equal(kept[-1], key[row])
        assert torch.equal(told[-1], value[row])
        torch.testing.assert_close(output[row], attended(query[row], kept, told, window))
    untouched = [row for row in range(tokens) if row not in rows]
    assert (output[untouched] == 7).all()


def test_numbers_may_lie_anywhere() -> None:
    keys, values = (torch.randn(3, SIZE, 2, 8) for _ in range(2))
    query = torch.randn(8, 2, 2).permute(1, 2, 0)
    key, value = (torch.randn(2, 2, 8).transpose(0, 1) for _ in range(2))
    output = torch.empty(2, 2, 8)
    DecodeAttention([1], torch.tensor([[2]]), [3])(
        query, key, value, (keys, values), None, SCALE, output
    )
    torch.testing.assert_close(output[1], attended(query[1], keys[2, :3], values[2, :3], None))
