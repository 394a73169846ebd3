"""What engines have in common whose model is run by one owned thread."""

import asyncio
from abc import abstractmethod
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from functools import partial

from services.generator.embedding import Vectors
from services.generator.engine.interface import EngineClosedError, GenerationError, check_lengths
from services.generator.engine.queued import QueuedEngine
from services.generator.hidden_states import BATCH_TOKENS, hidden_states, in_batches
from services.generator.models import LoadedModel

Prompts = Sequence[Sequence[int]]


class ThreadedEngine(QueuedEngine):
    """Hands requests and texts to embed to its thread.

    Args:
        loaded: The model and its tokenizer.
        most: Requests and embeddings that may be there at a time; one more is refused.
        room: Tokens that a prompt and its text may have together.
        pass_tokens: Tokens that texts to embed have together in a pass; a longer text runs alone.
    """

    def __init__(
        self, loaded: LoadedModel, most: int, room: int, pass_tokens: int = BATCH_TOKENS
    ) -> None:
        super().__init__(loaded, most, room)
        self._pass_tokens = pass_tokens
        self._embedding = 0  # calls

    async def embed(self, prompts: Sequence[Sequence[int]]) -> list[Vectors]:
        """See `Engine.embed`."""
        check_lengths(prompts, self._loaded.description.context_length)
        self.check_room()
        self._embedding += 1
        try:
            return await in_batches(prompts, self._hidden_states, self._pass_tokens)
        finally:
            self._embedding -= 1

    async def close(self) -> None:
        """See `Engine.close`."""
        self._closed = True
        for job in self._jobs:
            job.cancel()
        await asyncio.to_thread(self._end_thread)

    @abstractmethod
    def _submit(self, work: Callable[[], list[Vectors]]) -> Future[list[Vectors]]:
        """Let something else wait for the thread; what is cancelled before its turn never runs."""

    def _states(self, prompts: Prompts) -> list[Vectors]:
        """The last hidden states of prompts; in the thread."""
        return hidden_states(self._loaded.model, prompts)

    @abstractmethod
    def _end_thread(self) -> None:
        """Let the thread end what was cancelled, then end it and wait; may be called twice."""

    @property
    def _present(self) -> int:
        return len(self._jobs) + self._embedding

    async def _hidden_states(self, prompts: Sequence[Sequence[int]]) -> list[Vectors]:
        """Embed a batch; a caller that is cancelled before its turn takes it out of the queue."""
        if self._closed:
            raise EngineClosedError
        try:
            return await asyncio.wrap_future(self._submit(partial(self._states, prompts)))
        except Exception as error:
            raise GenerationError.of(error) from error
