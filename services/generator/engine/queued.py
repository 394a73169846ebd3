"""What engines have in common: who is admitted, and how what becomes of a request is streamed."""

import time
from abc import abstractmethod
from collections.abc import AsyncGenerator

from services.generator.engine.interface import (
    Engine,
    EngineClosedError,
    Event,
    GenerationRequest,
    PromptTooLongError,
    QueueFullError,
    Started,
)
from services.generator.engine.job import Job, Mailbox
from services.generator.engine.metrics import EngineMetrics
from services.generator.models import LoadedModel

_LONGEST_DELAY_S = 30.0


class QueuedEngine(Engine):
    """Admits requests, hands them to whatever runs the model, and streams what it makes of them.

    Args:
        loaded: The model and its tokenizer.
        most: Requests that may be there at a time; one more is refused.
        room: Tokens that a prompt and its text may have together.
    """

    def __init__(self, loaded: LoadedModel, most: int, room: int) -> None:
        self._loaded = loaded
        self.room = room
        self._metrics = EngineMetrics(loaded.description.name)
        self._most = most
        self._jobs: set[Job] = set()
        self._closed = False
        self._next_try = 0.0  # when the one who was refused last may come again
        self._mailbox: Mailbox | None = None  # made on the loop

    async def generate(self, request: GenerationRequest) -> AsyncGenerator[Event, None]:
        """See `Engine.generate`."""
        job = self._admit(request)
        try:
            yield Started(len(request.prompt_ids))
            async for event in job.stream():
                yield event
        finally:
            self._jobs.discard(job)
            self._leave(job)

    def check_room(self) -> None:
        """See `Engine.check_room`."""
        if self._closed:
            raise EngineClosedError
        if self._present >= self._most:
            waiting = sum(not job.begun for job in self._jobs)
            raise QueueFullError(waiting, self._delay_s())

    @abstractmethod
    def _begin(self, job: Job) -> None:
        """Let a job wait for the model."""

    @abstractmethod
    def _place_every_s(self) -> float:
        """Seconds from one free place to the next, on average of late."""

    def _leave(self, job: Job) -> None:
        """Nobody reads the job's events any more, whether or not it has ended."""
        job.leave()

    @property
    def _present(self) -> int:
        """How many are there."""
        return len(self._jobs)

    def _admit(self, request: GenerationRequest) -> Job:
        if len(request.prompt_ids) >= self.room:
            raise PromptTooLongError(len(request.prompt_ids), self.room)
        self.check_room()
        self._mailbox = self._mailbox or Mailbox()
        job = Job(request, self._loaded, self._metrics, self._mailbox)
        self._jobs.add(job)
        self._begin(job)
        return job

    def _delay_s(self) -> float:
        """How long one more who is refused should stay away.

        Each is given the next place that is likely to be free. Told the same time, all would come
        back together, nearly all in vain, and take from the model the time to refuse them.
        """
        now = time.monotonic()
        following = max(now, self._next_try) + self._place_every_s()
        self._next_try = min(following, now + _LONGEST_DELAY_S)
        return self._next_try - now
