"""An engine that batches continuously: in every step each running text gets its next token.

After nano-vllm (GeeeekExplorer, 2025) in its parts: a scheduler and a pool of blocks that know no
tensors, a runner that knows no requests, and this, which brings them together in one thread.
"""

import asyncio
import time
from collections.abc import AsyncGenerator, Callable
from collections.abc import Sequence as Several
from concurrent.futures import Future
from functools import partial
from queue import SimpleQueue
from threading import Thread

import torch

from services.generator.embedding import Vectors
from services.generator.engine.blocks import BlockPool
from services.generator.engine.cache import Span, token_bytes
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
from services.generator.engine.runner import ModelRunner
from services.generator.engine.sampler import Candidates, Choice, choose
from services.generator.engine.scheduler import Chunk, Limits, Scheduler
from services.generator.engine.sequence import Sequence
from services.generator.hidden_states import hidden_states, in_batches
from services.generator.models import LoadedModel

BLOCK_SIZE = 16
"""Tokens of a block; beginnings of prompts are shared in multiples of it."""

_CPU_BYTES = 2**30
_CUDA_SHARE = 0.8

# How long a place is taken to stay taken until that has been measured.
_FIRST_GUESS_S = 1.0
_SMOOTHING = 0.2


class TorchEngine(Engine):
    """Runs a model of transformers in one owned thread.

    Nothing else in the process may compute with torch: once two threads have had workers of OpenMP,
    those of both sleep between steps, and small steps take twice as long.

    Args:
        loaded: The model and its tokenizer; its attention is replaced.
        max_waiting: Requests that may wait beside those that run; one more is refused.
        kv_bytes: Memory for keys and values; by default 1 GiB, or most of what a GPU has left, and
            never more than all that may run can use.
        limits: Bounds of one step.
        share: Whether beginnings that prompts have in common are computed once.
    """

    name = "torch"

    def __init__(
        self,
        loaded: LoadedModel,
        max_waiting: int = 16,
        *,
        kv_bytes: int | None = None,
        limits: Limits | None = None,
        share: bool = True,
    ) -> None:
        self._loaded = loaded
        limits = limits or Limits()
        blocks = _blocks(loaded, kv_bytes, limits)
        self._context = min(loaded.description.context_length, blocks * BLOCK_SIZE)
        self._most = limits.running + max_waiting
        self._metrics = EngineMetrics(loaded.description.name)
        self._jobs: set[Job] = set()
        self._embedding = 0  # calls
        self._closed = False
        self._pace = _Pace()
        self._pool = BlockPool(blocks, BLOCK_SIZE, share=share)
        self._scheduler: Scheduler[_Owner] = Scheduler(self._pool, limits)
        self._runner = ModelRunner(loaded, blocks, BLOCK_SIZE)
        self._arrivals: SimpleQueue[Job | _Pass | None] = SimpleQueue()
        self._thread = Thread(target=self._run, name="model", daemon=True)
        self._thread.start()

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

    async def embed(self, prompts: Several[Several[int]]) -> list[Vectors]:
        """See `Engine.embed`."""
        check_lengths(prompts, self._loaded.description.context_length)
        self._check_room()
        self._embedding += 1
        try:
            return await in_batches(prompts, self._hidden_states)
        finally:
            self._embedding -= 1

    async def close(self) -> None:
        """See `Engine.close`."""
        self._closed = True
        for job in self._jobs:
            job.cancel()
        self._arrivals.put(None)
        await asyncio.to_thread(self._thread.join)

    def _admit(self, request: GenerationRequest) -> Job:
        prompt_tokens = len(request.prompt_ids)
        if prompt_tokens >= self._context:
            raise PromptTooLongError(prompt_tokens, self._context)
        self._check_room()
        job = Job(request, self._loaded, self._metrics)
        self._jobs.add(job)
        self._arrivals.put(job)
        return job

    def _check_room(self) -> None:
        if self._closed:
            raise EngineClosedError
        if len(self._jobs) + self._embedding >= self._most:
            waiting = sum(not job.begun for job in self._jobs)
            raise QueueFullError(waiting, retry_after_s=self._pace.seconds)

    async def _hidden_states(self, prompts: Several[Several[int]]) -> list[Vectors]:
        """Embed a batch; a caller that is cancelled before its turn takes it out of the queue."""
        if self._closed:
            raise EngineClosedError
        run = _Pass(partial(hidden_states, self._loaded.model, prompts))
        self._arrivals.put(run)
        try:
            return await asyncio.wrap_future(run.result)
        except Exception as error:
            raise GenerationError.of(error) from error

    # From here on: the engine's thread.

    def _run(self) -> None:
        closing = False
        while True:
            while not (closing or (len(self._scheduler) and self._arrivals.empty())):
                arrival = self._arrivals.get()
                closing = arrival is None
                if isinstance(arrival, Job):
                    self._scheduler.add(_sequence(arrival, self._context))
                elif arrival is not None:
                    arrival()
                    break  # texts that grow get their next token between two passes
            self._drop_what_is_over()
            self._tell()
            if len(self._scheduler):
                self._step()
            elif closing:
                return

    def _tell(self) -> None:
        metrics, scheduler = self._metrics, self._scheduler
        metrics.running.set(scheduler.running)
        metrics.waiting.set(len(scheduler) - scheduler.running)
        metrics.kv_use.set(1 - self._pool.free / self._pool.count)

    def _drop_what_is_over(self) -> None:
        for sequence in self._scheduler.sequences:
            job = sequence.owner.job
            if job.over():
                self._scheduler.remove(sequence)
                if sequence.begun or job.claim():
                    job.end()

    def _step(self) -> None:
        chunks = [chunk for chunk in self._scheduler.schedule() if self._begin(chunk.sequence)]
        if not chunks:
            return
        try:
            chosen = self._compute(chunks)
        except Exception as error:
            for chunk in chunks:
                self._scheduler.remove(chunk.sequence)
                chunk.sequence.owner.job.fail(error)
            return
        for chunk in chunks:
            self._scheduler.done(chunk)
        for sequence, token in chosen:
            self._append(sequence, token)

    def _begin(self, sequence: "Sequence[_Owner]") -> bool:
        """Note that waiting is over; false when the deadline was first to end it."""
        owner = sequence.owner
        if owner.job.begun:
            return True
        if not owner.job.claim():
            self._scheduler.remove(sequence)
            return False
        owner.job.begin(cached_tokens=sequence.cached)
        self._metrics.prefix_queries.inc(len(sequence.tokens))
        self._metrics.prefix_hits.inc(sequence.cached)
        return True

    def _compute(self, chunks: "Several[Chunk[_Owner]]") -> "list[tuple[Sequence[_Owner], int]]":
        """Run the model, and choose the next token of each sequence that is ready for it."""
        ready = [number for number, chunk in enumerate(chunks) if chunk.last]
        logits = self._runner.run(
            [chunk.sequence.tokens[chunk.begin : chunk.end] for chunk in chunks],
            [Span(chunk.begin, chunk.end, chunk.sequence.blocks) for chunk in chunks],
            ready,
        )
        sequences = [chunks[number].sequence for number in ready]
        tokens = choose(logits, [self._candidates(sequence) for sequence in sequences])
        return list(zip(sequences, tokens, strict=True))

    def _candidates(self, sequence: "Sequence[_Owner]") -> Candidates:
        request = sequence.owner.job.request
        generated = len(sequence.tokens) - len(request.prompt_ids)
        early = generated < request.stopping.min_new_tokens and not request.stopping.ignore_eos
        return Candidates(
            sequence.owner.choice,
            sequence.tokens,
            forbidden=sorted(self._loaded.stop_ids) if early else (),
        )

    def _append(self, sequence: "Sequence[_Owner]", token: int) -> None:
        job = sequence.owner.job
        sequence.tokens.append(token)
        job.put(token)
        if job.over() or job.ended_itself or len(sequence.tokens) == sequence.most:
            self._scheduler.remove(sequence)
            self._pace.note()
            job.end()


