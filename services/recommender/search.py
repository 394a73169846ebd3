"""Find songs by what a person types: title, artist or both, misspelt, in any order."""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from services.recommender.catalogue import Catalogue
from services.recommender.columns import ragged
from services.recommender.inverted import InvertedLists
from services.recommender.vocabulary import Vocabulary
from services.recommender.words import words, words_of_host_and_guests

_LEAST_SCORE = 0.6
"""Songs in which less of the query is found are no answer to it."""

_REJOINED = np.float32(0.9)
"""How like each other "black bird" and "blackbird" are; less like than words one letter apart,
for "stits" is rather "stilts" than "st its"."""

_FIELDS = 3
"""The parts of a song that hold words: its title, its artist, and the guests of both."""

_READINGS = np.array(
    [
        [1, 0, 1, 1, 1],  # title
        [0, 1, 1, 0, 1],  # artist
        [0, 0, 0, 1, 1],  # guests
    ]
)
"""What a query may mean to name: each column says which fields belong to it."""

_GUESTS_LAST = np.array([1, 1, 1, 0.99, 0.99])
"""Of two songs that read equally close, a guest's comes behind the artist's own."""

_DTYPES: dict[str, type[np.integer[Any]]] = {
    "search_words_data": np.uint8,
    "search_words_offsets": np.int64,
    "search_bigrams": np.int32,
    "search_bigram_offsets": np.int64,
    "search_fields": np.int32,
    "search_field_offsets": np.int64,
    "search_sizes": np.int32,
}


class EmptyQueryError(ValueError):
    """The query holds no letter and no digit."""

    def __init__(self) -> None:
        super().__init__("The query holds no letter and no digit; type a title or an artist.")


@dataclass(frozen=True, slots=True)
class SearchHit:
    """A song that answers a query. `score` is the share of the query found in it, 0 to 1."""

    position: int
    score: float


