"""Nothing that the torch engine does to be fast changes a text."""

import asyncio
import random
from functools import lru_cache

import pytest

from services.generator.engine.interface import Delta, Engine, GenerationRequest, Sampling, Stopping
from services.generator.models import LoadedModel
from tests.unit.generator.conftest import WINDOW
from tests.unit.generator.engine_suite import collect, ids_of
from tests.unit.generator.same_texts import (
    WAYS,
    arriving,
    by_generate,
    engine_of,
    preemptions,
    prompts,
)

TEXTS, NEW_TOKENS = 64, 8


@pytest.fixture(params=["tiny_llama", "windowed_phi3"])
def loaded(request: pytest.FixtureRequest) -> LoadedModel:
    found: LoadedModel = request.getfixturevalue(request.param)
    return found


@lru_cache
def expected_texts(loaded: LoadedModel) -> list[list[int]]:
    asked = prompts(TEXTS, loaded.tokenizer.vocabulary_size)
    return [by_generate(loaded, prompt, NEW_TOKENS) for prompt in asked]


# One text alone always has the memory that it needs.
@pytest.mark.parametrize(
    ("way", "at_once"),
    [(way, n) for way in WAYS for n in (1, 8, 32) if n > 1 or WAYS[way].blocks is None],
)
async def test_a_text_is_that_of_generate_whoever_runs_beside_it(
    loaded: LoadedModel, way: str, at_once: int
) -> None:
    expected = expected_texts(loaded)
    stopping = Stopping(NEW_TOKENS, ignore_eos=True)
    asked = prompts(TEXTS, loaded.tokenizer.vocabulary_size)
    wanted = [GenerationRequest(prompt, stopping=stopping) for prompt in asked]
    before = preemptions(loaded)
    async with engine_of(loaded, WAYS[way]) as engine:
        assert await arriving(engine, wanted, at_once) == expected
    assert (preemptions(loaded) > before) == (WAYS[way].blocks is not None)


def test_the_window_is_shorter_than_the_texts_and_changes_them(
    tiny_phi3: LoadedModel, windowed_phi3: LoadedModel
) -> None:
    prompt = next(one for one in prompts(TEXTS, 32_000) if len(one) > 2 * WINDOW)
    windowed, plain = (by_generate(one, prompt, 30) for one in (windowed_phi3, tiny_phi3))
    assert windowed != plain


async def test_a_text_that_is_drawn_is_the_same_alone_and_among_31_others(
    loaded: LoadedModel,
) -> None:
    chance = random.Random(7)
    wanted = [
        GenerationRequest(
            prompt,
            Sampling(
                do_sample=True,
                temperature=chance.choice([0.7, 1.5]),
                top_p=chance.choice([0.9, 1.0]),
                top_k=chance.choice([0, 50]),
                repetition_penalty=chance.choice([1.0, 1.3]),
                seed=number,
            ),
            Stopping(NEW_TOKENS, ignore_eos=True),
        )
        for number, prompt in enumerate(prompts(32, loaded.tokenizer.vocabulary_size))
    ]
    async with engine_of(loaded, WAYS["as it comes"]) as engine:
        alone = [ids_of(await collect(engine, one)) for one in wanted]
        assert await arriving(engine, wanted, 32) == alone


async def test_in_eight_bits_a_text_is_the_same_to_the_last_bit_in_every_way(
    tiny_llama_int8: LoadedModel,
) -> None:
    stopping = Stopping(NEW_TOKENS, ignore_eos=True)
    asked = prompts(32, tiny_llama_int8.tokenizer.vocabulary_size)
    wanted = [GenerationRequest(one, stopping=stopping, logprobs=1) for one in asked]
    async with engine_of(tiny_llama_int8, WAYS["without sharing"]) as engine:
        alone = [await likelihoods(engine, one) for one in wanted]
    for way in WAYS.values():
        async with engine_of(tiny_llama_int8, way) as engine:
            together = await asyncio.gather(*(likelihoods(engine, one) for one in wanted))
        assert together == alone


async def likelihoods(engine: Engine, wanted: GenerationRequest) -> list[tuple[int, float]]:
    """The tokens of a text, and the logarithm of how likely each was."""
    deltas = [event for event in await collect(engine, wanted) if isinstance(event, Delta)]
    told = [one.token for delta in deltas for one in delta.logprobs]
    return [(one.id, one.logprob) for one in told]
