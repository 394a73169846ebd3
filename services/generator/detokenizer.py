"""One object owns the text of one request: from token ids to text that may be sent."""

from collections.abc import Sequence

from services.generator.stopping import StopMatcher
from services.generator.tokenization import Tokenizer

_REPLACEMENT = "\ufffd"

# Of a character in UTF-8 at most three bytes can be there while the last is missing.
_LONGEST_BEGINNING = 3


class Detokenizer:
    """Turns tokens into text that grows by whole characters and holds no part of a stop string.

    A token can end in the middle of a character, and what a token says can depend on the one
    before it, so each step decodes a short window of tokens with and without the new ones, and
    the difference is the new text. Special tokens say nothing.

    The texts that `push` and `flush` return add up to the text of all tokens, cut before the first
    stop string. One case differs: a decoder of single bytes gives up a whole run of them for one
    that fits nowhere, and here the characters of the run that were whole before it stand; U+FFFD
    itself, spelled in such bytes, counts as one that fits nowhere.
    """

    def __init__(self, tokenizer: Tokenizer, stops: Sequence[str] = ()) -> None:
        self._tokenizer = tokenizer
        self._stops = StopMatcher(stops)
        self._window: list[int] = []
        self._told = 0  # tokens of the window whose text has gone to the matcher
        self._context = ""  # the text of those tokens
        self._ahead = 0  # characters beyond it that have gone there too

    @property
    def matched(self) -> str | None:
        """The stop string that ended the text, once one has."""
        return self._stops.matched

    def push(self, token_id: int) -> str:
        """Take the next token and give the text that may be sent now."""
        if token_id in self._tokenizer.special_ids:
            return ""
        self._window.append(token_id)
        text = self._tokenizer.decode(self._window)
        if not text.startswith(self._context):
            # Where bytes stand for characters that the vocabulary lacks, an unfinished one spoils
            # the whole ones before it too. Those are told already, so they stand, and the window
            # begins anew with the byte.
            self._window, self._told, self._context = self._window[self._told :], 0, ""
            text = self._tokenizer.decode(self._window)
        tail = text[len(self._context) :]
        complete = tail[: len(tail) - _incomplete(tail)]
        new = complete[self._ahead :]
        # A token that says nothing is no context: the space of the next would be lost.
        if tail and complete == tail:
            self._advance()
        else:
            self._ahead = max(self._ahead, len(complete))
        return self._stops.push(new)

    def flush(self) -> str:
        """Give what was held back; no more tokens will come."""
        text = self._tokenizer.decode(self._window)
        rest = text[len(self._context) + self._ahead :]
        self._advance()
        return self._stops.push(rest) + self._stops.flush()

    def _advance(self) -> None:
        """Make the tokens that came last the context of those to come."""
        self._window = self._window[self._told :]
        self._told = len(self._window)
        self._context = self._tokenizer.decode(self._window)
        self._ahead = 0


def _incomplete(tail: str) -> int:
    """How many characters at the end may change with the next token."""
    replaced = len(tail) - len(tail.rstrip(_REPLACEMENT))
    return min(replaced, _LONGEST_BEGINNING)
