"""The torch engine gives the embedded model's texts token for token as transformers does.

Whose matrix products are shaped differently rounds differently, and two tokens that are equally
likely but for rounding may change places. The prompts, drawn with a fixed seed, have no such tie:
the likeliest token leads by more than TIE at each place of their texts, which is tested as well.
"""

import random
from collections.abc import Iterator
from itertools import product

import pytest
import torch

from services.generator.engine.interface import GenerationRequest, Sampling, Stopping
from services.generator.models import LoadedModel
from services.recommender.starter.songs import read_songs
from tests.unit.generator.engine_suite import collect, ids_of
from tests.unit.generator.same_texts import Way, arriving, by_generate, engine_of, preemptions

TEXTS, NEW_TOKENS, TIE = 64, 4, 1e-3
LONGER = 16  # new tokens of texts in eight bits, which are computed faster

Prompts = list[tuple[int, ...]]


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Bound the time: `generate` and an engine's thread hold up each other's workers of OpenMP."""
    usual = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(usual)


@pytest.fixture(scope="module")
def prompts(embedded: LoadedModel) -> Prompts:
    """Lists of songs, 6 to 66 tokens long, half of which begin alike."""
    songs, chance = read_songs(), random.Random(11)

    def text(number: int) -> str:
        some = chance.sample(songs, chance.randint(1, 4))
        names = ", ".join(f"{song.title} by {song.artist}" for song in some)
        begin = "Here are songs that a listener likes, in the order of the playlist: "
        return f"{begin * (number % 2)}{names},"

    return [tuple(embedded.tokenizer.encode(text(number))) for number in range(TEXTS)]


@pytest.fixture(scope="module")
def expected(embedded: LoadedModel, prompts: Prompts) -> list[list[int]]:
    return [by_generate(embedded, prompt, NEW_TOKENS) for prompt in prompts]


@torch.inference_mode()
def test_the_likeliest_tokens_of_these_texts_are_no_ties(
    embedded: LoadedModel, prompts: Prompts, expected: list[list[int]]
) -> None:
    for prompt, text in zip(prompts, expected, strict=True):
        ids = torch.tensor([[*prompt, *text[:-1]]])
        first, second = embedded.model(ids, logits_to_keep=NEW_TOKENS).logits[0].topk(2).values.T
        assert (first - second).min() > TIE


FEW = {
    "alone": (1, Way()),
    "with 7 others": (8, Way()),
    "with 7 others, in chunks, without sharing": (8, Way(step=24, share=False)),
    "with 31 others": (32, Way()),
    "with 31 others, in little memory": (32, Way(step=64, blocks=10)),
}

# Prompts in parts or whole, beginnings shared or not, memory enough or little, which one text alone
# always has enough of.
EVERY = [
    (at_once, Way(step, share, blocks))
    for at_once, step, share, blocks in product((1, 8, 32), (24, 512), (True, False), (None, 6))
    if at_once > 1 or blocks is None
]


@pytest.mark.parametrize(("at_once", "way"), FEW.values(), ids=FEW)
async def test_a_text_is_that_of_generate_whoever_runs_beside_it(
    embedded: LoadedModel, prompts: Prompts, expected: list[list[int]], at_once: int, way: Way
) -> None:
    stopping = Stopping(NEW_TOKENS, ignore_eos=True)
    wanted = [GenerationRequest(prompt, stopping=stopping) for prompt in prompts]
    before = preemptions(embedded)
    async with engine_of(embedded, way) as engine:
        assert await arriving(engine, wanted, at_once) == expected
    assert (preemptions(embedded) > before) == (way.blocks is not None)


@pytest.mark.exhaustive
@pytest.mark.parametrize(("at_once", "way"), EVERY)
async def test_a_text_is_that_of_generate_in_every_way(
    embedded: LoadedModel, prompts: Prompts, expected: list[list[int]], at_once: int, way: Way
) -> None:
    await test_a_text_is_that_of_generate_whoever_runs_beside_it(
        embedded, prompts, expected, at_once, way
    )


async def test_a_text_that_is_drawn_is_the_same_alone_and_among_31_others(
    embedded: LoadedModel, prompts: Prompts
) -> None:
    wanted = [
        GenerationRequest(
            prompt,
            Sampling(do_sample=True, top_p=0.9, seed=number),
            Stopping(NEW_TOKENS, ignore_eos=True),
        )
        for number, prompt in enumerate(prompts[:32])
    ]
    async with engine_of(embedded, Way()) as engine:
        together = await arriving(engine, wanted, 32)
        for one, text in zip(wanted[:8], together[:8], strict=True):
            assert ids_of(await collect(engine, one)) == text


@pytest.mark.parametrize("drawn", [False, True])
async def test_in_eight_bits_a_text_is_the_same_alone_and_among_31_others(
    embedded_int8: LoadedModel, prompts: Prompts, drawn: bool
) -> None:
    assert embedded_int8.description.dtype == "int8"
    wanted = [
        GenerationRequest(
            prompt,
            Sampling(do_sample=drawn, seed=number if drawn else None),
            Stopping(LONGER, ignore_eos=True),
        )
        for number, prompt in enumerate(prompts[:32])
    ]
    async with engine_of(embedded_int8, Way(step=48)) as engine:
        together = await arriving(engine, wanted, 32)
    async with engine_of(embedded_int8, Way(share=False)) as engine:
        for one, text in zip(wanted, together, strict=True):
            assert ids_of(await collect(engine, one)) == text
