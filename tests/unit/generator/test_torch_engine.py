"""The torch engine: what every engine promises, and that none of its own doings changes a text."""

import asyncio
import random
import re
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
from prometheus_client import REGISTRY
from transformers import AutoModelForCausalLM, MambaConfig

from services.generator.detokenizer import Detokenizer
from services.generator.engine import job
from services.generator.engine.attention import UnsupportedModelError
from services.generator.engine.cpu_attention import BLOCK_SIZE
from services.generator.engine.interface import (
    Engine,
    FinishReason,
    GenerationError,
    GenerationRequest,
    PromptTooLongError,
)
from services.generator.engine.scheduler import Limits
from services.generator.engine.torch_engine import KvBudgetError, TorchEngine
from services.generator.models import LoadedModel
from tests.tiny_models import GEMMA2
from tests.unit.generator.embedding_suite import EmbeddingSuite
from tests.unit.generator.engine_suite import PROMPT, collect, ending, ids_of, request
from tests.unit.generator.in_process_suite import InProcessSuite
from tests.unit.generator.logprobs_suite import LogprobsSuite
from tests.unit.generator.same_texts import bytes_for
from tests.unit.generator.transformers_suite import PipelineSuite


class TestTorchEngine(InProcessSuite, PipelineSuite, EmbeddingSuite, LogprobsSuite):
    def make(self, loaded: LoadedModel, *, max_waiting: int = 16, max_running: int = 8) -> Engine:
        return TorchEngine(loaded, max_waiting, limits=Limits(running=max_running))


MAMBA = MambaConfig(vocab_size=400, hidden_size=32, state_size=4, num_hidden_layers=2)


class TestAPromptInCommon:
    async def test_is_computed_once_and_counted_as_cached(self, tiny_llama: LoadedModel) -> None:
        engine = TorchEngine(tiny_llama)
        try:
            first = ending(await collect(engine, request()))
            again = ending(await collect(engine, request()))
        finally:
            await engine.close()
        assert first.cached_tokens == 0
        assert again.cached_tokens == len(PROMPT) // BLOCK_SIZE * BLOCK_SIZE > 0


class TestMetrics:
    async def test_tell_what_is_done_under_the_names_of_vllm(self, tiny_llama: LoadedModel) -> None:
        def value(name: str, **labels: str) -> float:
            found = REGISTRY.get_sample_value(name, {"model_name": "tiny-llama"} | labels)
            return found or 0.0

        names = ("prompt_tokens_total", "generation_tokens_total", "prefix_cache_hits_total")
        counts = ("time_to_first_token_seconds_count", "inter_token_latency_seconds_count")
        before = {name: value(f"vllm:{name}") for name in (*names, *counts)}
        ended = value("vllm:request_success_total", finished_reason="length")
        engine = TorchEngine(tiny_llama)
        try:
            for _ in range(2):
                await collect(engine, request())
            await engine.embed([PROMPT])  # by now it has told that no text grows
            for name in ("num_requests_running", "num_requests_waiting", "kv_cache_usage_perc"):
                assert value(f"vllm:{name}") == 0
        finally:
            await engine.close()
        grown = {name: value(f"vllm:{name}") - count for name, count in before.items()}
        assert grown == dict(zip((*names, *counts), (40, 24, 16, 2, 22), strict=True))
        assert value("vllm:request_success_total", finished_reason="length") == ended + 2


class TestLittleMemory:
    async def test_bounds_what_fits_and_refuses_the_rest(self, tiny_llama: LoadedModel) -> None:
        engine = TorchEngine(tiny_llama, kv_bytes=bytes_for(tiny_llama, 2))
        try:
            events = await collect(engine, request(max_new_tokens=100))
            assert engine.room == 2 * BLOCK_SIZE
            assert ending(events).generated_tokens == 2 * BLOCK_SIZE - len(PROMPT)
            assert ending(events).reason is FinishReason.LENGTH
            with pytest.raises(PromptTooLongError):
                await collect(engine, GenerationRequest((9,) * 2 * BLOCK_SIZE))
        finally:
            await engine.close()

    def test_that_holds_nothing_is_refused(self, tiny_llama: LoadedModel) -> None:
        with pytest.raises(KvBudgetError, match=f"give at least {bytes_for(tiny_llama, 1):,}"):
            TorchEngine(tiny_llama, kv_bytes=bytes_for(tiny_llama, 1) - 1)


class TestTextsToEmbed:
    async def test_are_computed_few_at_a_time_and_let_a_growing_text_have_its_turn(
        self, tiny_llama: LoadedModel
    ) -> None:
        runs: list[str] = []
        sizes: list[int] = []
        model = tiny_llama.model
        hooks = [
            model.base_model.register_forward_pre_hook(lambda *_: runs.append("pass")),
            # A pass has no need of the head, so it was a step.
            model.lm_head.register_forward_hook(lambda *_: runs.append(runs.pop() and "step")),
            model.get_input_embeddings().register_forward_hook(
                lambda _, ids, __: sizes.append(ids[0].numel())
            ),
        ]
        engine = TorchEngine(tiny_llama, limits=Limits(tokens=32))
        try:
            vectors = [engine.embed([(9,) * 16] * 10) for _ in range(2)]
            await asyncio.gather(collect(engine, request(max_new_tokens=200)), *vectors)
        finally:
            await engine.close()
            for hook in hooks:
                hook.remove()
        assert max(sizes) <= 32
        assert runs.count("pass") == 10
        growing = runs[: len(runs) - runs[::-1].index("step")]
        assert "pass" in growing
        assert ("pass", "pass") not in pairwise(growing)

    async def test_of_more_tokens_than_a_step_are_computed_alone(
        self, tiny_llama: LoadedModel
    ) -> None:
        engine = TorchEngine(tiny_llama, limits=Limits(tokens=8))
        try:
            states = await engine.embed([(9,) * length for length in (100, 3, 2)])
        finally:
            await engine.close()
        assert [len(rows) for rows in states] == [100, 3, 2]


