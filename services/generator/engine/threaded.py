"""What engines have in common whose model is run by one owned thread."""

import asyncio
from abc import abstractmethod
from collections.abc import AsyncGenerator, Callable, Sequence
from concurrent.futures import Future
from functools import partial

from services.generator.embedding import Vectors
from services.generator.engine.interface import (
    Engine,
    EngineClosedError,
    Event,
    GenerationError,
    GenerationRequest,
    PromptTooLongError,
    QueueFullError,
    Started,
    check_lengths,
)
from services.generator.engine.job import Job
from services.generator.engine.metrics import EngineMetrics
from services.generator.hidden_states import BATCH_TOKENS, hidden_states, in_batches
from services.generator.models import LoadedModel


class ThreadedEngine(Engine):
    """Admits requests, hands them to the thread, and streams what it makes of them.

    Args:
        loaded: The model and its tokenizer.
        most: Requests and embeddings that may be there at a time; one more is refused.
        room: Tokens that a prompt and its text may have together.
        pass_tokens: Tokens that texts to embed have together in a pass; a longer text runs alone.
    """

    def __init__(
        self, loaded: LoadedModel, most: int, room: int, pass_tokens: int = BATCH_TOKENS
    ) -> None:
        self._loaded = loaded
        self.room = room
        self._metrics = EngineMetrics(loaded.description.name)
        self._most = most
        self._pass_tokens = pass_tokens
        self._jobs: set[Job] = set()
        self._embedding = 0  # calls
        self._closed = False

    async def generate(self, request: GenerationRequest) -> AsyncGenerator[Event, None]:
        """See `Engine.generate`."""
        job = self._admit(request)
        try:
            yield Started(len(request.prompt_ids))
            async for event in job.stream():
                yield event
        finally:
            job.leave()
            self._jobs.discard(job)

    async def embed(self, prompts: Sequence[Sequence[int]]) -> list[Vectors]:
        """See `Engine.embed`."""
        check_lengths(prompts, self._loaded.description.context_length)
        self._check_room()
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
    def _begin(self, job: Job) -> None:
        """Let a job wait for the thread."""

    @abstractmethod
    def _submit(self, work: Callable[[], list[Vectors]]) -> Future[list[Vectors]]:
        """Let something else wait for the thread; what is cancelled before its turn never runs."""

    @abstractmethod
    def _retry_after_s(self) -> float:
        """Seconds until a place is likely to be free."""

    @abstractmethod
    def _end_thread(self) -> None:
        """Let the thread end what was cancelled, then end it and wait; may be called twice."""

    def _admit(self, request: GenerationRequest) -> Job:
        if len(request.prompt_ids) >= self.room:
            raise PromptTooLongError(len(request.prompt_ids), self.room)
        self._check_room()
        job = Job(request, self._loaded, self._metrics)
        self._jobs.add(job)
        self._begin(job)
        return job

    def _check_room(self) -> None:
        if self._closed:
            raise EngineClosedError
        if len(self._jobs) + self._embedding >= self._most:
            waiting = sum(not job.begun for job in self._jobs)
            raise QueueFullError(waiting, self._retry_after_s())

    async def _hidden_states(self, prompts: Sequence[Sequence[int]]) -> list[Vectors]:
        """Embed a batch; a caller that is cancelled before its turn takes it out of the queue."""
        if self._closed:
            raise EngineClosedError
        work = partial(hidden_states, self._loaded.model, prompts)
        try:
            return await asyncio.wrap_future(self._submit(work))
        except Exception as error:
            raise GenerationError.of(error) from error