class SongSearch:
    """Typo-tolerant search over the titles and artists of a catalogue.

    Each word of a query stands for the words of the catalogue that are like it; in each song the
    likest of those counts, by the size of the query's word. So the score is the share of the
    query that the song accounts for, whatever the order. Sizes are bytes of UTF-8.

    Args:
        catalogue: the songs.
        arrays: what `arrays()` of a search over the same songs returned. Memory maps are never
            copied, so further processes share them.

    Raises:
        ValueError: the arrays are incomplete, or do not fit each other or the catalogue.
    """

    def __init__(self, catalogue: Catalogue, arrays: Mapping[str, NDArray[Any]]) -> None:
        arrays = _checked(arrays)
        self._songs = len(catalogue)
        self._vocabulary = Vocabulary(arrays)
        # Word → fields. Field `_FIELDS * s + k` is the title, artist or guests (k) of song s.
        self._fields = InvertedLists.among(arrays, "search_field", _FIELDS * self._songs)
        self._sizes = arrays["search_sizes"]
        self._arrays = arrays
        if len(self._fields) != len(self._vocabulary):
            problem = f"{len(self._fields)} rows for {len(self._vocabulary)} words"
            raise ValueError(f"search_field_offsets has {problem}")
        held = np.repeat(np.arange(len(self._vocabulary)), np.diff(self._fields.offsets))
        sizes = np.bincount(
            self._fields.documents, self._vocabulary.sizes(held), _FIELDS * self._songs
        )
        if not np.array_equal(self._sizes, sizes):
            raise ValueError(f"search_sizes does not give the sizes of {self._songs} songs")

    @classmethod
    def from_catalogue(cls, catalogue: Catalogue) -> "SongSearch":
        """Prepare search over a catalogue: a matter of seconds, once for each model."""
        fields = [field for song in range(len(catalogue)) for field in _fields(catalogue, song)]
        vocabulary = Vocabulary.from_words(word for field in fields for word in field)
        numbers = {word: k for k, word in enumerate(vocabulary.read(np.arange(len(vocabulary))))}
        held = ragged([[numbers[word] for word in field] for field in fields])
        inverted = InvertedLists.from_terms(*held, len(vocabulary))
        return cls(
            catalogue,
            {
                **vocabulary.arrays(),
                "search_fields": inverted.documents,
                "search_field_offsets": inverted.offsets,
                "search_sizes": np.array([_size(field) for field in fields], np.int32),
            },
        )

    def arrays(self) -> dict[str, NDArray[Any]]:
        """All that search holds beside the catalogue, by name; the constructor is the way back."""
        return dict(self._arrays)

    def search(self, query: str, *, offset: int, limit: int) -> list[SearchHit]:
        """Songs that answer the query, best first.

        Equal scores are ordered by how closely the whole query reads like the title, the artist
        or both together, and then by position, which in a model is popularity.

        Args:
            query: what a person typed.
            offset: how many of the best songs to leave out, for the next pages.
            limit: how many songs to return at most.

        Raises:
            EmptyQueryError: the query holds no letter and no digit.
        """
        query_words = words(query)
        if not query_words:
            raise EmptyQueryError
        scores, likeness = self._compare(query_words)
        found = np.flatnonzero(scores >= _LEAST_SCORE)
        closeness = self._closeness(_size(query_words), likeness, found)
        best = np.lexsort((found, -closeness, -scores[found]))[offset : offset + limit]
        return [SearchHit(int(song), float(scores[song])) for song in found[best]]

    def _compare(self, query_words: list[str]) -> tuple[NDArray[np.float64], NDArray[np.float32]]:
        """The score of each song, and how like each word of the catalogue is to the query."""
        scores = np.zeros(self._songs)
        likeness = np.zeros(len(self._vocabulary), np.float32)
        joined = self._joined(query_words)
        for word, times in Counter(query_words).items():
            numbers, similarity = self._vocabulary.similar(word)
            numbers = np.concatenate((numbers, np.array(joined[word], np.int64)))
            similarity = np.concatenate((similarity, np.full(len(joined[word]), _REJOINED)))
            np.maximum.at(likeness, numbers, similarity)
            fields, lengths = self._fields.of(numbers)
            best = np.zeros(self._songs, np.float32)
            np.maximum.at(best, fields // _FIELDS, np.repeat(similarity, lengths))
            for halves, songs in self._split(word):
                likeness[halves] = np.maximum(likeness[halves], _REJOINED)
                best[songs] = np.maximum(best[songs], _REJOINED)
            scores += times * _size([word]) * best
        return scores / _size(query_words), likeness

    def _joined(self, query_words: list[str]) -> defaultdict[str, list[int]]:
        """For words of a query, the words that they make with neighbours: "black bird", "r e m"."""
        joined: defaultdict[str, list[int]] = defaultdict(list)
        letters = (tuple(run) for one, run in groupby(query_words, _is_letter) if one)
        for run in (*pairwise(query_words), *letters):
            number = self._vocabulary.number("".join(run))
            if number is not None:
                for word in run:
                    joined[word].append(number)
        return joined

    def _split(self, word: str) -> Iterator[tuple[list[int], NDArray[np.int32]]]:
        """Pairs of words that make up an unknown one, each with the songs that hold both."""
        if self._vocabulary.number(word) is not None:
            return
        for cut in range(1, len(word)):
            left = self._vocabulary.number(word[:cut])
            right = None if left is None else self._vocabulary.number(word[cut:])
            if left is not None and right is not None:
                songs = np.intersect1d(self._songs_with(left), self._songs_with(right))
                if len(songs):
                    yield [left, right], songs

    def _songs_with(self, number: int) -> NDArray[np.int32]:
        fields, _ = self._fields.of(np.array([number]))
        return fields // _FIELDS

    def _closeness(
        self, query_size: int, likeness: NDArray[np.float32], songs: NDArray[np.int64]
    ) -> NDArray[np.float64]:
        """Dice coefficient of the query with that reading of each song that is closest to it."""
        numbers = np.flatnonzero(likeness)
        fields, lengths = self._fields.of(numbers)
        shared = np.repeat(likeness[numbers] * self._vocabulary.sizes(numbers), lengths)
        common = np.bincount(fields, shared, minlength=len(self._sizes))
        found, sizes = (
            of_fields.reshape(-1, _FIELDS)[songs] @ _READINGS for of_fields in (common, self._sizes)
        )
        dice = 2 * np.minimum(found, query_size) / (query_size + sizes)
        closeness: NDArray[np.float64] = np.max(dice * _GUESTS_LAST, axis=1)
        return closeness


def _fields(catalogue: Catalogue, song: int) -> tuple[list[str], list[str], list[str]]:
    title, on_title = words_of_host_and_guests(catalogue.titles[song])
    artist, on_artist = words_of_host_and_guests(catalogue.artists[song])
    return title, artist, on_title + on_artist


def _size(some_words: Sequence[str]) -> int:
    return sum(len(word.encode()) for word in some_words)


def _is_letter(word: str) -> bool:
    return len(word) == 1


def _checked(arrays: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """The arrays of search, of the right kind; without numpy's slow wrapper of memory maps."""
    for name, dtype in _DTYPES.items():
        if name not in arrays:
            raise ValueError(f"the array {name!r} is missing")
        if arrays[name].ndim != 1 or arrays[name].dtype != dtype:
            raise ValueError(f"{name} is not one row of {np.dtype(dtype)}")
    return {name: np.asarray(arrays[name]) for name in _DTYPES}
