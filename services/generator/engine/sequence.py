"""One request in the engine: its tokens, and how many of them the cache holds."""

from dataclasses import dataclass, field
from typing import Generic, TypeVar

Owner = TypeVar("Owner")


@dataclass(slots=True, eq=False)
class Sequence(Generic[Owner]):
    """Tokens that grow at the end.

    Attributes:
        owner: Whose it is.
        tokens: The prompt and what was generated.
        most: How many tokens there may be at all.
        computed: How many of them, from the first on, have keys and values in the cache.
        cached: How many of the prompt were found there when it was first admitted.
        blocks: The cache's blocks that hold them, in order.
        begun: Whether it has been admitted before, so that now it only catches up.
    """

    owner: Owner
    tokens: list[int]
    most: int
    computed: int = 0
    cached: int = 0
    blocks: list[int] = field(default_factory=list)
    begun: bool = False

    @property
    def missing(self) -> int:
        """How many tokens must be computed before the next can be chosen."""
        return len(self.tokens) - self.computed
