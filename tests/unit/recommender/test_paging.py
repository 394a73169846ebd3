"""Page tokens: only what was made for a query is taken for it."""

import base64
import contextlib

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from services.recommender import paging
from services.recommender.paging import PageTokenError

texts = st.text(st.characters(exclude_categories=["Cs"]))
offsets = st.integers(0, 2**32 - 1)


@given(offsets, texts)
def test_a_token_gives_back_its_offset(offset: int, query: str) -> None:
    assert paging.decode(paging.encode(offset, query), query) == offset


@given(texts)
def test_no_token_asks_for_the_first_page(query: str) -> None:
    assert paging.decode("", query) == 0


@given(offsets, texts)
def test_a_token_can_stand_in_an_address(offset: int, query: str) -> None:
    token = paging.encode(offset, query)
    assert token.isascii()
    assert set(token) & set("+/&?#% ") == set()


@given(offsets, texts, texts)
def test_a_token_of_another_query_is_refused(offset: int, query: str, other: str) -> None:
    assume(query != other)
    with pytest.raises(PageTokenError):
        paging.decode(paging.encode(offset, query), other)


@given(st.text(min_size=1) | st.binary(min_size=1).map(lambda b: base64.b64encode(b).decode()))
def test_garbage_is_refused(garbage: str) -> None:
    with pytest.raises(PageTokenError):
        paging.decode(garbage, "halo")


@given(offsets, st.integers(0, 100), st.text(max_size=2))
def test_a_token_that_was_cut_or_lengthened_is_refused(offset: int, cut: int, more: str) -> None:
    token = paging.encode(offset, "halo")
    changed = token[:cut] + more
    assume(changed and changed != token)
    # Another offset with the right query is a token too; nothing else is.
    with contextlib.suppress(PageTokenError):
        assert paging.encode(paging.decode(changed, "halo"), "halo") == changed