class _Pass:
    """A pass of the model for something else than a text, and what comes of it."""

    def __init__(self, work: Callable[[], list[Vectors]]) -> None:
        self.result: Future[list[Vectors]] = Future()
        self._work = work

    def __call__(self) -> None:
        if self.result.set_running_or_notify_cancel():
            try:
                self.result.set_result(self._work())
            except Exception as error:
                self.result.set_exception(error)


class _Owner:
    """Whose a sequence is: its job, and how its tokens are chosen."""

    __slots__ = ("choice", "job")

    def __init__(self, job: Job) -> None:
        self.job = job
        self.choice = Choice(job.request.sampling, job.seed)


class _Pace:
    """How fast texts are finished, as long as there are any.

    Attributes:
        seconds: From the end of one to the end of the next, on average of late.
    """

    def __init__(self) -> None:
        self.seconds = _FIRST_GUESS_S
        self._last = time.monotonic()

    def note(self) -> None:
        """Note that a text is finished."""
        now = time.monotonic()
        self.seconds += _SMOOTHING * (min(now - self._last, _FIRST_GUESS_S) - self.seconds)
        self._last = now


def _sequence(job: Job, context: int) -> Sequence[_Owner]:
    request = job.request
    most = min(context, len(request.prompt_ids) + request.stopping.max_new_tokens)
    return Sequence(_Owner(job), list(request.prompt_ids), most)


def _blocks(loaded: LoadedModel, kv_bytes: int | None, limits: Limits) -> int:
    """How many blocks fit the budget; at least one."""
    model = loaded.model
    if kv_bytes is None:
        cuda = model.device.type == "cuda"
        kv_bytes = int(_CUDA_SHARE * torch.cuda.mem_get_info()[0]) if cuda else _CPU_BYTES
    tokens = min(
        kv_bytes // token_bytes(model.config, model.dtype),
        limits.running * (loaded.description.context_length + BLOCK_SIZE),
    )
    return max(1, tokens // BLOCK_SIZE)
