"""Ragged columns: many variable-length items in two flat arrays that can be memory-mapped."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

Number = TypeVar("Number", np.uint8, np.int32)


def check_offsets(offsets: NDArray[np.int64], values: int, name: str = "offsets") -> None:
    """Raise `ValueError` unless the offsets cut `values` values into pieces without gap or overlap.

    Piece k lies between `offsets[k]` and `offsets[k + 1]`.
    """
    if offsets.dtype != np.int64 or offsets.ndim != 1 or len(offsets) == 0:
        raise ValueError(f"{name} must be one row of at least one number, int64")
    if offsets[0] != 0 or offsets[-1] != values or np.any(offsets[1:] < offsets[:-1]):
        raise ValueError(f"{name} do not cut {values} values into pieces without gap or overlap")


def offsets_of(lengths: Iterable[int] | NDArray[np.int64]) -> NDArray[np.int64]:
    """Where each piece begins and ends (int64 [n + 1]), given how long each of the n is."""
    if not isinstance(lengths, np.ndarray):
        lengths = np.fromiter(lengths, np.int64)
    offsets = np.zeros(len(lengths) + 1, np.int64)
    np.cumsum(lengths, out=offsets[1:])
    return offsets


def ragged(lists: Sequence[Sequence[int]]) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """Flatten lists of numbers into values (int32) and offsets (int64)."""
    flat = (number for numbers in lists for number in numbers)
    return np.fromiter(flat, np.int32), offsets_of(map(len, lists))


def spans(begins: NDArray[np.int64], lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    """The numbers from each begin on, as many as its length says, one span after another.

    >>> spans(np.array([5, 0]), np.array([2, 3])).tolist()
    [5, 6, 0, 1, 2]
    """
    offsets = offsets_of(lengths)
    return np.arange(offsets[-1]) + np.repeat(begins - offsets[:-1], lengths)


def taken(
    values: NDArray[Number], offsets: NDArray[np.int64], rows: NDArray[np.int64]
) -> tuple[NDArray[Number], NDArray[np.int64]]:
    """Some pieces of a ragged column, in the order given: their values and offsets."""
    lengths = np.diff(offsets)[rows]
    return values[spans(offsets[rows], lengths)], offsets_of(lengths)


class StringColumn:
    """Strings as one array of UTF-8 bytes and one of offsets; reading one decodes only that one.

    Args:
        data: uint8 [total bytes], possibly a read-only memory map.
        offsets: int64 [n + 1].

    Raises:
        ValueError: the offsets do not fit the bytes, or a string is not UTF-8.
    """

    __slots__ = ("_bytes", "_ends", "data", "offsets")

    def __init__(self, data: NDArray[np.uint8], offsets: NDArray[np.int64]) -> None:
        if data.dtype != np.uint8 or data.ndim != 1:
            raise ValueError(f"text is {data.dtype} {data.shape} instead of one row of bytes")
        check_offsets(offsets, len(data))
        _check_text(data, offsets)
        self.data = data
        self.offsets = offsets
        # Several times faster to read one item from than arrays are.
        self._bytes, self._ends = data.data, offsets.data

    @classmethod
    def among(cls, arrays: Mapping[str, NDArray[Any]], name: str) -> "StringColumn":
        """Take a column from named arrays; the ValueError that tells what is wrong names it."""
        try:
            return cls(arrays[f"{name}_data"], arrays[f"{name}_offsets"])
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from None

    @classmethod
    def from_strings(cls, strings: Iterable[str]) -> "StringColumn":
        """Pack strings, in the order given."""
        encoded = [string.encode() for string in strings]
        return cls(np.frombuffer(b"".join(encoded), np.uint8), offsets_of(map(len, encoded)))

    def take(self, rows: NDArray[np.int64]) -> "StringColumn":
        """Some of the strings, in the order given."""
        return StringColumn(*taken(self.data, self.offsets, rows))

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, row: int) -> str:
        return self.encoded(row).decode()

    def all_encoded(self) -> list[bytes]:
        """The UTF-8 bytes of every string, all read at once."""
        data = self.data.tobytes()
        return [data[begin:end] for begin, end in pairwise(self.offsets.tolist())]

    def encoded(self, row: int) -> bytes:
        """The UTF-8 bytes of one string; `IndexError` unless 0 ≤ row < len."""
        if not 0 <= row < len(self):
            raise IndexError(f"row {row} of a column of {len(self)}")
        return bytes(self._bytes[self._ends[row] : self._ends[row + 1]])


def _check_text(data: NDArray[np.uint8], offsets: NDArray[np.int64]) -> None:
    data.tobytes().decode()
    begins = data[offsets[offsets < len(data)]]
    if np.any(begins & 0xC0 == 0x80):
        raise ValueError("offsets cut a character of UTF-8 in two")
