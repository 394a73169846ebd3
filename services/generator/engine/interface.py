"""What an engine is asked, what it answers, and what it promises."""

import enum
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, field

from services.generator.embedding import Vectors


@dataclass(frozen=True, slots=True)
class Sampling:
    """How tokens are chosen; the defaults are those of a `text-generation` pipeline.

    With `do_sample` off the likeliest token is taken and only `repetition_penalty` matters. A
    `top_k` of 0 keeps all tokens.
    """

    do_sample: bool = False
    temperature: float = 0.7
    top_p: float = 1.0
    top_k: int = 50
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    seed: int | None = None


@dataclass(frozen=True, slots=True)
class Stopping:
    """When a text ends."""

    max_new_tokens: int = 256
    min_new_tokens: int = 0
    stop: tuple[str, ...] = ()
    ignore_eos: bool = False


@dataclass(frozen=True, slots=True)
class GenerationRequest:
    """One text that is wanted.

    Attributes:
        prompt_ids: What it follows.
        sampling: How its tokens are chosen.
        stopping: When it ends.
        deadline: When it must end at the latest, a time of `time.monotonic()`.
        logprobs: How many of the likeliest tokens are told beside each that is chosen; when None,
            nothing is told of how likely it was either.
    """

    prompt_ids: tuple[int, ...]
    sampling: Sampling = field(default_factory=Sampling)
    stopping: Stopping = field(default_factory=Stopping)
    deadline: float | None = None
    logprobs: int | None = None


class FinishReason(enum.Enum):
    """Why a text ended."""

    END_OF_SEQUENCE = enum.auto()
    STOP_STRING = enum.auto()
    LENGTH = enum.auto()
    DEADLINE = enum.auto()
    CANCELLED = enum.auto()


@dataclass(frozen=True, slots=True)
class Started:
    """The request was accepted."""

    prompt_tokens: int


@dataclass(frozen=True, slots=True)
class TokenLogprob:
    """A token and the natural logarithm of its probability."""

    id: int
    logprob: float


@dataclass(frozen=True, slots=True)
class Logprobs:
    """How likely the model found a token that was chosen, and what it found likeliest.

    The probabilities are the model's own, before any setting of the request changes them, as in
    vLLM's mode `raw_logprobs`.

    Attributes:
        token: The one that was chosen.
        top: The likeliest ones, the likeliest first; the chosen one too where it belongs there.
    """

    token: TokenLogprob
    top: tuple[TokenLogprob, ...]


@dataclass(frozen=True, slots=True)
class Delta:
    """More of a text.

    Attributes:
        text: Whole characters, no part of a stop string.
        token_ids: All tokens since the last delta.
        logprobs: Of each of these tokens, when asked for.
    """

    text: str
    token_ids: tuple[int, ...]
    logprobs: tuple[Logprobs, ...] = ()


@dataclass(frozen=True, slots=True)
class Finished:
    """The end of a text; times in seconds since the request."""

    reason: FinishReason
    prompt_tokens: int
    generated_tokens: int
    total_s: float
    queued_s: float
    first_token_s: float | None = None
    cached_tokens: int = 0
    stop: str | None = None
    seed: int | None = None


Event = Started | Delta | Finished


class PromptTooLongError(ValueError):
    """The prompt leaves no room for a single token."""

    def __init__(self, prompt_tokens: int, room: int) -> None:
        super().__init__(
            f"the prompt has {prompt_tokens} tokens, and it and its text may have {room} together; "
            "shorten the prompt"
        )


class PromptLengthError(ValueError):
    """A prompt, the one at `index`, that has no tokens or more than the context holds."""

    def __init__(self, index: int, prompt_tokens: int, context_length: int) -> None:
        super().__init__(
            f"has {prompt_tokens} tokens; the model's context takes 1 to {context_length}"
        )
        self.index = index


class QueueFullError(Exception):
    """Too many requests wait; one more may succeed after `retry_after_s` seconds."""

    def __init__(self, waiting: int, retry_after_s: float) -> None:
        super().__init__(f"{waiting} requests are waiting for the model; try again later")
        self.retry_after_s = retry_after_s


class EngineClosedError(Exception):
    """The engine takes no more requests."""

    def __init__(self) -> None:
        super().__init__("the model is being shut down; try another server")


class EngineStartError(Exception):
    """The engine cannot run this model here; the message says why."""


class UnsupportedError(Exception):
    """The engine cannot do what is asked; the message says what can."""


class GenerationError(Exception):
    """The model failed on this request; the engine goes on with the others."""

    @classmethod
    def of(cls, error: Exception) -> "GenerationError":
        """Tell which kind of error it was; the error itself is the cause."""
        failure = cls(f"the model failed: {type(error).__name__}")
        failure.__cause__ = error
        return failure


def check_lengths(prompts: Sequence[Sequence[int]], context_length: int) -> None:
    """Raise PromptLengthError for the first prompt that cannot be embedded."""
    for index, prompt in enumerate(prompts):
        if not 1 <= len(prompt) <= context_length:
            raise PromptLengthError(index, len(prompt), context_length)


class Engine(ABC):
    """Generates texts, each as a stream of events, and embeds; several requests at a time.

    Attributes:
        name: By which it is asked for.
        room: Most tokens of a prompt and its text together: the model's context, or what there is
            memory for where that is less.
    """

    name: str
    room: int

    @abstractmethod
    def generate(self, request: GenerationRequest) -> AsyncGenerator[Event, None]:
        """Yield one Started, any number of Delta, one Finished.

        The deltas' texts add up to the decoded tokens, special tokens left out, cut before the
        first stop string; their token ids add up to all tokens generated. Closing the iterator
        cancels the request; the model stops within one step. A request whose deadline comes
        finishes with the text so far, without waiting for the step under way. `max_new_tokens` is
        cut to what `room` leaves.

        Raises:
            PromptTooLongError: before Started.
            QueueFullError: before Started.
            EngineClosedError: before Started.
            UnsupportedError: before Started; the engine knows no such sampling.
            GenerationError: the model failed, at any time after Started.
        """

    @abstractmethod
    def check_room(self) -> None:
        """Refuse at once whom `generate` and `embed` would refuse, before anything is done for him.

        Raises:
            QueueFullError: no more requests may wait.
            EngineClosedError: the engine is closed.
        """

    @abstractmethod
    async def embed(self, prompts: Sequence[Sequence[int]]) -> list[Vectors]:
        """Give the model's last hidden states, after its final norm, of each prompt.

        Prompts of like length are computed together; what comes out for one does not depend on the
        others beyond rounding. A caller that is cancelled costs at most the batch under way. A call
        waits as one request does, however many its prompts.

        Args:
            prompts: Ids of the vocabulary, at least one and at most a context of them in each.

        Returns:
            An array (tokens, dimension) for each prompt, in their order.

        Raises:
            PromptLengthError: before the model is run.
            QueueFullError: before the model is run.
            EngineClosedError: the engine is closed, or was before all was computed.
            UnsupportedError: the engine generates only.
            GenerationError: the model failed.
        """

    @abstractmethod
    async def close(self) -> None:
        """Finish running texts with reason CANCELLED and release the model; may be called twice."""
