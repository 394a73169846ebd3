from itertools import pairwise

from hypothesis import example, given
from hypothesis import strategies as st

from services.generator.stopping import StopMatcher

# Few letters, so that stop strings occur, overlap and nearly occur.
texts = st.text("abc", max_size=30) | st.text(max_size=30)
stop_lists = st.lists(
    st.text("abc", min_size=1, max_size=4) | st.text(min_size=1, max_size=3), max_size=4
)


def pieces(text: str, cuts: list[int]) -> list[str]:
    places = [0, *sorted(cut % (len(text) + 1) for cut in cuts), len(text)]
    return [text[begin:end] for begin, end in pairwise(places)]


def first_stop(text: str, stops: list[str]) -> tuple[str, str | None]:
    """What is before the stop string that is complete first, and that string; letter by letter."""
    for end in range(len(text) + 1):
        found = [stop for stop in stops if text[:end].endswith(stop)]
        if found:
            longest = max(found, key=len)
            return text[: end - len(longest)], longest
    return text, None


@given(texts, stop_lists, st.lists(st.integers(0, 100), max_size=10))
@example("abcd", ["abcd", "bc"], [])
@example("abcabd", ["abd"], [4])
@example("xabc", ["bc", "abc"], [])
def test_the_text_ends_before_the_stop_that_is_complete_first(
    text: str, stops: list[str], cuts: list[int]
) -> None:
    matcher = StopMatcher(stops)
    passed = "".join(matcher.push(piece) for piece in pieces(text, cuts)) + matcher.flush()
    assert (passed, matcher.matched) == first_stop(text, stops)


@given(texts, stop_lists)
@example("aab", ["aac"])
def test_nothing_is_held_back_but_the_beginning_of_a_stop(text: str, stops: list[str]) -> None:
    matcher = StopMatcher(stops)
    passed = ""
    for end in range(1, len(text) + 1):
        passed += matcher.push(text[end - 1])
        if matcher.matched is not None:
            return
        held = text[len(passed) : end]
        assert held == "" or any(stop.startswith(held) for stop in stops)


def test_after_a_stop_nothing_is_passed_on() -> None:
    matcher = StopMatcher(["b"])
    assert matcher.push("abc") == "a"
    assert matcher.push("more") + matcher.flush() == ""
