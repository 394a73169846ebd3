"""What texts are compared with, and the ways of the torch engine that must not change one."""

import asyncio
import random
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import torch
from prometheus_client import REGISTRY

from services.generator.engine.interface import Engine, FinishReason, GenerationRequest
from services.generator.engine.scheduler import Limits
from services.generator.engine.torch_engine import TorchEngine, block_bytes
from services.generator.models import LoadedModel
from tests.unit.generator.engine_suite import collect, ending, ids_of


@dataclass(frozen=True, slots=True)
class Way:
    """How the engine goes about its work.

    Attributes:
        step: Most tokens of a step; a longer prompt is computed in several.
        share: Whether beginnings that prompts have in common are computed once.
        blocks: Of the cache; too few for all that may run means that texts lose their memory.
    """

    step: int = 512
    share: bool = True
    blocks: int | None = None


WAYS = {
    "as it comes": Way(),
    "in small chunks": Way(step=7),
    "without sharing": Way(share=False),
    "in little memory": Way(blocks=6),
    "in little memory, in small chunks, without sharing": Way(step=7, share=False, blocks=6),
}


@asynccontextmanager
async def engine_of(loaded: LoadedModel, way: Way) -> AsyncIterator[Engine]:
    """An engine that takes up to 96 requests."""
    kv_bytes = None if way.blocks is None else bytes_for(loaded, way.blocks)
    limits = Limits(running=32, tokens=way.step)
    engine = TorchEngine(loaded, 64, kv_bytes=kv_bytes, limits=limits, share=way.share)
    try:
        yield engine
    finally:
        await engine.close()


def bytes_for(loaded: LoadedModel, blocks: int) -> int:
    """Memory for so many blocks of keys and values."""
    return blocks * block_bytes(loaded)


def preemptions(loaded: LoadedModel) -> float:
    """How often a text has lost its memory so far."""
    labels = {"model_name": loaded.description.name}
    return REGISTRY.get_sample_value("vllm:num_preemptions_total", labels) or 0.0


def by_generate(loaded: LoadedModel, prompt: Sequence[int], count: int) -> list[int]:
    """What transformers' greedy `generate` says to a prompt alone."""
    loaded.model.set_attn_implementation("sdpa")  # an engine's own may be there
    ids = torch.tensor([list(prompt)], device=loaded.model.device)
    made: Any = loaded.model.generate(
        ids,
        attention_mask=torch.ones_like(ids),
        max_new_tokens=count,
        do_sample=False,
        eos_token_id=None,
        pad_token_id=0,
    )
    found: list[int] = made[0, len(prompt) :].tolist()
    return found


def prompts(count: int, vocabulary: int, longest: int = 80) -> list[tuple[int, ...]]:
    """Prompts of mixed length, half of which begin alike."""
    chance = random.Random(5)
    common = [chance.randrange(10, vocabulary) for _ in range(longest // 2)]
    return [
        (
            *(common if number % 2 else ()),
            *(chance.randrange(10, vocabulary) for _ in range(chance.randint(1, len(common)))),
        )
        for number in range(count)
    ]


async def arriving(
    engine: Engine, wanted: Sequence[GenerationRequest], at_once: int
) -> list[list[int]]:
    """The tokens of requests that come at random times, so many at a time at most."""
    places, chance = asyncio.Semaphore(at_once), random.Random(3)

    async def ask(one: GenerationRequest) -> list[int]:
        async with places:
            await asyncio.sleep(chance.random() * 0.01)
            events = await collect(engine, one)
            assert ending(events).reason is FinishReason.LENGTH
            return ids_of(events)

    return await asyncio.gather(*map(ask, wanted))
