"""The distinct words of a catalogue, and which of them a word, perhaps misspelt, may stand for."""

from bisect import bisect_left
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rapidfuzz import fuzz, process

from services.recommender.columns import StringColumn
from services.recommender.inverted import InvertedLists, gather

_LEAST_SIMILARITY = 65
"""Percent of letters that two words must share to be taken for the same word, misspelt."""

_LEAST_OVERLAP = 0.25
"""Dice coefficient of their bigrams from which two words are compared letter by letter."""

_BIGRAMS = 256 * 256
_ARRAYS = ("search_words_data", "search_words_offsets", "search_bigrams", "search_bigram_offsets")


class Vocabulary:
    """Words in ascending order, numbered from 0, stored in flat arrays that can be mapped.

    Words alike are found in two steps (Zobel and Dart 1995): inverted lists of the bigrams of
    their UTF-8 bytes give the few hundred that may be, and rapidfuzz compares those.

    Args:
        arrays: what `arrays()` of another vocabulary returned.

    Raises:
        ValueError: the arrays do not fit together.
    """

    def __init__(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        # Each word ends with a space, so that many can be cut out of the bytes in one go, and so
        # that the bigrams of a word, with those at both its ends, are as many as its bytes.
        self._words = StringColumn.among(arrays, "search_words")
        self._bigrams = InvertedLists.among(arrays, "search_bigram", len(self._words))
        if len(self._bigrams) != _BIGRAMS:
            raise ValueError(f"search_bigram_offsets has {len(self._bigrams)} rows")
        _check_words(self._words)
        self._arrays = {name: arrays[name] for name in _ARRAYS}

    @classmethod
    def from_words(cls, words: Iterable[str]) -> "Vocabulary":
        """Number the distinct words of some words."""
        column = StringColumn.from_strings(f"{word} " for word in sorted(set(words)))
        bigrams = InvertedLists.from_terms(_bigrams(column.data), column.offsets, _BIGRAMS)
        return cls(
            {
                "search_words_data": column.data,
                "search_words_offsets": column.offsets,
                "search_bigrams": bigrams.documents,
                "search_bigram_offsets": bigrams.offsets,
            }
        )

    def arrays(self) -> dict[str, NDArray[Any]]:
        """All that the vocabulary holds, by name; `Vocabulary(arrays)` is the way back."""
        return dict(self._arrays)

    def __len__(self) -> int:
        return len(self._words)

    def number(self, word: str) -> int | None:
        """Which word this is, or None when it is none of them."""
        stored = f"{word} "
        number = bisect_left(self._words, stored)
        return number if number < len(self) and self._words[number] == stored else None

    def read(self, numbers: NDArray[np.integer[Any]]) -> list[str]:
        """The words with these numbers."""
        text, _ = gather(self._words.data, self._words.offsets, numbers)
        return text.tobytes().decode().split(" ")[:-1]

    def sizes(self, numbers: NDArray[np.integer[Any]]) -> NDArray[np.int64]:
        """How many bytes of UTF-8 each of these words has (int64 [numbers])."""
        offsets = self._words.offsets
        sizes: NDArray[np.int64] = offsets[numbers + 1] - offsets[numbers] - 1
        return sizes

    def similar(self, word: str) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """The words that are like a word, itself included, and how like each is, up to 1.

        Returns:
            Ascending numbers, int64 [n], and similarities, float32 [n]: twice the letters in a
            longest common subsequence, as a share of the letters of both.
        """
        numbers = self._with_common_bigrams(word)
        [similarity] = process.cdist(
            [word],
            self.read(numbers),
            scorer=fuzz.ratio,
            score_cutoff=_LEAST_SIMILARITY,
            dtype=np.float32,
        )
        alike = np.flatnonzero(similarity)
        return numbers[alike], similarity[alike] / np.float32(100)

    def _with_common_bigrams(self, word: str) -> NDArray[np.int64]:
        bigrams = np.unique(_bigrams(np.frombuffer(f"{word} ".encode(), np.uint8)))
        common = np.bincount(self._bigrams.of(bigrams)[0], minlength=len(self))
        numbers = np.flatnonzero(common > len(bigrams) * _LEAST_OVERLAP / 2)
        overlap = 2 * common[numbers] / (len(bigrams) + self.sizes(numbers) + 1)
        return numbers[overlap >= _LEAST_OVERLAP]


def _check_words(column: StringColumn) -> None:
    """Raise `ValueError` unless each string is a word with one space, behind it."""
    column.data.tobytes().decode()
    space = column.data == ord(" ")
    if (
        np.any(np.diff(column.offsets) < 2)
        or np.count_nonzero(space) != len(column)
        or not np.all(space[column.offsets[1:] - 1])
    ):
        raise ValueError("search_words_data is not words with a space behind each")


def _bigrams(text: NDArray[np.uint8]) -> NDArray[np.int32]:
    """Each byte of a text of words, with the one before it; before the first stands a space."""
    before = np.concatenate((np.frombuffer(b" ", np.uint8), text[:-1])).astype(np.int32)
    return before * 256 + text
