"""Columns: many items of different lengths in two flat arrays."""

import doctest

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.recommender import columns
from services.recommender.columns import StringColumn, check_offsets, offsets_of, ragged, spans

texts = st.text(st.characters(exclude_categories=["Cs"]))


@given(st.lists(texts))
def test_a_string_column_gives_back_what_was_packed(strings: list[str]) -> None:
    column = StringColumn.from_strings(strings)
    assert [column[row] for row in range(len(column))] == strings
    assert [column.encoded(row) for row in range(len(column))] == [s.encode() for s in strings]


@given(st.lists(texts))
def test_a_string_column_is_rebuilt_from_its_two_arrays(strings: list[str]) -> None:
    packed = StringColumn.from_strings(strings)
    column = StringColumn(packed.data, packed.offsets)
    assert [column[row] for row in range(len(column))] == strings


@pytest.mark.parametrize("row", [-1, 2])
def test_a_row_that_is_not_there_is_an_index_error(row: int) -> None:
    with pytest.raises(IndexError, match=f"row {row} of a column of 2"):
        StringColumn.from_strings(["a", "b"])[row]


@given(st.lists(st.lists(st.integers(0, 2**31 - 1))))
def test_ragged_lists_are_cut_out_of_the_values_by_the_offsets(lists: list[list[int]]) -> None:
    values, offsets = ragged(lists)
    assert values.dtype == np.int32
    assert offsets.dtype == np.int64
    check_offsets(offsets, len(values))
    assert [values[offsets[k] : offsets[k + 1]].tolist() for k in range(len(lists))] == lists


def test_offsets_of_no_pieces_are_one_zero() -> None:
    assert offsets_of([]).tolist() == [0]


@pytest.mark.parametrize(
    "offsets",
    [[], [1, 4], [0, 3], [0, 5], [0, 3, 2, 4], [[0, 4]]],
    ids=["none", "gap at the start", "too short", "too long", "overlap", "two rows"],
)
def test_offsets_that_do_not_cut_the_values_are_refused(offsets: list[int]) -> None:
    with pytest.raises(ValueError, match="offsets"):
        check_offsets(np.array(offsets, np.int64), 4)


@given(pairs=st.lists(st.tuples(st.integers(0, 9), st.integers(0, 4)), max_size=6))
def test_spans(pairs: list[tuple[int, int]]) -> None:
    begins, lengths = np.array(pairs, np.int64).reshape(-1, 2).T
    expected = [begin + k for begin, length in pairs for k in range(length)]
    assert spans(begins, lengths).tolist() == expected


def test_the_example_is_true() -> None:
    assert doctest.testmod(columns).attempted == 1
