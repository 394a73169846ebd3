"""Blocks: lent once, shared by what they hold, and all back in the end."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from services.generator.engine.blocks import BlockPool

SIZE = 2


def hold(pool: BlockPool, tokens: list[int]) -> list[int] | None:
    """Blocks for some tokens, as a sequence takes and fills them; None when there are too few."""
    blocks = pool.find(tokens)
    shared = len(blocks)
    while len(blocks) * SIZE < len(tokens):
        block = pool.lend()
        if block is None:
            pool.take_back(blocks)
            return None
        blocks.append(block)
    for row in range(shared, len(tokens) // SIZE):
        pool.seal(blocks, tokens, row)
    return blocks


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.booleans(), st.lists(st.integers(0, 1), min_size=1, max_size=9))),
    st.booleans(),
)
def test_a_block_is_never_held_for_different_tokens(
    events: list[tuple[bool, list[int]]], share: bool
) -> None:
    pool = BlockPool(8, SIZE, share=share)
    held: list[tuple[list[int], list[int]]] = []
    for give_back, tokens in events:
        if give_back and held:
            pool.take_back(held.pop(0)[0])
        elif (blocks := hold(pool, tokens)) is not None:
            held.append((blocks, tokens))
        contents: dict[int, list[int]] = {}
        for blocks, tokens in held:
            assert len(set(blocks)) == len(blocks) == int(np.ceil(len(tokens) / SIZE))
            for row, block in enumerate(blocks):
                before = tokens[: (row + 1) * SIZE]
                assert contents.setdefault(block, before) == before
        assert pool.free == pool.count - len(contents)
    for blocks, _ in held:
        pool.take_back(blocks)
    assert pool.free == pool.count


class TestSharing:
    def test_a_beginning_in_common_is_held_once(self) -> None:
        pool = BlockPool(8, SIZE)
        one, other = hold(pool, [1, 2, 3, 4, 5]), hold(pool, [1, 2, 3, 4, 6, 7])
        assert one
        assert other
        assert one[:2] == other[:2]
        assert pool.free == pool.count - 4

    def test_what_stands_after_other_tokens_is_something_else(self) -> None:
        pool = BlockPool(8, SIZE)
        hold(pool, [1, 2, 3, 4])
        assert pool.find([3, 4]) == []

    def test_what_nobody_holds_is_found_again_until_its_block_is_needed(self) -> None:
        pool = BlockPool(3, SIZE)
        blocks = hold(pool, [1, 2, 3, 4])
        assert blocks
        pool.take_back(blocks)
        assert pool.find([1, 2, 3, 4]) == blocks
        pool.take_back(blocks)
        hold(pool, [5, 6, 7, 8])  # takes the block that holds nothing, and the end of the other
        assert pool.find([1, 2, 3, 4]) == blocks[:1]

    def test_it_can_be_turned_off(self) -> None:
        pool = BlockPool(8, SIZE, share=False)
        hold(pool, [1, 2, 3, 4])
        assert pool.find([1, 2, 3, 4]) == []
