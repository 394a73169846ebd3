"""Text to tokens and back, by the model's own tokenizer."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast


class ChatTemplateError(ValueError):
    """The model has no chat template, or its template refuses these messages."""


class UnknownTokenError(ValueError):
    """A token id that the vocabulary does not hold."""

    def __init__(self, index: int, token_id: int, vocabulary_size: int) -> None:
        super().__init__(
            f"{token_id} is not an id of the vocabulary, which goes from 0 to {vocabulary_size - 1}"
        )
        self.index = index
        self.token_id = token_id


@dataclass(frozen=True, slots=True)
class ChatMessage:
    """One message of a chat; `role` is `system`, `user` or `assistant`."""

    role: str
    content: str


@dataclass(frozen=True, slots=True)
class Token:
    """A token and the characters `text[start:end]` that it stands for."""

    id: int
    piece: str
    start: int
    end: int


class Tokenizer:
    """A `transformers` tokenizer, narrowed to what serving needs.

    Encoding is not safe from several threads at a time, decoding is.

    Args:
        backend: A fast tokenizer; only these know character offsets.
        vocabulary_size: Ids that the model accepts, whether or not the tokenizer names them.
    """

    def __init__(self, backend: PreTrainedTokenizerBase, vocabulary_size: int) -> None:
        self.backend = backend
        self.vocabulary_size = vocabulary_size
        marked = (number for number, token in backend.added_tokens_decoder.items() if token.special)
        self.special_ids = frozenset((*backend.all_special_ids, *marked))
        self._decode = _decoder(backend)

    def encode(self, text: str, *, add_special_tokens: bool = True) -> list[int]:
        """Cut text into ids; by default with the tokens that the model wants around a text."""
        ids: list[int] = self.backend(text, add_special_tokens=add_special_tokens)["input_ids"]
        return ids

    def encode_chat(self, messages: Sequence[ChatMessage]) -> list[int]:
        """Turn a chat into the prompt for its next answer, by the model's template.

        Raises:
            ChatTemplateError: there is no template, or it refuses these messages.
        """
        if not self.backend.chat_template:
            raise ChatTemplateError("this model has no chat template; send a prompt instead")
        chat = [{"role": message.role, "content": message.content} for message in messages]
        try:
            encoded: Any = self.backend.apply_chat_template(
                chat, add_generation_prompt=True, return_dict=True
            )
        except Exception as error:  # templates are programs of the model's makers
            raise ChatTemplateError(f"the model's template refuses this chat: {error}") from error
        return list(encoded["input_ids"])

    def tokens(self, text: str, *, add_special_tokens: bool = False) -> list[Token]:
        """Cut text into tokens that know where they stand in it."""
        encoded: Any = self.backend(
            text, add_special_tokens=add_special_tokens, return_offsets_mapping=True
        )
        ids = encoded["input_ids"]
        return [
            Token(token_id, piece, start, end)
            for token_id, piece, (start, end) in zip(
                ids, self.pieces(ids), encoded["offset_mapping"], strict=True
            )
        ]

    def pieces(self, ids: Sequence[int]) -> list[str]:
        """How the vocabulary spells tokens; an id that it does not name has an empty piece."""
        return [piece or "" for piece in self.backend.convert_ids_to_tokens(list(ids))]

    def decode(self, ids: Sequence[int], *, skip_special_tokens: bool = True) -> str:
        """Join tokens to text; bytes that make no character become U+FFFD."""
        return self._decode(list(ids), skip_special_tokens=skip_special_tokens)

    def check(self, ids: Sequence[int]) -> None:
        """Raise UnknownTokenError for the first id that is outside the vocabulary."""
        for index, token_id in enumerate(ids):
            if not 0 <= token_id < self.vocabulary_size:
                raise UnknownTokenError(index, token_id, self.vocabulary_size)


def _decoder(backend: PreTrainedTokenizerBase) -> Callable[..., str]:
    """What joins tokens as the tokenizer does, in a quarter of the time where that is as usual.

    It counts, since every token of a text is decoded twice.
    """
    usual, own = PreTrainedTokenizerFast, type(backend)
    decode: Any = partial(backend.decode, clean_up_tokenization_spaces=False)
    if isinstance(backend, usual) and (own.decode, own._decode) == (usual.decode, usual._decode):
        decode = backend.backend_tokenizer.decode
    return cast("Callable[..., str]", decode)
