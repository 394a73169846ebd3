"""Inverted lists: from the terms of documents to the documents of terms."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.recommender.columns import ragged
from services.recommender.inverted import InvertedLists, gather

TERMS = 6
documents = st.lists(st.lists(st.integers(0, TERMS - 1)))


@given(st.lists(st.lists(st.integers(0, 99)), min_size=1), st.data())
def test_gathered_pieces_are_the_pieces_one_after_the_other(
    lists: list[list[int]], data: st.DataObject
) -> None:
    rows = data.draw(st.lists(st.integers(0, len(lists) - 1)))
    values, lengths = gather(*ragged(lists), np.array(rows, np.int64))
    assert values.tolist() == [number for row in rows for number in lists[row]]
    assert lengths.tolist() == [len(lists[row]) for row in rows]


@given(documents)
def test_a_term_has_the_documents_that_hold_it_as_often_as_they_do(held: list[list[int]]) -> None:
    lists = InvertedLists.from_terms(*ragged(held), TERMS)
    assert len(lists) == TERMS
    for term in range(TERMS):
        expected = [k for k, terms in enumerate(held) for each in terms if each == term]
        assert lists.of(np.array([term]))[0].tolist() == expected


@given(documents)
def test_lists_are_rebuilt_from_their_arrays(held: list[list[int]]) -> None:
    made = InvertedLists.from_terms(*ragged(held), TERMS)
    rebuilt = InvertedLists(made.documents, made.offsets, len(held))
    assert rebuilt.of(np.arange(TERMS))[0].tolist() == made.documents.tolist()


@pytest.mark.parametrize("number", [-1, 3])
def test_documents_out_of_range_are_refused(number: int) -> None:
    with pytest.raises(ValueError, match="numbers outside 0 to 2"):
        InvertedLists(np.array([0, number], np.int32), np.array([0, 2]), 3)


def test_offsets_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="offsets"):
        InvertedLists(np.zeros(2, np.int32), np.array([0, 3]), 3)
