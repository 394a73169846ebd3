"""The vLLM engine: what every engine promises, as far as it can be seen from another process."""

import asyncio
import importlib.util
import multiprocessing
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sized
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from pathlib import Path
from threading import Event as Flag
from typing import Any

import psutil
import pytest
import pytest_asyncio
from prometheus_client import REGISTRY

if importlib.util.find_spec("vllm") is None:
    pytest.skip("vLLM has an environment of its own: make test-vllm", allow_module_level=True)

# ruff: isort: split
from vllm.v1.engine.output_processor import OutputProcessor

from services.generator.engine.interface import (
    Engine,
    EngineClosedError,
    EngineStartError,
    FinishReason,
    GenerationError,
    PromptTooLongError,
    Sampling,
    UnsupportedError,
)
from services.generator.engine.vllm_engine import VllmEngine
from services.generator.models import LoadedModel, load
from services.generator.settings import GeneratorSettings
from serving.environment import prepared
from tests.unit.generator.engine_suite import EngineSuite, Held, collect, ending, ids_of, request
from tests.unit.generator.forced_tokens import FORCED
from tests.unit.generator.logprobs_suite import LogprobsSuite
from tests.unit.generator.transformers_suite import GreedySuite

# Engines take long to start, so tests share them, and so the loop that they live in.
pytestmark = pytest.mark.asyncio(loop_scope="module")


def started(loaded: LoadedModel, *, kv_bytes: int = 2**24, **arguments: Any) -> VllmEngine:
    """An engine without what takes long to prepare and changes no token."""
    return VllmEngine(
        loaded,
        enforce_eager=True,
        kv_bytes=kv_bytes,
        logits_processors=["tests.unit.generator.forced_tokens:ForcedTokens"],
        **arguments,
    )


@pytest_asyncio.fixture(scope="module", loop_scope="module", autouse=True)
async def engines() -> AsyncIterator[None]:
    """Keep those that tests share until the last has run."""
    TestVllmEngine.shared = {}
    with prepared(GeneratorSettings(engine="vllm")):
        yield
    for engine in TestVllmEngine.shared.values():
        await engine.close()


@contextmanager
def before_outputs(action: Callable[[], None]) -> Iterator[None]:
    """Do something whenever a step's tokens come from vLLM."""
    with pytest.MonkeyPatch.context() as patch:
        process: Any = OutputProcessor.process_outputs

        def acting(*given: Any, **named: Any) -> Any:
            action()
            return process(*given, **named)

        patch.setattr(OutputProcessor, "process_outputs", acting)
        yield


class TestVllmEngine(EngineSuite, GreedySuite, LogprobsSuite):
    shared: dict[str, VllmEngine]  # by their models' names

    def make(self, loaded: LoadedModel, *, max_waiting: int = 16, max_running: int = 8) -> Engine:
        return started(loaded, max_waiting=max_waiting, max_running=max_running)

    @asynccontextmanager
    async def engine(self, loaded: LoadedModel, **limits: int) -> AsyncIterator[Engine]:
        name = loaded.description.name
        if name not in self.shared:
            self.shared[name] = started(loaded)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(self.shared[name], "_most", sum(limits.values()) or 24)
            yield self.shared[name]

    @contextmanager
    def steps(self, loaded: LoadedModel) -> Iterator[Sized]:
        seen: list[None] = []
        with before_outputs(lambda: seen.append(None)):
            yield seen

    @contextmanager
    def forced(self, loaded: LoadedModel, token_ids: list[int]) -> Iterator[None]:
        with pytest.MonkeyPatch.context() as patch:
            parameters = VllmEngine._parameters

            def forcing(*given: Any) -> Any:
                made = parameters(*given)
                made.extra_args = {FORCED: token_ids}
                return made

            patch.setattr(VllmEngine, "_parameters", forcing)
            yield

    @contextmanager
    def slowed(self, loaded: LoadedModel) -> Iterator[None]:
        with before_outputs(lambda: time.sleep(0.02)):
            yield

    @contextmanager
    def held(self, loaded: LoadedModel) -> Iterator[Held]:
        processes = [psutil.Process(child.pid) for child in multiprocessing.active_children()]
        begun = Flag()
        for process in processes:
            process.suspend()

        def release() -> None:
            for process in processes:
                process.resume()

        begun.set()
        try:
            yield Held(begun, release)
        finally:
            release()


