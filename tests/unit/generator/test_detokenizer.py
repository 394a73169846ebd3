from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from transformers.convert_slow_tokenizer import bytes_to_unicode

from services.generator.detokenizer import Detokenizer
from services.generator.models import LoadedModel
from services.generator.tokenization import Tokenizer
from tests.unit.generator.test_stopping import first_stop

FIRST_BYTE = 3
"""The Phi-3 tokenizer's token for the byte 0."""

FAMILY, RAINBOW = "👩\u200d👩\u200d👧\u200d👦", "🏳️\u200d🌈"
WORDS = [FAMILY, RAINBOW, "é", "नमस्ते", "坂本", " ", "song", "\n", "🎵", "  "]
texts = st.text(max_size=30) | st.lists(st.sampled_from(WORDS), max_size=8).map("".join)
stops = st.lists(
    st.text("aso 🎵坂", min_size=1, max_size=3) | st.text(min_size=1, max_size=3), max_size=2
)


def streamed(tokenizer: Tokenizer, ids: Sequence[int], stop: Sequence[str] = ()) -> list[str]:
    detokenizer = Detokenizer(tokenizer, stop)
    deltas = []
    for token_id in ids:
        deltas.append(detokenizer.push(token_id))
        if detokenizer.matched is not None:
            return deltas
    return [*deltas, detokenizer.flush()]


@given(text=texts, stop=stops)
@example("song 🎵 song", ["🎵"])
def test_deltas_add_up_to_the_text_up_to_the_stop(
    tiny_llama: LoadedModel, text: str, stop: list[str]
) -> None:
    tokenizer = tiny_llama.tokenizer
    ids = tokenizer.encode(text)
    expected, _ = first_stop(tokenizer.decode(ids), stop)
    assert "".join(streamed(tokenizer, ids, stop)) == expected


@given(text=texts, stop=stops, cuts=st.lists(st.integers(0, 200), max_size=8), data=st.data())
@settings(max_examples=300)
def test_any_cut_of_the_text_into_bytes_gives_the_text_up_to_any_stop(
    tiny_llama: LoadedModel, text: str, stop: list[str], cuts: list[int], data: st.DataObject
) -> None:
    if text:  # a stop that is somewhere in it
        begin = data.draw(st.integers(0, len(text) - 1))
        stop = [*stop, text[begin : begin + data.draw(st.integers(1, 5))]]
    tokenizer, utf8 = tiny_llama.tokenizer, text.encode()
    places = [0, *sorted(cut % (len(utf8) + 1) for cut in cuts), len(utf8)]
    ids = [i for begin, end in pairwise(places) for i in byte_level(tokenizer, utf8[begin:end])]
    expected, _ = first_stop(text, stop)
    assert "".join(streamed(tokenizer, ids, stop)) == expected


def byte_level(tokenizer: Tokenizer, piece: bytes) -> list[int]:
    """The tokens of a text; where the bytes are none, a token for each."""
    try:
        return tokenizer.encode(piece.decode())
    except UnicodeDecodeError:
        letters: Any = bytes_to_unicode
        ids: Any = tokenizer.backend.convert_tokens_to_ids([letters()[byte] for byte in piece])
        return list(ids)


@given(ids=st.lists(st.integers(0, 399), max_size=30), stop=stops | st.just(["\ufffd"]))
@settings(max_examples=300)
def test_bytes_that_make_no_character_come_as_the_decoder_gives_them(
    tiny_llama: LoadedModel, ids: list[int], stop: list[str]
) -> None:
    expected, _ = first_stop(tiny_llama.tokenizer.decode(ids), stop)
    assert "".join(streamed(tiny_llama.tokenizer, ids, stop)) == expected


@given(text=texts)
def test_every_delta_is_whole_characters(tiny_llama: LoadedModel, text: str) -> None:
    deltas = streamed(tiny_llama.tokenizer, tiny_llama.tokenizer.encode(text))
    assert not any("\ufffd" in delta for delta in deltas) or "\ufffd" in text


