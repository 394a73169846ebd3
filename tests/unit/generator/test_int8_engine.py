"""The torch engine and a model in eight bits, which the embedded one is by default."""

import asyncio
from pathlib import Path

import pytest

from services.generator.engine.interface import Engine, Sampling
from services.generator.engine.scheduler import Limits
from services.generator.engine.torch_engine import BLOCK_SIZE, TorchEngine
from services.generator.layers.replacement import available
from services.generator.models import LoadedModel, load
from tests.unit.generator.embedding_suite import EmbeddingSuite
from tests.unit.generator.engine_suite import PROMPT, collect, ending, ids_of, request
from tests.unit.generator.in_process_suite import InProcessSuite
from tests.unit.generator.logprobs_suite import LogprobsSuite, asking, check
from tests.unit.generator.same_texts import Way, engine_of, preemptions

pytestmark = pytest.mark.skipif(not available(), reason="this torch cannot compute in eight bits")


@pytest.fixture(scope="module")
def tiny_llama(tiny_llama_int8: LoadedModel) -> LoadedModel:
    """Takes the place of the one in float32 in the suites."""
    return tiny_llama_int8


@pytest.fixture(scope="module")
def tiny_phi3(tiny_phi3: LoadedModel) -> LoadedModel:
    """Takes the place of the one in float32 in the suites."""
    return load(tiny_phi3.model.name_or_path, cache=Path(), dtype="int8")


class TestTorchEngineInEightBits(InProcessSuite, EmbeddingSuite, LogprobsSuite):
    def make(self, loaded: LoadedModel, *, max_waiting: int = 16, max_running: int = 8) -> Engine:
        return TorchEngine(loaded, max_waiting, limits=Limits(running=max_running))


async def test_a_prompt_of_several_steps_needs_nobody_beside_it(tiny_llama: LoadedModel) -> None:
    step = 7  # so that the model is run with no token to choose after it
    assert len(PROMPT) > 2 * step
    async with engine_of(tiny_llama, Way(step=step)) as engine:
        events = await collect(engine, asking(request(), 2))
    check(tiny_llama, events, 2)


async def test_a_beginning_in_common_is_computed_once(tiny_llama: LoadedModel) -> None:
    async with engine_of(tiny_llama, Way()) as engine:
        first, again = [await collect(engine, asking(request(), 2)) for _ in range(2)]
    assert ending(again).cached_tokens == len(PROMPT) // BLOCK_SIZE * BLOCK_SIZE > 0
    for events in (first, again):
        check(tiny_llama, events, 2)


@pytest.mark.parametrize("share", [True, False])
async def test_texts_that_lose_their_memory_go_on_where_they_were(
    tiny_llama: LoadedModel, share: bool
) -> None:
    wanted = [
        asking(request(sampling=Sampling(do_sample=True, seed=seed), max_new_tokens=50), 2)
        for seed in range(8)
    ]
    before = preemptions(tiny_llama)
    async with engine_of(tiny_llama, Way(share=share, blocks=8)) as engine:
        texts = await asyncio.gather(*(collect(engine, one) for one in wanted))
    assert preemptions(tiny_llama) > before
    for events in texts:
        assert len(ids_of(events)) == 50
        check(tiny_llama, events, 2)
