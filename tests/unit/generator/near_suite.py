"""What the torch engine promises of texts in any type: nothing that it does leads far away."""

import asyncio

import pytest

from services.generator.engine.cpu_attention import BLOCK_SIZE
from services.generator.engine.interface import FinishReason, Sampling
from services.generator.models import LoadedModel
from tests.unit.generator.engine_suite import (
    PROMPT,
    collect,
    ending,
    ids_of,
    request,
    text_of,
)
from tests.unit.generator.logprobs_suite import asking, check
from tests.unit.generator.same_texts import Way, engine_of, preemptions


class NearSuite:
    async def test_a_prompt_of_several_steps_needs_nobody_beside_it(
        self, tiny_llama: LoadedModel
    ) -> None:
        step = 7  # so that the model is run with no token to choose after it
        assert len(PROMPT) > 2 * step
        async with engine_of(tiny_llama, Way(step=step)) as engine:
            events = await collect(engine, asking(request(), 2))
        check(tiny_llama, events, 2)

    async def test_a_beginning_in_common_is_computed_once(self, tiny_llama: LoadedModel) -> None:
        async with engine_of(tiny_llama, Way()) as engine:
            first, again = [await collect(engine, asking(request(), 2)) for _ in range(2)]
        assert ending(again).cached_tokens == len(PROMPT) // BLOCK_SIZE * BLOCK_SIZE > 0
        for events in (first, again):
            check(tiny_llama, events, 2)

    @pytest.mark.parametrize("way", [Way(blocks=8), Way(step=7, share=False, blocks=8)])
    async def test_texts_that_lose_their_memory_go_on_where_they_were(
        self, tiny_llama: LoadedModel, way: Way
    ) -> None:
        samplings = [Sampling(do_sample=True, seed=seed) for seed in range(8)]
        wanted = [asking(request(sampling=each, max_new_tokens=50), 2) for each in samplings]
        before = preemptions(tiny_llama)
        async with engine_of(tiny_llama, way) as engine:
            texts = await asyncio.gather(*(collect(engine, one) for one in wanted))
        assert preemptions(tiny_llama) > before
        for events in texts:
            assert ending(events).reason is FinishReason.LENGTH
            assert text_of(events) == tiny_llama.tokenizer.decode(ids_of(events))
            assert len(ids_of(events)) == 50
            check(tiny_llama, events, 2)
