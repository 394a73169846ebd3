"""The reference engine: `transformers`' own `generate`, one request after the other.

Every other engine is checked and measured against it. Requests run in the order they come, in one
thread; a seed gives what `transformers.set_seed` followed by a `text-generation` pipeline gives.
Texts to embed run in the same thread, a batch at a time between other requests.
"""

import asyncio
import secrets
import threading
import time
from collections.abc import AsyncGenerator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import torch
from transformers.generation.stopping_criteria import StoppingCriteria, StoppingCriteriaList

from services.generator.detokenizer import Detokenizer
from services.generator.embedding import Vectors
from services.generator.engine.interface import (
    Delta,
    Engine,
    EngineClosedError,
    Event,
    Finished,
    FinishReason,
    GenerationError,
    GenerationRequest,
    PromptTooLongError,
    QueueFullError,
    Sampling,
    Started,
    check_lengths,
)
from services.generator.hidden_states import batches, hidden_states
from services.generator.models import LoadedModel

# How long a request is taken to last until one has been measured.
_FIRST_GUESS_S = 5.0


class ReferenceEngine(Engine):
    """Runs `generate` in one owned thread.

    Args:
        loaded: The model and its tokenizer.
        max_waiting: Requests that may wait; one more is refused.
    """

    name = "reference"

    def __init__(self, loaded: LoadedModel, max_waiting: int = 16) -> None:
        self._loaded = loaded
        self._max_waiting = max_waiting
        self._jobs: set[_Job] = set()
        self._embedding = 0  # calls
        self._closed = False
        self._usual_s = _FIRST_GUESS_S
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="model")

    async def generate(self, request: GenerationRequest) -> AsyncGenerator[Event, None]:
        """See `Engine.generate`."""
        job = self._admit(request)
        self._thread.submit(self._run, job)
        try:
            yield Started(len(request.prompt_ids))
            event: Delta | Finished | GenerationError | None = None
            while not isinstance(event, Finished):
                event = await job.events.get()
                if isinstance(event, GenerationError):
                    raise event
                yield event
        finally:
            job.leave()
            self._jobs.discard(job)

    async def embed(self, prompts: Sequence[Sequence[int]]) -> list[Vectors]:
        """See `Engine.embed`."""
        check_lengths(prompts, self._loaded.description.context_length)
        self._check_room()
        states: dict[int, Vectors] = {}
        self._embedding += 1
        try:
            for places in batches([len(prompt) for prompt in prompts]):
                batch = await self._hidden_states([prompts[place] for place in places])
                states.update(zip(places, batch, strict=True))
        finally:
            self._embedding -= 1
        return [states[place] for place in range(len(prompts))]

    async def close(self) -> None:
        """See `Engine.close`."""
        self._closed = True
        for job in self._jobs:
            job.cancel()
        await asyncio.to_thread(self._thread.shutdown)

    def _admit(self, request: GenerationRequest) -> "_Job":
        prompt_tokens = len(request.prompt_ids)
        context_length = self._loaded.description.context_length
        if prompt_tokens >= context_length:
            raise PromptTooLongError(prompt_tokens, context_length)
        self._check_room()
        job = _Job(request, self._loaded)
        self._jobs.add(job)
        return job

    def _check_room(self) -> None:
        if self._closed:
            raise EngineClosedError
        waiting = len(self._jobs) + self._embedding - 1  # one of them runs
        if waiting >= self._max_waiting:
            raise QueueFullError(waiting, retry_after_s=self._usual_s)

    async def _hidden_states(self, prompts: Sequence[Sequence[int]]) -> list[Vectors]:
        """Embed a batch; a caller that is cancelled before its turn takes it out of the queue."""
        if self._closed:
            raise EngineClosedError
        work = partial(hidden_states, self._loaded.model, prompts)
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, work)
        except Exception as error:
            raise _failure(error) from error

    def _run(self, job: "_Job") -> None:
        """Generate one text; in the engine's thread."""
        if not job.claim():
            return  # its deadline came while it waited
        try:
            if not job.over():
                self._generate(job)
                self._usual_s += 0.2 * (job.running_s() - self._usual_s)
        except Exception as error:
            job.fail(error)
        else:
            job.end()

    def _generate(self, job: "_Job") -> None:
        job.begin()
        model = self._loaded.model
        prompt = torch.tensor([job.request.prompt_ids], device=model.device)
        if job.seed is not None:
            torch.manual_seed(job.seed)  # `set_seed` fails beyond 32 bits, numpy's limit
        with torch.inference_mode():
            model.generate(
                prompt,
                attention_mask=torch.ones_like(prompt),
                stopping_criteria=StoppingCriteriaList([_Step(job)]),
                **_arguments(job.request, self._loaded),
            )


