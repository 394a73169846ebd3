"""Words: what is left of a text when people need not type it exactly."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.recommender.words import words, words_of_host_and_guests

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
typed = st.lists(
    st.sampled_from(["The", "feat.", "ft", "w/", "(with", "N'", "&", "T.I.", "P!nk", "Halo", "é"]),
    max_size=5,
).map(" ".join)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The Beyoncé's & T.I.", ["beyonces", "and", "ti"]),
        ("Straße", ["strasse"]),
        ("Röyksopp, Mø, Łona & Ægir", ["royksopp", "mo", "lona", "and", "aegir"]),
        ("Don't", ["dont"]),
        ("Don\u2019t", ["dont"]),
        ("Don\u00b4t", ["dont"]),
        ("Wait...What", ["wait", "what"]),
        ("AC/DC", ["ac", "dc"]),
        ("snake_case", ["snake", "case"]),
        ("P!nk", ["pink"]),
        ("Help! Wham!", ["help", "wham"]),
        ("3OH!3", ["3oh", "3"]),
        ("Ke$ha, A$AP & Stack$", ["kesha", "asap", "and", "stacks"]),
        ("$500", ["500"]),
        ("Rock 'n' Roll", ["rock", "and", "roll"]),
        ("Guns N' Roses", ["guns", "and", "roses"]),
        ("N.W.A", ["nwa"]),
        ("N W A", ["n", "w", "a"]),
        ("The The", ["the", "the"]),
        ("THE", ["the"]),
        ("\uff21\uff22\uff22\uff21 \uff06 \ufb01ne", ["abba", "and", "fine"]),
        ("\u2121", ["tel"]),
        ("- !?", []),
        ("", []),
    ],
)
def test_words_are_what_is_left_without_case_accents_and_punctuation(
    text: str, expected: list[str]
) -> None:
    assert words(text) == expected


@pytest.mark.parametrize(
    ("text", "host", "guests"),
    [
        ("Gucci Time (w/ Swizz Beatz)", ["gucci", "time"], ["swizz", "beatz"]),
        ("Umbrella feat. Jay-Z", ["umbrella"], ["jay", "z"]),
        ("Smooth [Featuring Rob Thomas]", ["smooth"], ["rob", "thomas"]),
        ("Monster ft. Kanye & Nicki", ["monster"], ["kanye", "and", "nicki"]),
        ("Waylon w/Hank", ["waylon"], ["hank"]),
        ("Boom Boom (with Santana)", ["boom", "boom"], ["with", "santana"]),
        ("Boom (w/ One) (feat. Two)", ["boom"], ["one", "two"]),
        ("Stay with Me", ["stay", "with", "me"], []),
        ("Birds of a Feather", ["birds", "of", "a", "feather"], []),
        ("Little Feat", ["little", "feat"], []),
        ("w/ Drake", [], ["drake"]),
    ],
)
def test_guests_are_those_behind_their_mark(text: str, host: list[str], guests: list[str]) -> None:
    assert words_of_host_and_guests(text) == (host, guests)
    assert words(text) == host + guests


@given(texts | typed)
def test_words_of_words_are_the_same_words(text: str) -> None:
    assert words(" ".join(words(text))) == words(text)


@given(texts | typed)
def test_words_do_not_depend_on_case(text: str) -> None:
    assert words(text.casefold()) == words(text)
