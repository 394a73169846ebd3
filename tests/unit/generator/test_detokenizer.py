from collections.abc import Sequence

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from services.generator.detokenizer import Detokenizer
from services.generator.models import LoadedModel
from services.generator.tokenization import Tokenizer
from tests.unit.generator.test_stopping import first_stop

FAMILY, RAINBOW = "👩\u200d👩\u200d👧\u200d👦", "🏳️\u200d🌈"
WORDS = [FAMILY, RAINBOW, "é", "नमस्ते", "坂本", " ", "song", "\n", "🎵", "  "]
texts = st.text(max_size=30) | st.lists(st.sampled_from(WORDS), max_size=8).map("".join)
stops = st.lists(st.text("aso 🎵坂", min_size=1, max_size=3), max_size=2)


def streamed(tokenizer: Tokenizer, ids: Sequence[int], stop: Sequence[str] = ()) -> list[str]:
    detokenizer = Detokenizer(tokenizer, stop)
    deltas = []
    for token_id in ids:
        deltas.append(detokenizer.push(token_id))
        if detokenizer.matched is not None:
            return deltas
    return [*deltas, detokenizer.flush()]


@given(text=texts, stop=stops)
@example("song 🎵 song", ["🎵"])
def test_deltas_add_up_to_the_text_up_to_the_stop(
    tiny_llama: LoadedModel, text: str, stop: list[str]
) -> None:
    tokenizer = tiny_llama.tokenizer
    ids = tokenizer.encode(text)
    expected, _ = first_stop(tokenizer.decode(ids), stop)
    assert "".join(streamed(tokenizer, ids, stop)) == expected


@given(ids=st.lists(st.integers(0, 399), max_size=30), stop=stops | st.just(["\ufffd"]))
@settings(max_examples=300)
def test_bytes_that_make_no_character_come_as_the_decoder_gives_them(
    tiny_llama: LoadedModel, ids: list[int], stop: list[str]
) -> None:
    expected, _ = first_stop(tiny_llama.tokenizer.decode(ids), stop)
    assert "".join(streamed(tiny_llama.tokenizer, ids, stop)) == expected


@given(text=texts)
def test_every_delta_is_whole_characters(tiny_llama: LoadedModel, text: str) -> None:
    deltas = streamed(tiny_llama.tokenizer, tiny_llama.tokenizer.encode(text))
    assert not any("\ufffd" in delta for delta in deltas) or "\ufffd" in text


@given(text=texts, stop=stops)
def test_sentencepiece_text_keeps_its_spaces(
    tiny_phi3: LoadedModel, text: str, stop: list[str]
) -> None:
    tokenizer = tiny_phi3.tokenizer
    ids = tokenizer.encode(text, add_special_tokens=False)
    expected, _ = first_stop(tokenizer.decode(ids), stop)
    assert "".join(streamed(tokenizer, ids, stop)) == expected


def test_bytes_that_fit_nowhere_hold_up_neither_the_text_nor_the_stop(
    tiny_phi3: LoadedModel,
) -> None:
    tokenizer = tiny_phi3.tokenizer
    note, rest = (
        tokenizer.encode(text, add_special_tokens=False) for text in ("🎵", "on. stop it")
    )
    broken = [note[-1]]  # the last byte of the note, which begins no character
    deltas = streamed(tokenizer, [*note, *broken, *rest], ["stop"])
    assert "".join(deltas).replace(" ", "") == "🎵\ufffdon."


@given(ids=st.lists(st.integers(3, 258) | st.integers(259, 31_999), max_size=30))
def test_any_sentencepiece_tokens_give_text_as_they_come(
    tiny_phi3: LoadedModel, ids: list[int]
) -> None:
    tokenizer = tiny_phi3.tokenizer
    plain = tokenizer.encode("the end", add_special_tokens=False)
    detokenizer = Detokenizer(tokenizer)
    for token_id in ids:
        detokenizer.push(token_id)
    assert "end" in "".join(detokenizer.push(token_id) for token_id in plain)


@pytest.mark.parametrize("silent", [32007, 32063], ids=["special", "without a name"])
def test_tokens_that_say_nothing_eat_no_space(tiny_phi3: LoadedModel, silent: int) -> None:
    tokenizer = tiny_phi3.tokenizer
    first, second = (tokenizer.encode(word, add_special_tokens=False) for word in ("one", "two"))
    ids = [*first, silent, *second]
    assert "".join(streamed(tokenizer, ids)) == tokenizer.decode(ids) == "one two"
