"""The sampler against transformers' own steps, one row at a time."""

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers.generation import logits_process

from services.generator.engine.interface import Sampling
from services.generator.engine.sampler import Candidates, Choice, choose

VOCABULARY = 30

drawing = st.builds(
    Sampling,
    do_sample=st.just(True),
    temperature=st.sampled_from([0.3, 0.7, 1.0, 2.5]),
    top_p=st.sampled_from([0.1, 0.5, 0.9, 1.0]),
    top_k=st.sampled_from([0, 1, 5, 50]),
    min_p=st.sampled_from([0.0, 0.05, 0.9]),
    repetition_penalty=st.sampled_from([1.0, 1.3, 0.8]),
)
sampling = drawing | st.builds(Sampling, repetition_penalty=st.sampled_from([1.0, 1.3]))
rows = st.tuples(
    sampling,
    st.lists(st.integers(0, VOCABULARY - 1), min_size=1, max_size=6),
    st.lists(st.integers(0, 3), max_size=2),
    st.integers(0, 2**63 - 1),
)


def logits_of(count: int, seed: int = 0) -> torch.Tensor:
    return 3 * torch.randn(count, VOCABULARY, generator=torch.Generator().manual_seed(seed))


def candidates(row: tuple[Sampling, list[int], list[int], int]) -> Candidates:
    settings_, tokens, forbidden, seed = row
    return Candidates(Choice(settings_, seed), tokens, forbidden)


def by_transformers(logits: torch.Tensor, one: Candidates) -> int:
    """What `generate` would choose for a single row."""
    wanted, ids = one.choice.sampling, torch.tensor([list(one.tokens)])
    steps: list[Any] = [logits_process.RepetitionPenaltyLogitsProcessor(wanted.repetition_penalty)]
    if one.forbidden:
        steps.append(logits_process.SuppressTokensLogitsProcessor(list(one.forbidden), "cpu"))
    if wanted.do_sample:
        steps.append(logits_process.TemperatureLogitsWarper(wanted.temperature))
        if wanted.top_k:
            steps.append(logits_process.TopKLogitsWarper(wanted.top_k))
        if wanted.top_p < 1:
            steps.append(logits_process.TopPLogitsWarper(wanted.top_p))
        if wanted.min_p:
            steps.append(logits_process.MinPLogitsWarper(wanted.min_p))
    process: Any = logits_process.LogitsProcessorList(steps)
    scores = process(ids, logits[None].clone())
    if not wanted.do_sample:
        return int(scores.argmax())
    torch.manual_seed(one.choice.seed or 0)
    return int(torch.multinomial(scores.softmax(dim=-1), 1))


@settings(max_examples=300, deadline=None)
@given(st.lists(rows, min_size=1, max_size=6), st.integers(0, 1000))
def test_each_row_is_chosen_as_generate_would_choose_it_alone(
    drawn: list[tuple[Sampling, list[int], list[int], int]], seed: int
) -> None:
    logits = logits_of(len(drawn), seed)
    expected = [
        by_transformers(row, candidates(one)) for row, one in zip(logits, drawn, strict=True)
    ]
    assert choose(logits.clone(), [candidates(one) for one in drawn]) == expected


def test_a_sequence_s_chance_goes_on_from_draw_to_draw() -> None:
    wanted = Sampling(do_sample=True, top_k=0, temperature=5.0)

    def draws(companions: int) -> list[int]:
        one = Candidates(Choice(wanted, 7), [0])
        others = [Candidates(Choice(wanted, 100 + k), [0]) for k in range(companions)]
        return [choose(logits_of(1).repeat(1 + companions, 1), [one, *others])[0] for _ in range(8)]

    assert draws(0) == draws(5)
    assert len(set(draws(0))) > 1


def test_nothing_is_chosen_from_nothing() -> None:
    assert choose(torch.empty(0, VOCABULARY), []) == []


@pytest.mark.parametrize("do_sample", [True, False])
def test_what_is_forbidden_never_comes(do_sample: bool) -> None:
    logits = torch.zeros(1, VOCABULARY)
    logits[0, 4] = 100.0
    one = Candidates(Choice(Sampling(do_sample=do_sample), 1), [0], forbidden=[4])
    assert choose(logits, [one]) != [4]


@pytest.mark.parametrize("extreme", [{"temperature": 1e-40}, {"repetition_penalty": 1e-40}])
@pytest.mark.parametrize("do_sample", [True, False])
def test_settings_beyond_what_floats_hold_disturb_nobody(
    extreme: dict[str, Any], do_sample: bool
) -> None:
    logits = logits_of(2)
    other = Candidates(Choice(Sampling(do_sample=True), 3), [0])
    alone = choose(logits[1:].clone(), [Candidates(Choice(Sampling(do_sample=True), 3), [0])])
    wanted = Sampling(do_sample=do_sample, top_k=0, **extreme)
    tokens = choose(logits.clone(), [Candidates(Choice(wanted, 3), [4, 5]), other])
    assert tokens[1:] == alone
    assert 0 <= tokens[0] < VOCABULARY
    if "temperature" in extreme:
        assert tokens[0] == int(logits[0].argmax())
