"""Which tokens of which sequences are computed next. It knows no torch, and no time."""

from collections import deque
from dataclasses import dataclass
from typing import Generic, NamedTuple, TypeVar

from services.generator.engine.blocks import BlockPool
from services.generator.engine.sequence import Sequence

Owner = TypeVar("Owner")


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of one step.

    Attributes:
        running: Most sequences that take turns.
        tokens: Most tokens computed in a step; a longer prompt is computed in several, so that it
            holds up nobody's next token for long.
        context: How many earlier tokens take as long to attend to as a token takes for all else.
            While others wait for their next token, a step has so many fewer of a prompt's as makes
            up for that. None where attention takes next to nothing.
    """

    running: int = 32
    tokens: int = 256
    context: int | None = None


class Chunk(NamedTuple, Generic[Owner]):
    """Tokens `begin` to `end` of a sequence, to be computed in one step."""

    sequence: Sequence[Owner]
    begin: int
    end: int

    @property
    def size(self) -> int:
        """How many tokens."""
        return self.end - self.begin

    @property
    def last(self) -> bool:
        """Whether the next token can be chosen after it."""
        return self.end == len(self.sequence.tokens)


class Scheduler(Generic[Owner]):
    """First come, first served: sequences that came earlier get their tokens and memory first.

    Every running sequence gets its next token in every step, if a step may have as many tokens;
    what is left of the step goes to prompts, in the order they came. When memory runs out, the
    sequence that came last gives its own back and is computed again later.

    Args:
        pool: The cache's blocks.
        limits: Bounds of one step.
        ahead: Whether the block of a sequence's next token is lent a step early, where one is free,
            so that a runner can go on before it is told which token was chosen.
    """

    def __init__(self, pool: BlockPool, limits: Limits, *, ahead: bool = False) -> None:
        self._pool = pool
        self._limits = limits
        self._ahead = ahead
        self._running: list[Sequence[Owner]] = []
        self._waiting: deque[Sequence[Owner]] = deque()
        self._preempted: list[Sequence[Owner]] = []
        self._hurried = False  # somebody waits for the next token
        self._left = 0.0  # tokens of no context that the step may still have

    def __len__(self) -> int:
        return len(self._running) + len(self._waiting)

    @property
    def running(self) -> int:
        """How many take turns."""
        return len(self._running)

    @property
    def sequences(self) -> list[Sequence[Owner]]:
        """All of them, in the order they are served."""
        return [*self._running, *self._waiting]

    @property
    def preempted(self) -> int:
        """How many lost their memory to others in the last step."""
        return len(self._preempted)

    def add(self, sequence: Sequence[Owner]) -> None:
        """Let a sequence wait for its turn; it must fit into the cache by itself."""
        self._waiting.append(sequence)

    def remove(self, sequence: Sequence[Owner]) -> None:
        """Take a sequence out, if it is still there, and its blocks back."""
        if sequence in self._running:
            self._running.remove(sequence)
            self._give_back(sequence)
        elif sequence in self._waiting:
            self._waiting.remove(sequence)

    def schedule(self) -> list[Chunk[Owner]]:
        """The next step; empty only when there is no sequence."""
        self._preempted = []
        self._left = float(self._limits.tokens)
        # Those with one token missing come first, so that no prompt keeps them waiting.
        growing = [one for one in self._running if one.missing == 1]
        behind = [one for one in self._running if one.missing > 1]
        self._hurried = bool(growing)
        chunks: list[Chunk[Owner]] = []
        for sequence in (*growing, *behind):
            if self._left >= 1 and sequence not in self._preempted:
                chunks += self._chunk(sequence)
        # Who lost its memory in this step is not let in again in the same.
        while self._left >= 1 and not self._preempted and self._admit():
            chunks += self._chunk(self._running[-1])
        if self._preempted:
            chunks = [chunk for chunk in chunks if chunk.sequence not in self._preempted]
        if self._ahead:
            for chunk in chunks:
                self._lend_ahead(chunk)
        return chunks

    def done(self, chunk: Chunk[Owner]) -> None:
        """Note that a chunk has been computed."""
        sequence = chunk.sequence
        sequence.computed = chunk.end
        for number in range(chunk.begin // self._pool.size, chunk.end // self._pool.size):
            self._pool.seal(sequence.blocks, sequence.tokens, number)

    def _price(self, begin: int, size: int) -> float:
        """What a token counts of those that stand behind others."""
        if size == 1 or not self._hurried or self._limits.context is None:
            return 1.0
        return 1.0 + begin / self._limits.context

    def _chunk(self, sequence: Sequence[Owner]) -> list[Chunk[Owner]]:
        """As many of its missing tokens as the step may have, none if there is no memory."""
        price = self._price(sequence.computed, sequence.missing)
        size = min(sequence.missing, max(1, int(self._left / price)))
        end = sequence.computed + size
        while len(sequence.blocks) * self._pool.size < end:
            block = self._pool.lend()
            if block is not None:
                sequence.blocks.append(block)
                continue
            victim = self._running[-1]
            self._preempt(victim)
            if victim is sequence:
                return []
        self._left -= size * price
        return [Chunk(sequence, sequence.computed, end)]

    def _lend_ahead(self, chunk: Chunk[Owner]) -> None:
        """Lend the next token's block, if one is free.

        The next step lends first to those that have their next token computed, and takes back from
        who came last; so nobody gets more or less by it.
        """
        sequence = chunk.sequence
        full = len(sequence.blocks) * self._pool.size == chunk.end
        if full and chunk.last and chunk.end + 1 < sequence.most:
            block = self._pool.lend()
            if block is not None:
                sequence.blocks.append(block)

    def _admit(self) -> bool:
        """Move the first that waits to those that run, if there is one and it finds room now."""
        if not self._waiting or len(self._running) == self._limits.running:
            return False
        sequence = self._waiting[0]
        # The last token is computed in any case, since its result is needed.
        shared = self._pool.find(sequence.tokens[:-1])
        needed = -(-len(sequence.tokens) // self._pool.size) - len(shared)
        if needed > self._pool.free:
            self._pool.take_back(shared)
            return False
        sequence.blocks = shared
        sequence.computed = len(shared) * self._pool.size
        if not sequence.begun:
            sequence.begun, sequence.cached = True, sequence.computed
        self._waiting.popleft()
        self._running.append(sequence)
        return True

    def _preempt(self, sequence: Sequence[Owner]) -> None:
        self._running.remove(sequence)
        self._give_back(sequence)
        self._waiting.appendleft(sequence)
        self._preempted.append(sequence)

    def _give_back(self, sequence: Sequence[Owner]) -> None:
        self._pool.take_back(sequence.blocks)
        sequence.blocks = []
        sequence.computed = 0
