from hypothesis import given
from hypothesis import strategies as st

from services.generator.hidden_states import batches

lengths = st.lists(st.integers(1, 30), max_size=40)


@given(lengths=lengths, most=st.integers(1, 100))
def test_every_prompt_is_in_one_batch(lengths: list[int], most: int) -> None:
    places = [place for batch in batches(lengths, most) for place in batch]
    assert sorted(places) == list(range(len(lengths)))


@given(lengths=lengths, most=st.integers(1, 100))
def test_a_padded_batch_keeps_the_bound_or_is_one_prompt(lengths: list[int], most: int) -> None:
    for batch in batches(lengths, most):
        assert len(batch) == 1 or len(batch) * max(lengths[place] for place in batch) <= most


@given(lengths=lengths, most=st.integers(1, 100))
def test_prompts_of_like_length_are_together_and_batches_are_full(
    lengths: list[int], most: int
) -> None:
    made = list(batches(lengths, most))
    ordered = [lengths[place] for batch in made for place in batch]
    assert ordered == sorted(lengths, reverse=True)
    for batch in made[:-1]:
        assert (len(batch) + 1) * lengths[batch[0]] > most


def test_like_prompts_share_a_batch() -> None:
    assert list(batches([2, 9, 2, 8, 1], 20)) == [[1, 3], [0, 2, 4]]
