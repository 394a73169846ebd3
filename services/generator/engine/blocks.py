"""Bookkeeping of the KV cache's blocks: who holds which, and which hold the same tokens.

After vLLM's block pool (Kwon et al., 2023, "Efficient memory management for large language model
serving with PagedAttention"), without a tensor: a block is a number.
"""

import itertools
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

_Key = tuple[int | None, tuple[int, ...]]


@dataclass(slots=True)
class _Block:
    """What is known of a block.

    Attributes:
        holders: How many hold it.
        content: Number of the tokens it holds and all before them; None while it is not full.
        key: Under which others find it, where they do.
    """

    holders: int = 0
    content: int | None = None
    key: _Key | None = None


class BlockPool:
    """Lends blocks of `size` tokens each, and finds those that already hold the tokens wanted.

    A block that nobody holds keeps what it holds until it is needed for something else, the one
    that has lain longest first.

    Args:
        count: How many blocks there are.
        size: Tokens that one holds.
        share: Whether blocks are found by what they hold.
    """

    def __init__(self, count: int, size: int, *, share: bool = True) -> None:
        self.size = size
        self.count = count
        self._share = share
        self._blocks = [_Block() for _ in range(count)]
        self._by_key: dict[_Key, int] = {}
        self._contents = itertools.count()
        # Blocks that nobody holds, the next to be lent first.
        self._idle: OrderedDict[int, None] = OrderedDict.fromkeys(range(count))

    @property
    def free(self) -> int:
        """Blocks that nobody holds."""
        return len(self._idle)

    def lend(self) -> int | None:
        """Give a block to a new holder, None when all are held; what it held is forgotten."""
        if not self._idle:
            return None
        number, _ = self._idle.popitem(last=False)
        key = self._blocks[number].key
        if key is not None:
            del self._by_key[key]
        self._blocks[number] = _Block(holders=1)
        return number

    def find(self, tokens: Sequence[int]) -> list[int]:
        """Give, to one more holder, the blocks that hold the longest beginning of these tokens."""
        found: list[int] = []
        content: int | None = None
        for end in range(self.size, len(tokens) + 1, self.size):
            number = self._by_key.get((content, tuple(tokens[end - self.size : end])))
            if number is None:
                break
            content = self._blocks[number].content
            found.append(number)
        for number in found:
            self._idle.pop(number, None)
            self._blocks[number].holders += 1
        return found

    def seal(self, blocks: Sequence[int], tokens: Sequence[int], row: int) -> None:
        """Let others find `blocks[row]`, which now holds all of its part of these tokens."""
        if not self._share:
            return
        before = self._blocks[blocks[row - 1]].content if row else None
        key = (before, tuple(tokens[row * self.size : (row + 1) * self.size]))
        block = self._blocks[blocks[row]]
        if key in self._by_key:  # another computed the same meanwhile
            block.content = self._blocks[self._by_key[key]].content
            return
        block.content, block.key = next(self._contents), key
        self._by_key[key] = blocks[row]

    def take_back(self, blocks: Sequence[int]) -> None:
        """End one holding of each block; of what is kept, the ends are forgotten first."""
        for number in reversed(blocks):
            block = self._blocks[number]
            block.holders -= 1
            if not block.holders:
                self._idle[number] = None
                if block.key is None:
                    self._idle.move_to_end(number, last=False)
