"""The torch engine on a GPU: no graph, padding, window or preemption changes a text."""

import random
from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch

from services.generator.engine.interface import GenerationRequest, Sampling, Stopping
from services.generator.engine.scheduler import Limits
from services.generator.engine.torch_engine import TorchEngine
from services.generator.models import LoadedModel
from tests.unit.generator.engine_suite import collect, ids_of
from tests.unit.generator.same_texts import arriving, by_generate, bytes_for, preemptions, prompts

pytestmark = [
    pytest.mark.cuda,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
    pytest.mark.timeout(900),  # models are compiled
]


@pytest.fixture(params=["tiny_llama", "tiny_phi3", "windowed_phi3"])
def loaded(request: pytest.FixtureRequest) -> LoadedModel:
    found: LoadedModel = request.getfixturevalue(request.param)
    assert found.model.device.type == "cuda"
    return found


def greedy(prompt: Sequence[int], count: int) -> GenerationRequest:
    return GenerationRequest(tuple(prompt), stopping=Stopping(count, ignore_eos=True))


def expected(loaded: LoadedModel, wanted: Sequence[GenerationRequest]) -> list[list[int]]:
    return [by_generate(loaded, one.prompt_ids, one.stopping.max_new_tokens) for one in wanted]


async def made_by(
    engine: TorchEngine, wanted: Sequence[GenerationRequest], at_once: int
) -> list[list[int]]:
    try:
        return await arriving(engine, wanted, at_once)
    finally:
        await engine.close()


class TestAText:
    @pytest.mark.parametrize("at_once", [1, 3, 5, 12])
    async def test_is_that_of_generate_whatever_it_is_padded_with(
        self, loaded: LoadedModel, at_once: int
    ) -> None:
        chance = random.Random(2)
        wanted = [greedy(prompt, chance.randint(1, 40)) for prompt in prompts(24, 400)]
        texts = expected(loaded, wanted)
        engine = TorchEngine(loaded, 64, limits=Limits(running=12))
        assert await made_by(engine, wanted, at_once) == texts

    async def test_that_loses_its_memory_is_computed_again(self, loaded: LoadedModel) -> None:
        wanted = [greedy(prompt, 12) for prompt in prompts(24, 400)]
        texts, before = expected(loaded, wanted), preemptions(loaded)
        limits = Limits(running=8, tokens=24)
        engine = TorchEngine(loaded, 64, kv_bytes=bytes_for(loaded, 8), limits=limits)
        assert await made_by(engine, wanted, 8) == texts
        assert preemptions(loaded) > before

    async def test_beside_one_that_is_drawn_is_the_likeliest(self, loaded: LoadedModel) -> None:
        """What is drawn is not what the GPU went ahead with."""
        wanted = [greedy(prompt, 20) for prompt in prompts(8, 400)]
        texts = expected(loaded, wanted)
        drawn = Sampling(do_sample=True, temperature=2.0, top_k=0, seed=1)
        wanted[1::2] = [replace(one, sampling=drawn) for one in wanted[1::2]]
        made = await made_by(TorchEngine(loaded, limits=Limits(running=8)), wanted, 8)
        assert made[::2] == texts[::2]
        assert made[1::2] != texts[1::2]

    async def test_that_is_drawn_is_the_same_alone_and_among_others(
        self, loaded: LoadedModel
    ) -> None:
        wanted = [
            replace(
                greedy(prompt, 12),
                sampling=Sampling(do_sample=True, temperature=1.5, top_k=50, seed=number),
            )
            for number, prompt in enumerate(prompts(12, 400))
        ]
        engine = TorchEngine(loaded, limits=Limits(running=12))
        alone = [ids_of(await collect(engine, one)) for one in wanted]
        assert await made_by(engine, wanted, 12) == alone

    async def test_after_one_that_left_in_the_middle_is_whole(self, loaded: LoadedModel) -> None:
        """The step that was under way for it writes where nobody looks."""
        [prompt] = prompts(1, 400)
        [text] = expected(loaded, [greedy(prompt, 20)])
        engine = TorchEngine(loaded, kv_bytes=bytes_for(loaded, 8), limits=Limits(running=2))
        try:
            for _ in range(5):
                stream = engine.generate(greedy(prompt, 60))
                for _ in range(4):
                    await anext(stream)
                await stream.aclose()
                assert ids_of(await collect(engine, greedy(prompt, 20))) == text
        finally:
            await engine.close()
