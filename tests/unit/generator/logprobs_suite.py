"""What every engine promises of log-probabilities; each engine's test class inherits it."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import pytest
import torch

from services.generator.engine.interface import (
    Delta,
    Event,
    FinishReason,
    GenerationRequest,
    Logprobs,
    Sampling,
)
from services.generator.models import LoadedModel
from tests.unit.generator.engine_suite import (
    PROMPT,
    EngineMaker,
    collect,
    ending,
    ids_of,
    request,
    text_of,
)

TOLERANCES = {"float32": 1e-4, "int8": 0.01, "bfloat16": 0.02}
"""How far a model's log-probabilities, by its type, go with the shapes of its products.

Those of a token in the place of another are some 0.2 away.
"""


def asking(wanted: GenerationRequest, logprobs: int | None) -> GenerationRequest:
    return replace(wanted, logprobs=logprobs)


def deltas_of(events: list[Event]) -> list[Delta]:
    return [event for event in events if isinstance(event, Delta)]


def logprobs_of(events: list[Event]) -> list[Logprobs]:
    return [told for delta in deltas_of(events) for told in delta.logprobs]


def by_forward(loaded: LoadedModel, ids: Sequence[int]) -> torch.Tensor:
    """Log-probabilities of all tokens in the place of each of `ids`, which follow the prompt."""
    with torch.inference_mode():
        logits: torch.Tensor = loaded.model(torch.tensor([[*PROMPT, *ids]])).logits[0]
    return logits[len(PROMPT) - 1 : -1].float().log_softmax(dim=-1)


def check(loaded: LoadedModel, events: list[Event], count: int) -> None:
    """Compare what was told with what transformers' forward says of the same tokens."""
    ids, told = ids_of(events), logprobs_of(events)
    near = partial(pytest.approx, abs=TOLERANCES[loaded.description.dtype])
    assert ids
    assert [one.token.id for one in told] == ids
    for one, expected in zip(told, by_forward(loaded, ids), strict=True):
        assert one.token.logprob == near(float(expected[one.token.id]))
        values = [token.logprob for token in one.top]
        assert values == near(expected.topk(count).values.tolist())
        assert values == sorted(values, reverse=True)
        assert values == near([float(expected[token.id]) for token in one.top])
        assert len({token.id for token in one.top}) == count


class LogprobsSuite(EngineMaker):
    @pytest.mark.parametrize("count", [0, 1, 20])
    async def test_logprobs_are_those_of_the_models_forward_the_likeliest_first(
        self, tiny_llama: LoadedModel, count: int
    ) -> None:
        async with self.engine(tiny_llama) as engine:
            events = await collect(engine, asking(request(), count))
        check(tiny_llama, events, count)

    async def test_logprobs_of_phi3_are_those_of_its_forward(self, tiny_phi3: LoadedModel) -> None:
        async with self.engine(tiny_phi3) as engine:
            events = await collect(engine, asking(request(), 5))
        check(tiny_phi3, events, 5)

    async def test_logprobs_are_the_models_own_whatever_becomes_of_them_in_sampling(
        self, tiny_llama: LoadedModel
    ) -> None:
        sampling = Sampling(
            do_sample=True, temperature=2.0, top_k=9, top_p=0.9, repetition_penalty=3.0, seed=1
        )
        wanted = request(sampling=sampling, ignore_eos=False, min_new_tokens=12)
        async with self.engine(tiny_llama) as engine:
            events = await collect(engine, asking(wanted, 4))
        check(tiny_llama, events, 4)
        # So a token may come that is none of the likeliest, and is told of all the same.
        told = logprobs_of(events)
        assert any(one.token.id not in [token.id for token in one.top] for one in told)

    async def test_a_greedy_token_is_the_likeliest(self, tiny_llama: LoadedModel) -> None:
        async with self.engine(tiny_llama) as engine:
            told = logprobs_of(await collect(engine, asking(request(), 3)))
        assert len(told) == 12
        assert all(one.token == one.top[0] for one in told)

    async def test_each_text_is_told_as_it_asks_whoever_runs_beside_it(
        self, tiny_llama: LoadedModel
    ) -> None:
        counts = [None, 2, 0, None, 20, 1]
        sampling = Sampling(do_sample=True, repetition_penalty=1.3, seed=3)
        wanted = [asking(request(sampling=sampling), count) for count in counts]
        async with self.engine(tiny_llama) as engine:
            texts = await asyncio.gather(*(collect(engine, one) for one in wanted))
        for count, events in zip(counts, texts, strict=True):
            assert ids_of(events) == ids_of(texts[0])  # to ask changes nothing else
            if count is None:
                assert not logprobs_of(events)
            else:
                check(tiny_llama, events, count)

    @pytest.mark.parametrize("stop", [(), ("👧",), ("坂本", "zz")])
    async def test_logprobs_come_with_their_tokens_also_where_text_is_held_back(
        self, tiny_llama: LoadedModel, stop: tuple[str, ...]
    ) -> None:
        ids = tiny_llama.tokenizer.encode("a song 🎵 é 坂 👩‍👧 of the night")
        wanted = asking(request(max_new_tokens=len(ids), stop=stop), 2)
        async with self.engine(tiny_llama) as engine:
            with self.forced(tiny_llama, ids):
                events = await collect(engine, wanted)
        deltas = deltas_of(events)
        assert any(len(delta.token_ids) > 1 for delta in deltas)  # some were held back
        for delta in deltas:
            assert [one.token.id for one in delta.logprobs] == list(delta.token_ids)
            assert all(len(one.top) == 2 for one in delta.logprobs)
        assert ending(events).generated_tokens == len(logprobs_of(events))

    async def test_logprobs_of_the_models_end_are_told_too(self, tiny_llama: LoadedModel) -> None:
        stop_id = min(tiny_llama.stop_ids)
        async with self.engine(tiny_llama) as engine:
            with self.forced(tiny_llama, [50, 60, stop_id]):
                events = await collect(engine, asking(request(ignore_eos=False), 1))
        assert ending(events).reason is FinishReason.END_OF_SEQUENCE
        assert [one.token.id for one in logprobs_of(events)] == [50, 60, stop_id]

    async def test_logprobs_of_many_tokens_that_say_nothing_do_not_wait_for_the_end(
        self, tiny_llama: LoadedModel
    ) -> None:
        stop_id = min(tiny_llama.stop_ids)
        async with self.engine(tiny_llama) as engine:
            with self.forced(tiny_llama, [stop_id]):
                events = await collect(engine, asking(request(max_new_tokens=200), 20))
        assert text_of(events) == ""
        assert ids_of(events) == [stop_id] * 200
        assert len(logprobs_of(events)) == 200
        assert len(deltas_of(events)) == 4
