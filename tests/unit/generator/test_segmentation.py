from collections.abc import Callable, Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.generator.segmentation import characters, utf8_bytes, words
from services.generator.tokenization import Token

PARTS = ["song", "don't", "3.14", " ", "\r\n", "\t", "!", "坂本", "é", "नमस्ते", "🎵", "🇫🇷", "\u200d"]
texts = st.text(max_size=40) | st.lists(st.sampled_from(PARTS), max_size=12).map("".join)


@pytest.mark.parametrize("cut", [words, characters])
@given(text=texts)
def test_the_pieces_stand_one_after_the_other_and_join_to_the_text(
    cut: Callable[[str], Iterator[Token]], text: str
) -> None:
    tokens = list(cut(text))
    assert "".join(token.piece for token in tokens) == text
    assert all(text[token.start : token.end] == token.piece for token in tokens)
    assert [token.start for token in tokens] == [0, *[token.end for token in tokens]][: len(tokens)]
    assert all(token.start < token.end for token in tokens)


@given(text=texts)
def test_bytes_join_to_the_text_and_each_has_the_place_of_its_character(text: str) -> None:
    tokens = list(utf8_bytes(text))
    assert bytes(token.id for token in tokens).decode() == text
    for place, character in enumerate(text):
        own = bytes(token.id for token in tokens if (token.start, token.end) == (place, place + 1))
        assert own.decode() == character


@given(text=texts)
def test_characters_are_their_own_ids(text: str) -> None:
    assert "".join(chr(token.id) for token in characters(text)) == text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", []),
        ("Don't stop, 3.14!?", ["Don't", " ", "stop", ",", " ", "3.14", "!", "?"]),
        ("one  two\r\n\tthree", ["one", "  ", "two", "\r\n", "\t", "three"]),
        ("Sigur Rós", ["Sigur", " ", "Rós"]),
        ("e\u0301te\u0301", ["e\u0301te\u0301"]),
        ("नमस्ते दुनिया", ["नमस्ते", " ", "दुनिया"]),
        ("坂本", ["坂", "本"]),
        ("👩\u200d👩\u200d👧🎵", ["👩\u200d👩\u200d👧", "🎵"]),
        ("a🇫🇷🇯🇵🇫,b", ["a", "🇫🇷", "🇯🇵", "🇫", ",", "b"]),
        ("🇫🇷\u0301\u200d🎵🇫", ["🇫🇷\u0301\u200d🎵", "🇫"]),
    ],
)
def test_words_are_those_of_unicode(text: str, expected: list[str]) -> None:
    assert [token.piece for token in words(text)] == expected


def test_a_byte_is_spelled_by_its_value() -> None:
    assert [token.piece for token in utf8_bytes("aé")] == ["<0x61>", "<0xC3>", "<0xA9>"]


def test_a_long_run_of_flags_is_cut_in_one_pass() -> None:
    # At each place looking back to the first of them would take hours.
    assert sum(1 for _ in words("🇫🇷" * 500_000)) == 500_000
