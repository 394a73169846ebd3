"""The generator's requests, checked; the limits are those in the contract's comments."""

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import Field, StringConstraints, ValidationInfo, field_validator

from services.generator.embedding import Pooling, Vectors, pool
from services.generator.engine import interface
from services.generator.segmentation import characters, utf8_bytes, words
from services.generator.tokenization import ChatMessage, Token, Tokenizer
from serving.validation import RequestModel

MAX_TEXT = 1_000_000
MAX_EMBEDDED_TOKENS = 16_384

Text = Annotated[str, StringConstraints(max_length=MAX_TEXT)]
Prompt = Annotated[str, StringConstraints(min_length=1, max_length=MAX_TEXT)]
Stop = Annotated[str, StringConstraints(min_length=1, max_length=500)]
Count = Annotated[int, Field(ge=1, le=1_000_000)]
Positive = Annotated[float, Field(gt=0, le=100)]

# The contract's `Role`, `Pooling` and `TokenKind`, by number.
_ROLES = {1: "system", 2: "user", 3: "assistant"}
_POOLINGS = {0: Pooling.MEAN, 1: Pooling.MEAN, 2: Pooling.LAST}
_CUTS = {1: words, 2: characters, 3: utf8_bytes}


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


class Input(RequestModel):
    """`CountTokensRequest` of the contract; the oneof sees to it that one input is set."""

    prompt: Prompt | None = None
    chat: Chat | None = None
    token_ids: TokenIds | None = None


class Generate(Input):
    """`GenerateRequest` and `GenerateStreamRequest` of the contract."""

    sampling: Sampling = Sampling()
    stopping: Stopping = Stopping()
    return_full_text: bool = False
    logprobs: Annotated[int, Field(ge=0, le=20)] | None = None

    @field_validator("return_full_text")
    @classmethod
    def _full_text_of_text(cls, wanted: bool, info: ValidationInfo) -> bool:
        if wanted and info.data.get("chat"):
            raise ValueError("is not possible with a chat")
        return wanted


class Tokenize(RequestModel):
    """`TokenizeRequest` of the contract."""

    text: Text = ""
    kind: Literal[0, 1, 2, 3] = 0
    add_special_tokens: bool = False

    @field_validator("add_special_tokens")
    @classmethod
    def _special_tokens_of_the_model(cls, wanted: bool, info: ValidationInfo) -> bool:
        if wanted and info.data.get("kind"):
            raise ValueError("is possible with the model's tokens only; leave kind unset")
        return wanted

    def cut(self, tokenizer: Tokenizer) -> Iterator[Token]:
        """The tokens of the text; those of the model are by `tokenizer`."""
        if self.kind:
            return _CUTS[self.kind](self.text)
        return iter(tokenizer.tokens(self.text, add_special_tokens=self.add_special_tokens))


class Detokenize(RequestModel):
    """`DetokenizeRequest` of the contract."""

    ids: Annotated[list[int], Field(max_length=MAX_TEXT)] = Field(default_factory=list)
    skip_special_tokens: bool = False


class Embed(RequestModel):
    """`EmbedRequest` of the contract."""

    texts: Annotated[list[Prompt], Field(min_length=1, max_length=256)]
    pooling: Literal[0, 1, 2] = 0
    normalize: bool = True
    token_vectors: bool = False

    def pooled(self, states: Vectors) -> Vectors:
        """The vector of a text whose tokens have these vectors."""
        return pool(states, _POOLINGS[self.pooling], normalize=self.normalize)
