from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import PreTrainedTokenizerFast

from services.generator.models import LoadedModel
from services.generator.tokenization import (
    ChatMessage,
    ChatTemplateError,
    Tokenizer,
    UnknownTokenError,
)


@given(text=st.text(max_size=40))
def test_text_survives_the_way_to_tokens_and_back(tiny_llama: LoadedModel, text: str) -> None:
    tokenizer = tiny_llama.tokenizer
    assert tokenizer.decode(tokenizer.encode(text), skip_special_tokens=False) == text


@given(text=st.text(max_size=40))
def test_offsets_are_characters_of_the_text_in_order(tiny_llama: LoadedModel, text: str) -> None:
    tokens = tiny_llama.tokenizer.tokens(text)
    assert all(0 <= token.start <= token.end <= len(text) for token in tokens)
    assert [token.start for token in tokens] == sorted(token.start for token in tokens)
    covered = {place for token in tokens for place in range(token.start, token.end)}
    assert covered == set(range(len(text)))


@pytest.mark.parametrize(
    "text", ["One song, two songs", "Sigur Rós\n坂本 🎵", "👩\u200d👩\u200d👧 नमस्ते", ""]
)
def test_sentencepiece_text_survives_and_its_tokens_cover_it(
    tiny_phi3: LoadedModel, text: str
) -> None:
    tokenizer = tiny_phi3.tokenizer
    assert tokenizer.decode(tokenizer.encode(text)) == text
    tokens = tokenizer.tokens(text)
    assert {i for token in tokens for i in range(token.start, token.end)} == set(range(len(text)))


def test_a_token_knows_its_id_its_piece_and_its_characters(tiny_llama: LoadedModel) -> None:
    tokens = tiny_llama.tokenizer.tokens("é the song")
    assert [token.id for token in tokens] == tiny_llama.tokenizer.encode("é the song")
    song = tokens[-1]
    assert (song.piece, "é the song"[song.start : song.end]) == ("Ġsong", " song")


def test_an_id_that_the_vocabulary_does_not_name_has_an_empty_piece(tiny_phi3: LoadedModel) -> None:
    assert tiny_phi3.tokenizer.pieces([32007, 32063, 1815]) == ["<|end|>", "", "▁Can"]


@pytest.mark.parametrize("outside", [-1, 400, 2**31 - 1])
def test_an_id_outside_the_vocabulary_is_named_with_its_place(
    tiny_llama: LoadedModel, outside: int
) -> None:
    tiny_llama.tokenizer.check([0, 399])
    with pytest.raises(UnknownTokenError, match=rf"{outside} .* from 0 to 399") as caught:
        tiny_llama.tokenizer.check([1, 2, outside, -5])
    assert (caught.value.index, caught.value.token_id) == (2, outside)


def test_a_template_that_refuses_a_chat_is_told(tiny_phi3: LoadedModel) -> None:
    tokenizer = tiny_phi3.tokenizer
    template = tokenizer.backend.chat_template
    try:
        tokenizer.backend.chat_template = "{{ raise_exception('roles must alternate') }}"
        with pytest.raises(ChatTemplateError, match="roles must alternate"):
            tokenizer.encode_chat([ChatMessage("user", "Hi")])
        tokenizer.backend.chat_template = None
        with pytest.raises(ChatTemplateError, match="no chat template"):
            tokenizer.encode_chat([ChatMessage("user", "Hi")])
    finally:
        tokenizer.backend.chat_template = template


@given(st.lists(st.integers(0, 399)), st.booleans())
def test_tokens_say_what_transformers_says_they_do(
    tiny_llama: LoadedModel, ids: list[int], skipped: bool
) -> None:
    tokenizer = tiny_llama.tokenizer
    expected = tokenizer.backend.decode(
        ids, skip_special_tokens=skipped, clean_up_tokenization_spaces=False
    )
    assert tokenizer.decode(ids, skip_special_tokens=skipped) == expected


class Shouting(PreTrainedTokenizerFast):
    """One that decodes in a way of its own, as some models' do."""

    def _decode(self, *arguments: Any, **options: Any) -> str:
        return str(super()._decode(*arguments, **options)).upper()


def test_a_tokenizer_that_decodes_in_its_own_way_is_asked(tiny_llama: LoadedModel) -> None:
    backend: Any = tiny_llama.tokenizer.backend
    shouting: Any = Shouting
    own = Tokenizer(shouting(tokenizer_object=backend.backend_tokenizer), 400)
    assert own.decode(own.encode("a song")) == "A SONG"
