"""The generator's requests, checked; the limits are those in the contract's comments."""

from typing import Annotated, Literal

from pydantic import Field, StringConstraints, ValidationInfo, field_validator

from services.generator.engine import interface
from services.generator.tokenization import ChatMessage
from serving.validation import RequestModel

MAX_TEXT = 1_000_000

Text = Annotated[str, StringConstraints(max_length=MAX_TEXT)]
Prompt = Annotated[str, StringConstraints(min_length=1, max_length=MAX_TEXT)]
Stop = Annotated[str, StringConstraints(min_length=1, max_length=500)]
Count = Annotated[int, Field(ge=1, le=1_000_000)]
Positive = Annotated[float, Field(gt=0, le=100)]

# The contract's `Role`, by number.
_ROLES = {1: "system", 2: "user", 3: "assistant"}


class Message(RequestModel):
    """`ChatMessage` of the contract."""

    role: Literal[1, 2, 3]
    content: Text = ""

    def spoken(self) -> ChatMessage:
        """The message as templates know it."""
        return ChatMessage(_ROLES[self.role], self.content)


class Chat(RequestModel):
    """`Chat` of the contract."""

    messages: Annotated[list[Message], Field(min_length=1, max_length=1000)]


class TokenIds(RequestModel):
    """`TokenIds` of the contract; whether they are ids is for the tokenizer to say."""

    ids: Annotated[list[int], Field(min_length=1, max_length=MAX_TEXT)]


class Sampling(RequestModel):
    """`Sampling` of the contract."""

    do_sample: bool = False
    temperature: Positive = 0.7
    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0
    top_k: Annotated[int, Field(ge=0, le=1_000_000)] = 50
    min_p: Annotated[float, Field(ge=0, le=1)] = 0.0
    repetition_penalty: Positive = 1.0
    seed: Annotated[int, Field(ge=0)] | None = None

    def settings(self) -> interface.Sampling:
        """The same for the engine."""
        return interface.Sampling(**self.model_dump())


class Stopping(RequestModel):
    """`Stopping` of the contract."""

    max_new_tokens: Count = 256
    min_new_tokens: Annotated[int, Field(ge=0)] = 0
    stop: Annotated[tuple[Stop, ...], Field(max_length=16)] = ()
    ignore_eos: bool = False

    @field_validator("min_new_tokens")
    @classmethod
    def _in_order(cls, count: int, info: ValidationInfo) -> int:
        if count > info.data.get("max_new_tokens", count):
            raise ValueError("must not exceed max_new_tokens")
        return count

    def settings(self) -> interface.Stopping:
        """The same for the engine."""
        return interface.Stopping(**self.model_dump())


class Generate(RequestModel):
    """`GenerateRequest` and `GenerateStreamRequest`; the oneof sees to it that one input is set."""

    prompt: Prompt | None = None
    chat: Chat | None = None
    token_ids: TokenIds | None = None
    sampling: Sampling = Sampling()
    stopping: Stopping = Stopping()
    return_full_text: bool = False

    @field_validator("return_full_text")
    @classmethod
    def _full_text_of_text(cls, wanted: bool, info: ValidationInfo) -> bool:
        if wanted and info.data.get("chat"):
            raise ValueError("is not possible with a chat")
        return wanted


class Tokenize(RequestModel):
    """`TokenizeRequest` of the contract."""

    text: Text = ""
    add_special_tokens: bool = False


class Detokenize(RequestModel):
    """`DetokenizeRequest` of the contract."""

    ids: Annotated[list[int], Field(max_length=MAX_TEXT)] = Field(default_factory=list)
    skip_special_tokens: bool = False
