"""Find songs by what a person types: title, artist or both, misspelt, in any order."""

import re
import unicodedata
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from rapidfuzz import fuzz, process

from services.recommender.catalogue import Catalogue
from services.recommender.columns import ragged

_LEAST_WORD_SIMILARITY = 65
"""Percent of letters that two words must share to be taken for the same word, misspelt."""

_LEAST_SCORE = 0.6
"""Songs in which less of the query is found are no answer to it."""


class EmptyQueryError(ValueError):
    """The query holds no letter and no digit."""

    def __init__(self) -> None:
        super().__init__("The query holds no letter and no digit; type a title or an artist.")


@dataclass(frozen=True, slots=True)
class SearchHit:
    """A song that answers a query. `score` is the share of the query found in it, 0 to 1."""

    position: int
    score: float


def words(text: str) -> list[str]:
    """Words as search compares them: no case, accents, punctuation, and no "the" but alone.

    >>> words("The Beyoncé's & T.I.")
    ['beyonces', 'and', 'ti']
    """
    plain = unicodedata.normalize("NFKD", text)
    plain = "".join(letter for letter in plain if not unicodedata.combining(letter))
    plain = plain.casefold().replace("&", " and ")
    found = re.findall(r"[^\W_]+", re.sub(r"['\u2019.]", "", plain))
    return [word for word in found if word != "the"] or found


class SongSearch:
    """Typo-tolerant search over the titles and artists of a catalogue.

    Each word of the query is compared with every distinct word of the catalogue once (rapidfuzz,
    in C); the best word of each song then counts with the query word's length. So the score is
    the share of the query's letters that the song accounts for, whatever their order.
    """

    def __init__(self, catalogue: Catalogue) -> None:
        songs = range(len(catalogue))
        titles = [words(catalogue.titles[song]) for song in songs]
        artists = [words(catalogue.artists[song]) for song in songs]
        self._titles = [" ".join(title) for title in titles]
        self._artists = [" ".join(artist) for artist in artists]
        # Word 0 is like no other: it stands in songs whose title and artist hold no letter.
        numbers = {"": 0}
        rows = [
            [numbers.setdefault(word, len(numbers)) for word in title + artist] or [0]
            for title, artist in zip(titles, artists, strict=True)
        ]
        self._vocabulary = list(numbers)
        self._words, self._offsets = ragged(rows)

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
        if not self._titles:
            return []
        scores = self._scores(query_words)
        found = np.flatnonzero(scores >= _LEAST_SCORE)
        closeness = self._closeness(" ".join(query_words), found)
        best = np.lexsort((found, -closeness, -scores[found]))[offset : offset + limit]
        return [SearchHit(int(song), float(scores[song])) for song in found[best]]

    def _scores(self, query_words: list[str]) -> NDArray[np.float64]:
        likeness = process.cdist(
            query_words,
            self._vocabulary,
            scorer=fuzz.ratio,
            score_cutoff=_LEAST_WORD_SIMILARITY,
            dtype=np.float32,
        )
        scores = np.zeros(len(self._titles))
        for word, similar in zip(query_words, likeness / 100.0, strict=True):
            scores += len(word) * np.maximum.reduceat(similar[self._words], self._offsets[:-1])
        return scores / sum(map(len, query_words))

    def _closeness(self, query: str, songs: NDArray[np.int64]) -> NDArray[np.float64]:
        titles = [self._titles[song] for song in songs]
        artists = [self._artists[song] for song in songs]
        both = [f"{title} {artist}" for title, artist in zip(titles, artists, strict=True)]
        ratios = [
            process.cdist([query], texts, scorer=fuzz.token_sort_ratio)[0]
            for texts in (titles, artists, both)
        ]
        closeness: NDArray[np.float64] = np.max(ratios, axis=0) / 100.0
        return closeness
