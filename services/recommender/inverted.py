"""Inverted lists: the documents that hold a term, for every term, in two flat arrays."""

from collections.abc import Mapping
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from services.recommender.columns import check_offsets

_Item = TypeVar("_Item", bound=np.generic)


def gather(
    values: NDArray[_Item], offsets: NDArray[np.int64], rows: NDArray[np.integer[Any]]
) -> tuple[NDArray[_Item], NDArray[np.int64]]:
    """Read many pieces of a ragged column at once.

    Args:
        values: what the column holds.
        offsets: int64 [n + 1], where each piece begins and ends.
        rows: which pieces, each 0 to n - 1.

    Returns:
        The pieces one after the other, and the length of each (int64 [rows]).
    """
    begins = offsets[rows]
    lengths = offsets[rows + 1] - begins
    shifts = begins - np.cumsum(lengths) + lengths
    return values[np.arange(lengths.sum()) + np.repeat(shifts, lengths)], lengths


class InvertedLists:
    """For each term, the documents that hold it; as often as they hold it, in ascending order.

    Args:
        documents: int32 [occurrences], term after term.
        offsets: int64 [terms + 1], where the documents of each term begin and end.
        count: how many documents there are.

    Raises:
        ValueError: the offsets do not fit the documents, or one is not in 0 to `count` - 1.
    """

    def __init__(
        self, documents: NDArray[np.int32], offsets: NDArray[np.int64], count: int
    ) -> None:
        check_offsets(offsets, len(documents))
        if len(documents) and (documents.min() < 0 or documents.max() >= count):
            raise ValueError(f"inverted lists hold numbers outside 0 to {count - 1}")
        self.documents = documents
        self.offsets = offsets

    @classmethod
    def among(cls, arrays: Mapping[str, NDArray[Any]], name: str, count: int) -> "InvertedLists":
        """Take lists from named arrays; the ValueError that tells what is wrong names them."""
        try:
            return cls(arrays[f"{name}s"], arrays[f"{name}_offsets"], count)
        except ValueError as error:
            raise ValueError(f"{name}s and {name}_offsets: {error}") from None

    @classmethod
    def from_terms(
        cls, terms: NDArray[np.int32], offsets: NDArray[np.int64], count: int
    ) -> "InvertedLists":
        """Invert documents that are given as the terms that each holds.

        Args:
            terms: int32 [occurrences], document after document.
            offsets: int64 [documents + 1], where the terms of each document begin and end.
            count: how many terms there are; each is in 0 to `count` - 1.
        """
        documents = np.repeat(np.arange(len(offsets) - 1, dtype=np.int32), np.diff(offsets))
        by_term = np.argsort(terms, kind="stable")
        list_offsets = np.zeros(count + 1, np.int64)
        np.cumsum(np.bincount(terms, minlength=count), out=list_offsets[1:])
        return cls(documents[by_term], list_offsets, len(offsets) - 1)

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def of(self, terms: NDArray[np.integer[Any]]) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
        """The documents of several terms, list after list, and the length of each list."""
        return gather(self.documents, self.offsets, terms)