async def test_a_model_whose_weights_only_vllm_loads_is_run_and_counted_by_vllms_metrics(
    tiny_llama: LoadedModel,
) -> None:
    bare = load(tiny_llama.model.name_or_path, cache=Path(), weights=False)
    assert bare.description == tiny_llama.description
    engine = started(bare)
    try:
        events = await collect(engine, request())
        labels = {"model_name": "tiny-llama", "engine": "0"}
        assert REGISTRY.get_sample_value("vllm:generation_tokens_total", labels) == 12
    finally:
        await engine.close()
    async with TestVllmEngine().engine(tiny_llama) as other:
        assert ids_of(events) == ids_of(await collect(other, request()))


async def test_settings_that_the_contract_allows_leave_others_whole(
    tiny_llama: LoadedModel,
) -> None:
    extremes = [
        Sampling(do_sample=True, temperature=1e-30, seed=0),
        Sampling(do_sample=True, temperature=2.0, top_p=1e-30),
        Sampling(do_sample=True, top_k=1_000_000, min_p=1.0),
        Sampling(do_sample=True, top_k=0, repetition_penalty=1e-30),
        Sampling(repetition_penalty=100.0),
        Sampling(temperature=100.0),
    ]
    async with TestVllmEngine().engine(tiny_llama) as engine:
        alone = await collect(engine, request())
        wanted = [request(sampling=sampling) for sampling in (*extremes, Sampling())]
        together = await asyncio.gather(*(collect(engine, one) for one in wanted))
    assert all(ending(events).generated_tokens == 12 for events in together)
    assert ids_of(together[-1]) == ids_of(alone)


async def test_what_vllm_cannot_do_is_refused_with_what_can(tiny_llama: LoadedModel) -> None:
    async with TestVllmEngine().engine(tiny_llama) as engine:
        with pytest.raises(UnsupportedError, match="--engine is torch"):
            await engine.embed([[1, 2]])
        hot = request(sampling=Sampling(do_sample=True, temperature=2.1))
        with pytest.raises(UnsupportedError, match=r"temperatures up to 2\.0"):
            await collect(engine, hot)


async def test_the_beginning_of_a_prompt_that_came_before_is_not_computed_again(
    tiny_llama: LoadedModel,
) -> None:
    long = replace(request(), prompt_ids=tuple(range(100, 240)))
    async with TestVllmEngine().engine(tiny_llama) as engine:
        first, again = await collect(engine, long), await collect(engine, long)
    assert ending(first).cached_tokens == 0
    assert ending(again).cached_tokens == 128  # a whole block of vLLM's on a CPU
    assert ids_of(first) == ids_of(again)


async def test_little_memory_bounds_what_fits_and_refuses_the_rest(
    tiny_llama: LoadedModel,
) -> None:
    # Keys and values of a token take 1 KiB, and vLLM's blocks on a CPU have 128 tokens.
    engine = started(tiny_llama, kv_bytes=2 * 128 * 1024)
    try:
        finished = ending(await collect(engine, request(max_new_tokens=250)))
        room = finished.prompt_tokens + finished.generated_tokens
        assert finished.reason is FinishReason.LENGTH
        assert room < tiny_llama.description.context_length
        with pytest.raises(PromptTooLongError, match=f"may have {room} together"):
            await collect(engine, replace(request(), prompt_ids=(9,) * room))
    finally:
        await engine.close()


async def test_a_model_that_vllm_cannot_run_is_told(tiny_llama: LoadedModel) -> None:
    with pytest.raises(EngineStartError, match="vLLM cannot run tiny-llama: "):
        started(tiny_llama, tensor_parallel_size=3)


async def test_texts_fail_and_none_is_taken_once_vllms_processes_are_dead(
    tiny_llama: LoadedModel,
) -> None:
    before, died = set(multiprocessing.active_children()), Flag()
    engine = started(tiny_llama, died=died.set)
    try:
        await collect(engine, request())
        stream = engine.generate(request(max_new_tokens=230))
        await anext(stream)
        for child in set(multiprocessing.active_children()) - before:
            child.kill()
        with pytest.raises(GenerationError):
            async for _ in stream:
                pass
        assert died.is_set()
        died.clear()
        with pytest.raises(EngineClosedError):
            await collect(engine, request())
        assert died.is_set()
    finally:
        await engine.close()
