"""Ways to generate on a GPU that benchmarks compare: our engine, and two of transformers.

Each is a context that is given a model, and how many texts there are at most at a time.
"""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace

import torch
from transformers import ContinuousBatchingConfig, GenerationConfig

from services.generator.engine.interface import GenerationRequest, Stopping
from services.generator.engine.torch_engine import TorchEngine, usual_limits
from services.generator.models import LoadedModel

Prompts = list[list[int]]
Generate = Callable[[Prompts, int], None]
"""Makes so many tokens behind each prompt, all prompts at once."""


@contextmanager
def engine(loaded: LoadedModel, most: int) -> Iterator[Generate]:
    """Our engine, all of it but the RPCs."""
    limits = replace(usual_limits(loaded.model.device), running=most)
    made = TorchEngine(loaded, limits=limits)
    loop = asyncio.new_event_loop()

    async def generate(prompts: Prompts, new: int) -> None:
        await asyncio.gather(*(_collect(made, prompt, new) for prompt in prompts))

    try:
        yield lambda prompts, new: loop.run_until_complete(generate(prompts, new))
    finally:
        loop.run_until_complete(made.close())
        loop.close()


async def _collect(made: TorchEngine, prompt: list[int], new: int) -> None:
    request = GenerationRequest(tuple(prompt), stopping=Stopping(new, ignore_eos=True))
    async for _ in made.generate(request):
        pass


@contextmanager
def static_generate(loaded: LoadedModel, most: int) -> Iterator[Generate]:
    """`generate` with a static cache, which transformers compiles on a GPU by itself."""
    model = loaded.model
    model.set_attn_implementation("sdpa")

    def generate(prompts: Prompts, new: int) -> None:
        ids = torch.tensor(prompts, device=model.device)
        model.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=new,
            do_sample=False,
            eos_token_id=None,
            pad_token_id=0,
            cache_implementation="static",
        )

    yield generate


@contextmanager
def continuous_batching(loaded: LoadedModel, most: int) -> Iterator[Generate]:
    """The continuous batching of transformers, as it sets itself up on a GPU."""
    model = loaded.model
    model.set_attn_implementation("sdpa")
    config = GenerationConfig(do_sample=False, eos_token_id=-1, pad_token_id=0)
    batching = ContinuousBatchingConfig()
    if model.device.type == "cpu":  # of whose memory it would take most
        batching = ContinuousBatchingConfig(num_blocks=16, max_batch_tokens=256)
    with model.continuous_batching_context_manager(
        generation_config=config, continuous_batching_config=batching
    ) as manager:

        def generate(prompts: Prompts, new: int) -> None:
            left = set(manager.add_requests(prompts, max_new_tokens=new))
            while left:
                result = manager.get_result(timeout=60)
                if result is None or result.error:
                    raise RuntimeError(result.error if result else "no result for a minute")
                if result.is_finished():
                    left.discard(result.request_id)

        yield generate


Way = Callable[[LoadedModel, int], AbstractContextManager[Generate]]
WAYS: dict[str, Way] = {
    "engine": engine,
    "generate": static_generate,
    "continuous_batching": continuous_batching,
}