@given(text=texts, stop=stops)
def test_sentencepiece_text_keeps_its_spaces(
    tiny_phi3: LoadedModel, text: str, stop: list[str]
) -> None:
    tokenizer = tiny_phi3.tokenizer
    ids = tokenizer.encode(text, add_special_tokens=False)
    expected, _ = first_stop(tokenizer.decode(ids), stop)
    assert "".join(streamed(tokenizer, ids, stop)) == expected


def in_bytes(text: str) -> list[int]:
    """The tokens that stand for the bytes of what the vocabulary lacks."""
    return [FIRST_BYTE + byte for byte in text.encode()]


# U+FFFD, once spelled in bytes, is not told from bytes that make no character.
spelled = st.characters(codec="utf-8", min_codepoint=1, exclude_characters="\ufffd")
pieces = st.integers(FIRST_BYTE + 256, 31_999).map(lambda token_id: [token_id])


@given(
    parts=st.lists(pieces | spelled.map(in_bytes)),
    stop=stops,
)
@settings(max_examples=300)
@example(parts=[in_bytes(FAMILY), in_bytes(RAINBOW)], stop=["\u200d🌈"])
def test_any_sentencepiece_tokens_give_the_decoded_text_up_to_the_stop(
    tiny_phi3: LoadedModel, parts: list[list[int]], stop: list[str]
) -> None:
    ids = [token_id for part in parts for token_id in part]
    expected, _ = first_stop(tiny_phi3.tokenizer.decode(ids), stop)
    assert "".join(streamed(tiny_phi3.tokenizer, ids, stop)) == expected


@given(
    parts=st.lists(
        st.text("song next", min_size=1, max_size=8) | st.binary(min_size=1, max_size=6), max_size=8
    )
)
def test_bytes_that_make_no_character_take_no_letter_away(
    tiny_phi3: LoadedModel, parts: list[str | bytes]
) -> None:
    tokenizer, ids = tiny_phi3.tokenizer, []
    for part in parts:
        if isinstance(part, str):
            ids += tokenizer.encode(part, add_special_tokens=False)
        else:
            ids += [FIRST_BYTE + (byte | 0x80) for byte in part]  # no byte of a letter's own

    def letters(text: str) -> str:
        return "".join(letter for letter in text if letter.isascii())

    assert letters("".join(streamed(tokenizer, ids))) == letters(tokenizer.decode(ids))


def test_bytes_that_fit_nowhere_hold_up_neither_the_text_nor_the_stop(
    tiny_phi3: LoadedModel,
) -> None:
    tokenizer = tiny_phi3.tokenizer
    note, rest = (
        tokenizer.encode(text, add_special_tokens=False) for text in ("🎵", "on. stop it")
    )
    broken = [note[-1]]  # the last byte of the note, which begins no character
    deltas = streamed(tokenizer, [*note, *broken, *rest], ["stop"])
    assert "".join(deltas).replace(" ", "") == "🎵\ufffdon."


@given(ids=st.lists(st.integers(3, 258) | st.integers(259, 31_999), max_size=30))
def test_any_sentencepiece_tokens_give_text_as_they_come(
    tiny_phi3: LoadedModel, ids: list[int]
) -> None:
    tokenizer = tiny_phi3.tokenizer
    plain = tokenizer.encode("the end", add_special_tokens=False)
    detokenizer = Detokenizer(tokenizer)
    for token_id in ids:
        detokenizer.push(token_id)
    assert "end" in "".join(detokenizer.push(token_id) for token_id in plain)


@pytest.mark.parametrize("silent", [32007, 32063], ids=["special", "without a name"])
def test_tokens_that_say_nothing_eat_no_space(tiny_phi3: LoadedModel, silent: int) -> None:
    tokenizer = tiny_phi3.tokenizer
    first, second = (tokenizer.encode(word, add_special_tokens=False) for word in ("one", "two"))
    ids = [*first, silent, *second]
    assert "".join(streamed(tokenizer, ids)) == tokenizer.decode(ids) == "one two"
