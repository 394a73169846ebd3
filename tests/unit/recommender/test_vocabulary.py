"""The vocabulary: words have numbers, and misspelt words are near the right ones."""

import string

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rapidfuzz import fuzz

from services.recommender.vocabulary import Vocabulary

letters = st.sampled_from(string.ascii_lowercase)
a_word = st.text(st.sampled_from("abcdéß9坂"), min_size=1, max_size=9)
long_words = st.text(letters, min_size=4, max_size=12)
lists = st.lists(a_word, max_size=12)


def alike(vocabulary: Vocabulary, word: str) -> dict[str, float]:
    numbers, similarity = vocabulary.similar(word)
    assert numbers.tolist() == sorted(set(numbers.tolist()))
    return dict(zip(vocabulary.read(numbers), similarity.tolist(), strict=True))


@given(lists)
def test_distinct_words_are_numbered_in_ascending_order(words: list[str]) -> None:
    vocabulary = Vocabulary.from_words(words)
    distinct = sorted(set(words))
    assert len(vocabulary) == len(distinct)
    assert vocabulary.read(np.arange(len(vocabulary))) == distinct
    assert [vocabulary.number(word) for word in distinct] == list(range(len(distinct)))


@given(lists, a_word)
def test_a_word_that_is_not_there_has_no_number(words: list[str], other: str) -> None:
    number = Vocabulary.from_words(words).number(other)
    assert (number is not None) == (other in words)


@given(lists)
def test_a_size_is_that_of_the_word_in_utf8(words: list[str]) -> None:
    vocabulary = Vocabulary.from_words(words)
    sizes = vocabulary.sizes(np.arange(len(vocabulary))).tolist()
    assert sizes == [len(word.encode()) for word in sorted(set(words))]


@given(lists, a_word)
def test_similarity_is_that_of_rapidfuzz_from_65_percent_on(words: list[str], word: str) -> None:
    for other, similarity in alike(Vocabulary.from_words([*words, word]), word).items():
        assert similarity == pytest.approx(fuzz.ratio(word, other) / 100)
        assert 0.65 <= similarity <= 1


@given(lists, a_word)
def test_a_word_is_like_itself_and_no_other_is_as_like(words: list[str], word: str) -> None:
    similar = alike(Vocabulary.from_words([*words, word]), word)
    assert [other for other, similarity in similar.items() if similarity == 1] == [word]


@given(lists, long_words, st.data())
def test_a_word_with_one_typo_is_like_the_word(
    words: list[str], word: str, data: st.DataObject
) -> None:
    place = data.draw(st.integers(0, len(word) - 2))
    before, one, two, behind = word[:place], word[place], word[place + 1], word[place + 2 :]
    other = data.draw(letters)
    typo = data.draw(st.sampled_from([two, one + one + two, other + two, two + one]))
    assert word in alike(Vocabulary.from_words([*words, word]), before + typo + behind)


@given(lists, a_word)
def test_a_vocabulary_is_rebuilt_from_its_arrays(words: list[str], word: str) -> None:
    made = Vocabulary.from_words(words)
    rebuilt = Vocabulary(made.arrays())
    assert alike(rebuilt, word) == alike(made, word)
    assert rebuilt.number(word) == made.number(word)


def test_a_vocabulary_without_words_knows_none() -> None:
    empty = Vocabulary.from_words([])
    assert empty.number("halo") is None
    assert alike(empty, "halo") == {}


@pytest.mark.parametrize(
    ("data", "offsets"),
    [
        (b"ab cd", [0, 3, 5]),
        (b"a b c ", [0, 2, 6]),
        (b"ab  ", [0, 3, 4]),
        (b"ab cd ", [0, 3, 3, 6]),
        (b"\xc3 a ", [0, 2, 4]),
    ],
    ids=["no space behind", "two in one", "an empty one", "none", "not UTF-8"],
)
def test_bytes_that_are_not_words_are_refused(data: bytes, offsets: list[int]) -> None:
    arrays = Vocabulary.from_words(["ab", "cd", "ef"][: len(offsets) - 1]).arrays()
    arrays["search_words_data"] = np.frombuffer(data, np.uint8)
    arrays["search_words_offsets"] = np.array(offsets)
    with pytest.raises(ValueError, match=r"words|decode"):
        Vocabulary(arrays)


def test_lists_of_other_than_all_bigrams_are_refused() -> None:
    arrays = Vocabulary.from_words(["ab"]).arrays()
    arrays["search_bigram_offsets"] = np.append(arrays["search_bigram_offsets"], 3)
    with pytest.raises(ValueError, match="search_bigram_offsets has 65537 rows"):
        Vocabulary(arrays)
