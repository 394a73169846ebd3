"""The torch engine on a GPU: no graph, padding, window or preemption changes a text."""

import random

import pytest
import torch

from services.generator.engine.interface import GenerationRequest, Sampling, Stopping
from services.generator.engine.scheduler import Limits
from services.generator.engine.torch_engine import TorchEngine
from services.generator.models import LoadedModel
from tests.unit.generator.engine_suite import collect, ids_of
from tests.unit.generator.test_torch_engine import arriving, by_generate, bytes_for, prompts

pytestmark = [
    pytest.mark.cuda,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
    pytest.mark.timeout(900),  # models are compiled
]


@pytest.fixture(params=["llama", "phi3"])
def loaded(request: pytest.FixtureRequest) -> LoadedModel:
    found: LoadedModel = request.getfixturevalue(f"tiny_{request.param}")
    assert found.model.device.type == "cuda"
    return found


def greedy(prompt: tuple[int, ...], count: int) -> GenerationRequest:
    return GenerationRequest(prompt, stopping=Stopping(count, ignore_eos=True))


async def made_by(engine: TorchEngine, wanted: list[GenerationRequest], at_once: int) -> object:
    try:
        return await arriving(engine, wanted, at_once)
    finally:
        await engine.close()


class TestAText:
    @pytest.mark.parametrize("at_once", [1, 3, 5, 12])
    async def test_is_that_of_generate_whatever_it_is_padded_with(
        self, loaded: LoadedModel, at_once: int
    ) -> None:
        asked = prompts(24, 400, 80)
        counts = [random.Random(number).randint(1, 40) for number in range(24)]
        expected = [by_generate(loaded, *one) for one in zip(asked, counts, strict=True)]
        engine = TorchEngine(loaded, 64, limits=Limits(running=12))
        wanted = [greedy(*one) for one in zip(asked, counts, strict=True)]
        assert await made_by(engine, wanted, at_once) == expected

    async def test_sees_no_farther_than_the_models_window(
        self, tiny_phi3: LoadedModel, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(tiny_phi3.model.config, "sliding_window", 20)
        asked = prompts(12, 32_000, 60)
        expected = [by_generate(tiny_phi3, prompt, 30) for prompt in asked]
        engine = TorchEngine(tiny_phi3, limits=Limits(tokens=48))
        assert await made_by(engine, [greedy(one, 30) for one in asked], 8) == expected

    async def test_that_loses_its_memory_is_computed_again(self, loaded: LoadedModel) -> None:
        asked = prompts(24, 400, 80)
        expected = [by_generate(loaded, prompt, 12) for prompt in asked]
        engine = TorchEngine(
            loaded, 64, kv_bytes=bytes_for(loaded, 8), limits=Limits(running=8, tokens=24)
        )
        assert await made_by(engine, [greedy(one, 12) for one in asked], 8) == expected

    async def test_beside_one_that_is_drawn_is_the_likeliest(self, loaded: LoadedModel) -> None:
        """What is drawn is not what the GPU went ahead with."""
        asked = prompts(8, 400, 60)
        drawn = Sampling(do_sample=True, temperature=2.0, top_k=0, seed=1)
        wanted = [
            GenerationRequest(
                prompt, drawn if number % 2 else Sampling(), greedy(prompt, 20).stopping
            )
            for number, prompt in enumerate(asked)
        ]
        engine = TorchEngine(loaded, limits=Limits(running=8))
        made = await made_by(engine, wanted, 8)
        assert isinstance(made, list)
        assert made[::2] == [by_generate(loaded, prompt, 20) for prompt in asked[::2]]
        assert made[1::2] != [by_generate(loaded, prompt, 20) for prompt in asked[1::2]]

    async def test_after_one_that_left_in_the_middle_is_whole(self, loaded: LoadedModel) -> None:
        """The step that was under way for it writes where nobody looks."""
        [asked] = prompts(1, 400, 60)
        engine = TorchEngine(loaded, kv_bytes=bytes_for(loaded, 8))
        try:
            for _ in range(5):
                stream = engine.generate(greedy(asked, 60))
                for _ in range(4):
                    await anext(stream)
                await stream.aclose()
                assert ids_of(await collect(engine, greedy(asked, 20))) == by_generate(
                    loaded, asked, 20
                )
        finally:
            await engine.close()
