"""One request on its way through an engine."""

import asyncio
import secrets
import threading
import time
from collections.abc import AsyncGenerator

from services.generator.detokenizer import Detokenizer
from services.generator.engine.interface import (
    Delta,
    Finished,
    FinishReason,
    GenerationError,
    GenerationRequest,
    Logprobs,
    Sampling,
)
from services.generator.engine.metrics import EngineMetrics
from services.generator.models import LoadedModel

# Tokens may say nothing, as those that end a text do when their end is ignored. They are sent all
# the same before there are so many that a message could not hold what is told of them.
_MOST_UNSENT = 64

Message = Delta | Finished | GenerationError


class Mailbox:
    """Carries messages from an engine's thread to an event loop.

    Those of one step go together: to wake the loop costs more than what a message costs.
    """

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._lock = threading.Lock()
        self._messages: list[tuple[asyncio.Queue[Message], Message]] = []

    def send(self, queue: asyncio.Queue[Message], message: Message) -> None:
        """Put a message into a queue of the loop; in any thread."""
        with self._lock:
            first = not self._messages
            self._messages.append((queue, message))
        if first:
            self._loop.call_soon_threadsafe(self._deliver)

    def _deliver(self) -> None:
        with self._lock:
            messages, self._messages = self._messages, []
        for queue, message in messages:
            queue.put_nowait(message)


class Job:
    """What an engine makes of a request, and the event loop reads.

    It is made on the loop. All that is not said to be for the loop is for the engine's thread, or
    for the loop too where the engine has none.

    Its deadline ends it on the loop, with what there is by then: a step of the model may take
    longer than the client still waits. What the engine does with it afterwards changes nothing.
    """

    def __init__(
        self,
        request: GenerationRequest,
        loaded: LoadedModel,
        metrics: EngineMetrics,
        mailbox: Mailbox,
    ) -> None:
        self.request = request
        self._mailbox = mailbox
        self._messages: asyncio.Queue[Message] = asyncio.Queue()
        self.seed = _seed(request.sampling)
        self._metrics = metrics
        self._stop_ids = loaded.stop_ids
        self._detokenizer = Detokenizer(loaded.tokenizer, request.stopping.stop)
        self._cancelled = threading.Event()
        self._lock = threading.Lock()  # of the text: the loop may end what the engine adds to
        self._ended = False
        self._expired = False
        self._unsent: list[int] = []
        self._unsent_logprobs: list[Logprobs] = []
        self._generated = 0
        self._last_id = -1
        self._arrived = time.monotonic()
        self._begun: float | None = None
        self._first: float | None = None
        self._latest = self._arrived
        self._cached_tokens = 0
        self._expiry = self._expire_in_time()

    def leave(self) -> None:
        """Nobody reads the events any more."""
        self.cancel()
        if self._expiry:
            self._expiry.cancel()

    def cancel(self) -> None:
        """Stop the model before its next step."""
        self._cancelled.set()

    def over(self) -> bool:
        """Whether the text has ended or must end now, whatever the model says."""
        deadline = self.request.deadline
        if deadline is not None and time.monotonic() >= deadline:
            self._expired = True
        stopped = self._detokenizer.matched is not None
        return self._ended or stopped or self._expired or self._cancelled.is_set()

    async def stream(self) -> AsyncGenerator[Delta | Finished, None]:
        """What comes, to the end; for the loop. Raises GenerationError where the model failed."""
        while True:
            event = await self._messages.get()
            if isinstance(event, GenerationError):
                raise event
            yield event
            if isinstance(event, Finished):
                return

    @property
    def begun(self) -> bool:
        """Whether waiting is over."""
        return self._begun is not None

    @property
    def ended_itself(self) -> bool:
        """Whether the model ended the text."""
        return self._last_id in self._stop_ids and not self.request.stopping.ignore_eos

    def begin(self, cached_tokens: int = 0, at: float | None = None) -> None:
        """Note that waiting is over, and how much of the prompt need not be computed.

        Args:
            cached_tokens: Tokens of the prompt whose keys and values were there.
            at: When it was over, a time of `time.monotonic()`; now by default.
        """
        self._begun = time.monotonic() if at is None else at
        self._cached_tokens = cached_tokens

    def running_s(self) -> float:
        """Seconds since waiting was over."""
        return time.monotonic() - (self._begun or self._arrived)

    def put(self, token_id: int, logprobs: Logprobs | None = None) -> None:
        """Take a generated token, and how likely it was if the request asks for that."""
        with self._lock:
            if not self._ended:
                self._take(token_id, logprobs)

    def end(self) -> None:
        """Send what was held back, and how the text ended, if it had not."""
        self._end(None)

    def fail(self, error: Exception) -> None:
        """Send what was held back, and that the model failed, if the text had not ended."""
        self._end(error)

    def _take(self, token_id: int, logprobs: Logprobs | None) -> None:
        now = time.monotonic()
        if self._first is None:
            self._first = now
        else:
            self._metrics.between_tokens.observe(now - self._latest)
        self._latest = now
        self._metrics.generated_tokens.inc()
        self._generated += 1
        self._last_id = token_id
        self._unsent.append(token_id)
        if logprobs is not None:
            self._unsent_logprobs.append(logprobs)
        text = "" if self.ended_itself else self._detokenizer.push(token_id)
        if text or len(self._unsent) == _MOST_UNSENT:
            self._send(text)

    def _end(self, error: Exception | None) -> None:
        with self._lock:
            if self._ended:
                return
            self._ended = True
            try:
                self._release()
            except Exception as defect:  # the text itself may be what failed
                error = error or defect
            if error is None:
                finished = self._finished()
                self._metrics.finished(finished)
                self._emit(finished)
            else:
                self._metrics.failed.inc()
                self._emit(GenerationError.of(error))

    def _expire_in_time(self) -> asyncio.TimerHandle | None:
        if self.request.deadline is None:
            return None
        left = max(0.0, self.request.deadline - time.monotonic())
        return asyncio.get_running_loop().call_later(left, self._expire)

    def _expire(self) -> None:
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
            cached_tokens=self._cached_tokens,
            stop=self._detokenizer.matched,
            seed=self.seed,
        )

    def _reason(self) -> FinishReason:
        if self._detokenizer.matched is not None:
            return FinishReason.STOP_STRING
        if self.ended_itself:
            return FinishReason.END_OF_SEQUENCE
        if self._cancelled.is_set():
            return FinishReason.CANCELLED
        return FinishReason.DEADLINE if self._expired else FinishReason.LENGTH

    def _send(self, text: str) -> None:
        self._emit(Delta(text, tuple(self._unsent), tuple(self._unsent_logprobs)))
        self._unsent.clear()
        self._unsent_logprobs.clear()

    def _emit(self, message: Message) -> None:
        self._mailbox.send(self._messages, message)


def _seed(sampling: Sampling) -> int | None:
    """The seed in effect; one is drawn when sampling is on and none was given."""
    if not sampling.do_sample:
        return None
    return secrets.randbits(32) if sampling.seed is None else sampling.seed
