"""Text cut without a vocabulary: by word, by character and by byte."""

from collections.abc import Iterator

import regex

from services.generator.tokenization import Token

_ATTACHED = r"[\p{WB=Extend}\p{WB=Format}\p{WB=ZWJ}]*+"

# Flags are pairs of letters, and `\b` counts them from the first of a run at each place, which
# takes minutes for a long run; so they are matched before it is asked.
_FLAG = rf"(?:\p{{RI}}{_ATTACHED}){{1,2}}+(?:(?<=\u200d)\p{{ExtPict}}{_ATTACHED})*+"
_WORD = regex.compile(rf"(?sw){_FLAG}|.+?\b")


def words(text: str) -> Iterator[Token]:
    """Cut at the word boundaries of Unicode (UAX #29), as the `regex` package knows them.

    What is between words comes too, so that the pieces join to the text. Words have no ids.
    """
    for match in _WORD.finditer(text):
        yield Token(0, match.group(), match.start(), match.end())


def characters(text: str) -> Iterator[Token]:
    """Cut into code points, which are their own ids."""
    for place, character in enumerate(text):
        yield Token(ord(character), character, place, place + 1)


def utf8_bytes(text: str) -> Iterator[Token]:
    """Cut into bytes, which are their own ids; each has the place of its character.

    Their pieces are spelled as SentencePiece spells bytes.
    """
    for place, character in enumerate(text):
        for byte in character.encode():
            yield Token(byte, f"<0x{byte:02X}>", place, place + 1)
