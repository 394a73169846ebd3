"""What every engine promises of embeddings; each engine's test class inherits it."""

import asyncio
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose

from services.generator.embedding import Vectors
from services.generator.engine.interface import (
    EngineClosedError,
    GenerationError,
    PromptLengthError,
    QueueFullError,
)
from services.generator.models import LoadedModel
from tests.unit.generator.engine_suite import EngineMaker, collect, request

TOLERANCES = {"float32": 2e-5, "int8": 0.1}
"""How far a model's last hidden states, by its type, go with the shapes of its products."""


@contextmanager
def passes(loaded: LoadedModel, *, held: bool = False) -> Iterator[list[threading.Event]]:
    """An event for each pass of the model, which goes on at once or, if held, when that is set."""
    seen: list[threading.Event] = []

    def note(*_: Any) -> None:
        event = threading.Event()
        seen.append(event)
        if held and not event.wait(10):
            raise TimeoutError("the test does not let the model go on")

    hook = loaded.model.get_input_embeddings().register_forward_hook(note)
    try:
        yield seen
    finally:
        hook.remove()
        for event in seen:
            event.set()


async def until_begun(seen: Sequence[threading.Event], count: int) -> None:
    while len(seen) < count:  # noqa: ASYNC110
        await asyncio.sleep(0.005)


def by_hand(loaded: LoadedModel, prompt: Sequence[int]) -> Vectors:
    """The last hidden states as `transformers` gives them for one prompt."""
    with torch.inference_mode():
        output = loaded.model(torch.tensor([prompt]), output_hidden_states=True)
    return np.asarray(output.hidden_states[-1][0].float().numpy())


def prompts_of(*lengths: int) -> list[list[int]]:
    random = np.random.default_rng(0)
    return [random.integers(5, 400, length).tolist() for length in lengths]


class EmbeddingSuite(EngineMaker):
    async def test_embedding_gives_the_last_hidden_states_whatever_comes_along(
        self, tiny_llama: LoadedModel
    ) -> None:
        near = partial(assert_allclose, atol=TOLERANCES[tiny_llama.description.dtype])
        prompts = prompts_of(3, 256, 1, 3, 77, 12, 13, 14, *[200] * 12)
        async with self.engine(tiny_llama) as engine:
            together = await engine.embed(prompts)
            alone = [(await engine.embed([prompt]))[0] for prompt in prompts]
        assert len(together) == len(prompts)
        for prompt, states, own in zip(prompts, together, alone, strict=True):
            assert states.shape == (len(prompt), tiny_llama.description.embedding_dimension)
            assert states.dtype == np.float32
            near(states, own)
            near(states, by_hand(tiny_llama, prompt))

    async def test_phi3_is_embedded_as_by_hand(self, tiny_phi3: LoadedModel) -> None:
        near = partial(assert_allclose, atol=TOLERANCES[tiny_phi3.description.dtype])
        prompts = [tiny_phi3.tokenizer.encode(text) for text in ("a", "the song that comes next")]
        async with self.engine(tiny_phi3) as engine:
            for prompt, states in zip(prompts, await engine.embed(prompts), strict=True):
                near(states, by_hand(tiny_phi3, prompt))

    async def test_prompts_are_embedded_in_fewer_passes_than_they_are(
        self, tiny_llama: LoadedModel
    ) -> None:
        async with self.engine(tiny_llama) as engine:
            with passes(tiny_llama) as seen:
                await engine.embed(prompts_of(*range(1, 33)))
            assert len(seen) <= 8
            assert await engine.embed([]) == []

    @pytest.mark.parametrize("length", [0, 257])
    async def test_a_prompt_that_cannot_be_embedded_is_named_before_the_model_is_run(
        self, tiny_llama: LoadedModel, length: int
    ) -> None:
        async with self.engine(tiny_llama) as engine:
            with passes(tiny_llama) as seen, pytest.raises(PromptLengthError) as caught:
                await engine.embed(prompts_of(5, length, 0))
        assert caught.value.index == 1
        assert not seen

    async def test_an_embedding_whose_caller_leaves_costs_at_most_the_batch_under_way(
        self, tiny_llama: LoadedModel
    ) -> None:
        async with self.engine(tiny_llama) as engine:
            with passes(tiny_llama, held=True) as seen:
                call = asyncio.create_task(engine.embed(prompts_of(*[256] * 64)))
                waiting = asyncio.create_task(engine.embed(prompts_of(5)))
                await until_begun(seen, 1)
                call.cancel()
                waiting.cancel()
                await asyncio.wait([call, waiting])
                after = asyncio.create_task(engine.embed(prompts_of(7)))
                seen[0].set()
                await until_begun(seen, 2)
                seen[1].set()
                assert [len(states) for states in await after] == [7]
        assert call.cancelled()
        assert len(seen) == 2

    async def test_embeddings_wait_in_the_same_queue_as_texts(
        self, tiny_llama: LoadedModel
    ) -> None:
        async with self.engine(tiny_llama, max_waiting=1, max_running=1) as engine:
            with passes(tiny_llama, held=True) as seen:
                first = asyncio.create_task(engine.embed(prompts_of(5)))
                await until_begun(seen, 1)
                second = engine.generate(request())
                await anext(second)
                with pytest.raises(QueueFullError) as caught:
                    await engine.embed(prompts_of(5))
                with pytest.raises(QueueFullError):
                    await collect(engine, request())
                assert caught.value.retry_after_s > 0
                await second.aclose()
                seen[0].set()
                assert len(await first) == 1
            assert len(await engine.embed(prompts_of(5))) == 1

    async def test_one_thread_alone_runs_the_model(self, tiny_llama: LoadedModel) -> None:
        threads: set[int] = set()

        def note(*_: Any) -> None:
            threads.add(threading.get_ident())

        async with self.engine(tiny_llama) as engine:
            hook = tiny_llama.model.get_input_embeddings().register_forward_hook(note)
            try:
                with self.led(tiny_llama, note):
                    texts = [collect(engine, request()) for _ in range(4)]
                    vectors = [engine.embed(prompts_of(*[250] * 10)) for _ in range(4)]
                    await asyncio.gather(*texts, *vectors)
            finally:
                hook.remove()
        assert len(threads) == 1
        assert threading.get_ident() not in threads

    async def test_closing_the_engine_ends_embeddings_after_the_batch_under_way(
        self, tiny_llama: LoadedModel
    ) -> None:
        engine = self.make(tiny_llama)
        with passes(tiny_llama, held=True) as seen:
            call = asyncio.create_task(engine.embed(prompts_of(*[256] * 64)))
            await until_begun(seen, 1)
            closing = asyncio.create_task(engine.close())
            await asyncio.sleep(0)
            seen[0].set()
            with pytest.raises(EngineClosedError):
                await call
            await closing
        assert len(seen) == 1
        with pytest.raises(EngineClosedError):
            await engine.embed(prompts_of(5))

    async def test_a_failing_model_fails_its_embedding_and_no_other(
        self, tiny_llama: LoadedModel
    ) -> None:
        def fail(*_: Any) -> None:
            raise RuntimeError("out of luck")

        async with self.engine(tiny_llama) as engine:
            hook = tiny_llama.model.get_input_embeddings().register_forward_hook(fail)
            with pytest.raises(GenerationError):
                await engine.embed(prompts_of(5))
            hook.remove()
            assert len(await engine.embed(prompts_of(5))) == 1