class _Job:
    """One request on its way through the engine: what the thread makes and the loop reads."""

    def __init__(self, request: GenerationRequest, loaded: LoadedModel) -> None:
        self.request = request
        self.events: asyncio.Queue[Delta | Finished | GenerationError] = asyncio.Queue()
        self.seed = _seed(request.sampling)
        self._loop = asyncio.get_running_loop()
        self._stop_ids = loaded.stop_ids
        self._detokenizer = Detokenizer(loaded.tokenizer, request.stopping.stop)
        self._cancelled = threading.Event()
        self._claim = threading.Lock()
        self._expired = False
        self._unsent: list[int] = []
        self._generated = 0
        self._last_id = -1
        self._arrived = time.monotonic()
        self._begun: float | None = None
        self._first: float | None = None
        self._expiry = self._expire_in_time()

    def claim(self) -> bool:
        """Become the one who ends the job: the engine's thread, or the deadline if it is first."""
        return self._claim.acquire(blocking=False)

    def leave(self) -> None:
        """Nobody reads the events any more."""
        self.cancel()
        if self._expiry:
            self._expiry.cancel()

    def cancel(self) -> None:
        """Stop the model before its next step."""
        self._cancelled.set()

    def over(self) -> bool:
        """Whether the text must end now, whatever the model says."""
        deadline = self.request.deadline
        self._expired = deadline is not None and time.monotonic() >= deadline
        stopped = self._detokenizer.matched is not None
        return stopped or self._expired or self._cancelled.is_set()

    def begin(self) -> None:
        """Note that waiting is over."""
        self._begun = time.monotonic()

    def running_s(self) -> float:
        """Seconds since waiting was over."""
        return time.monotonic() - (self._begun or self._arrived)

    def put(self, token_id: int) -> None:
        """Take a generated token."""
        if self._first is None:
            self._first = time.monotonic()
        self._generated += 1
        self._last_id = token_id
        self._unsent.append(token_id)
        text = "" if self._ended_itself() else self._detokenizer.push(token_id)
        if text:
            self._send(text)

    def end(self) -> None:
        """Send what was held back, and how the text ended."""
        self._release()
        self._emit(self._finished())

    def fail(self, error: Exception) -> None:
        """Send what was held back, and that the model failed."""
        self._release()
        failure = _failure(error)
        failure.__cause__ = error
        self._emit(failure)

    def _expire_in_time(self) -> asyncio.TimerHandle | None:
        if self.request.deadline is None:
            return None
        left = max(0.0, self.request.deadline - time.monotonic())
        return self._loop.call_later(left, self._expire_waiting)

    def _expire_waiting(self) -> None:
        if self.claim():
            self._expired = True
            self.end()

    def _release(self) -> None:
        text = self._detokenizer.flush()
        if text or self._unsent:
            self._send(text)

    def _finished(self) -> Finished:
        now = time.monotonic()
        return Finished(
            reason=self._reason(),
            prompt_tokens=len(self.request.prompt_ids),
            generated_tokens=self._generated,
            total_s=now - self._arrived,
            queued_s=(self._begun or now) - self._arrived,
            first_token_s=None if self._first is None else self._first - self._arrived,
            stop=self._detokenizer.matched,
            seed=self.seed,
        )

    def _reason(self) -> FinishReason:
        if self._detokenizer.matched is not None:
            return FinishReason.STOP_STRING
        if self._ended_itself():
            return FinishReason.END_OF_SEQUENCE
        if self._cancelled.is_set():
            return FinishReason.CANCELLED
        return FinishReason.DEADLINE if self._expired else FinishReason.LENGTH

    def _ended_itself(self) -> bool:
        return self._last_id in self._stop_ids and not self.request.stopping.ignore_eos

    def _send(self, text: str) -> None:
        self._emit(Delta(text, tuple(self._unsent)))
        self._unsent.clear()

    def _emit(self, event: Delta | Finished | GenerationError) -> None:
        self._loop.call_soon_threadsafe(self.events.put_nowait, event)


class _Step(StoppingCriteria):
    """Hands each token to the job and ends the text when the job says so.

    A streamer would get the token only after this question has been asked, so that a stop string
    would be seen one step too late.
    """

    def __init__(self, job: _Job) -> None:
        self._job = job

    def __call__(self, input_ids: Any, scores: Any, **kwargs: Any) -> Any:
        self._job.put(int(input_ids[0, -1]))
        return torch.full((1,), self._job.over(), device=input_ids.device, dtype=torch.bool)


def _failure(error: Exception) -> GenerationError:
    return GenerationError(f"the model failed: {type(error).__name__}")


def _seed(sampling: Sampling) -> int | None:
    """The seed in effect; one is drawn when sampling is on and none was given."""
    if not sampling.do_sample:
        return None
    return secrets.randbits(32) if sampling.seed is None else sampling.seed


def _arguments(request: GenerationRequest, loaded: LoadedModel) -> dict[str, Any]:
    """The request in the words of `generate`."""
    sampling, stopping = request.sampling, request.stopping
    room = loaded.description.context_length - len(request.prompt_ids)
    arguments: dict[str, Any] = {
        "max_new_tokens": min(stopping.max_new_tokens, room),
        "min_new_tokens": min(stopping.min_new_tokens, room) or None,
        "do_sample": sampling.do_sample,
        "repetition_penalty": sampling.repetition_penalty,
        "eos_token_id": None if stopping.ignore_eos else sorted(loaded.stop_ids),
        "pad_token_id": min(loaded.stop_ids, default=0),
    }
    if sampling.do_sample:
        arguments |= {
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "top_k": sampling.top_k,
            "min_p": sampling.min_p or None,
        }
    return arguments