class TestAModelThatIsNoTransformerOfTheUsualKind:
    """Its texts would be wrong in silence."""

    @pytest.mark.parametrize(
        ("config", "problem"),
        [(GEMMA2, "attention has .*softcap"), (MAMBA, "without attention heads")],
    )
    async def test_is_refused(self, tiny_llama: LoadedModel, config: Any, problem: str) -> None:
        make: Any = AutoModelForCausalLM.from_config

        async def ask() -> None:
            engine = TorchEngine(replace(tiny_llama, model=make(config)))
            try:
                await collect(engine, request())
            finally:
                await engine.close()

        with pytest.raises((UnsupportedModelError, GenerationError)) as caught:
            await ask()
        error = caught.value.__cause__ or caught.value
        assert isinstance(error, UnsupportedModelError)
        assert re.search(problem, str(error))

    async def test_is_noticed_by_a_layer_that_does_not_attend(
        self, tiny_llama: LoadedModel, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        layers = tiny_llama.model.model.layers
        monkeypatch.setattr(
            layers[1].self_attn, "forward", lambda **given: (given["hidden_states"], None)
        )
        engine = TorchEngine(tiny_llama)
        try:
            with pytest.raises(GenerationError) as caught:
                await collect(engine, request())
        finally:
            await engine.close()
        assert "layers [1] have no attention" in str(caught.value.__cause__)


class TestAFailingStep:
    async def test_fails_those_in_it_and_leaves_the_engine_whole(
        self, tiny_llama: LoadedModel
    ) -> None:
        engine = TorchEngine(tiny_llama, kv_bytes=bytes_for(tiny_llama, 8))

        def fail(*_: Any) -> None:
            raise RuntimeError("out of luck")

        hook = tiny_llama.model.register_forward_hook(fail)
        try:
            texts = (collect(engine, request()) for _ in range(5))
            ended = await asyncio.gather(*texts, return_exceptions=True)
            assert all(isinstance(error, GenerationError) for error in ended)
            hook.remove()
            after = await collect(engine, request(max_new_tokens=100))
            assert ending(after).reason is FinishReason.LENGTH  # all blocks are there
        finally:
            hook.remove()
            await engine.close()


class TestADefect:
    async def test_in_one_text_concerns_no_other(
        self, tiny_llama: LoadedModel, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        class Failing(Detokenizer):
            def push(self, token_id: int) -> str:
                raise RuntimeError("cannot be told")

            flush = push  # type: ignore[assignment]

        def make(tokenizer: Any, stops: Any) -> Detokenizer:
            return (Failing if "?" in stops else Detokenizer)(tokenizer, stops)

        monkeypatch.setattr(job, "Detokenizer", make)
        engine = TorchEngine(tiny_llama)
        try:
            broken, whole = await asyncio.gather(
                collect(engine, request(stop=("?",))),
                collect(engine, request()),
                return_exceptions=True,
            )
            assert isinstance(broken, GenerationError)
            assert isinstance(whole, list)
            assert ending(whole).reason is FinishReason.LENGTH
        finally:
            await engine.close()

    async def test_in_the_engine_leaves_nobody_waiting_and_is_survived(
        self, tiny_llama: LoadedModel, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        engine = TorchEngine(tiny_llama)
        schedule, defects = engine._scheduler.schedule, [RuntimeError("a defect")]

        def failing() -> Any:
            if defects:
                raise defects.pop()
            return schedule()

        monkeypatch.setattr(engine._scheduler, "schedule", failing)
        try:
            with pytest.raises(GenerationError):
                await collect(engine, request())
            assert ending(await collect(engine, request())).reason is FinishReason.LENGTH
        finally:
            await engine.close()


class TestStreamsThatAreDropped:
    async def test_leave_nothing_behind_and_harm_nobody(self, tiny_llama: LoadedModel) -> None:
        engine = TorchEngine(tiny_llama, 400, limits=Limits(tokens=16))
        chance = random.Random(1)
        alone = ids_of(await collect(engine, request(max_new_tokens=60)))

        async def drop() -> None:
            stream = engine.generate(request(max_new_tokens=60))
            for _ in range(chance.randrange(6)):
                await anext(stream)
            await asyncio.sleep(chance.random() * 0.01)
            await stream.aclose()

        try:
            whole = asyncio.create_task(collect(engine, request(max_new_tokens=60)))
            await asyncio.gather(*(drop() for _ in range(300)))
            events = await whole
            await collect(engine, request(max_new_tokens=1))
            pool = engine._pool
            assert pool.free == pool.count
        finally:
            await engine.close()
        assert ids_of(events) == alone
