"""Which steps are launched as graphs, and what the device is told before each.

What graphs themselves do is tested on a GPU, by test_cuda.py. Here one is a call that is repeated;
all that surrounds it is the same. The kernels are interpreted (`make test-kernels`).
"""

import os
import random
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest
import torch

pytest.importorskip("triton")

from services.generator.engine import paged_runner, torch_engine
from services.generator.engine.attention import Span
from services.generator.engine.cpu_attention import BLOCK_SIZE
from services.generator.engine.decode_graphs import DecodeGraphs, can_be_captured, ladder
from services.generator.engine.interface import GenerationRequest, Stopping
from services.generator.engine.paged_runner import PagedRunner
from services.generator.engine.scheduler import Limits, Scheduler
from services.generator.engine.torch_engine import TorchEngine
from services.generator.models import LoadedModel
from tests.unit.generator.same_texts import arriving, by_generate, bytes_for, prompts

COMPILE = torch.compile

interpreted = pytest.mark.skipif(
    torch.cuda.is_available() or os.environ.get("TRITON_INTERPRET") != "1",
    reason="needs TRITON_INTERPRET=1, and no GPU",
)


@pytest.mark.parametrize("most", [1, 2, 3, 5, 8, 12, 32, 128])
def test_the_ladder_ends_with_the_most_that_run_and_has_no_step_twice(most: int) -> None:
    sizes = ladder(most)
    assert sizes == sorted(set(sizes))
    assert (sizes[0], sizes[-1]) == (1, most)


def test_the_ladder_doubles_for_few_texts_and_goes_by_eights_for_many() -> None:
    assert ladder(32) == [1, 2, 4, 8, 16, 24, 32]


@pytest.mark.skipif(torch.cuda.is_available(), reason="tests what is not on a GPU")
def test_a_model_that_is_not_on_a_gpu_is_not_captured(tiny_llama: LoadedModel) -> None:
    assert not can_be_captured(tiny_llama.model)


class Launches:
    """How many steps have been launched, and of what size."""

    def __init__(self) -> None:
        self.sizes: list[int] = []

    def capture(self, graphs: DecodeGraphs, sizes: Sequence[int]) -> dict[int, Any]:
        return {size: self._captured(partial(graphs._step, size), size) for size in sizes}

    def _captured(self, step: Callable[[], torch.Tensor], size: int) -> tuple[Any, torch.Tensor]:
        logits = step()

        def replay() -> None:
            self.sizes.append(size)
            logits.copy_(step())

        return SimpleNamespace(replay=replay), logits


class AtOnce:
    """A stream or an event of a device that has done everything when it is asked to."""

    def __init__(self, *_: Any) -> None:
        self.wait_stream = self.wait_event = self.synchronize = self.record = lambda *_: None


@pytest.fixture
def launches(monkeypatch: pytest.MonkeyPatch) -> Launches:
    """Let steps be launched as graphs where there is no GPU."""
    found = Launches()
    for name in ("Stream", "Event", "current_stream"):
        monkeypatch.setattr(torch.cuda, name, AtOnce)
    monkeypatch.setattr(torch.cuda, "stream", nullcontext)
    monkeypatch.setattr(torch, "compile", lambda function, **_: function)
    monkeypatch.setattr(
        DecodeGraphs, "_capture", lambda graphs, sizes: found.capture(graphs, sizes)
    )
    monkeypatch.setattr(paged_runner, "can_be_captured", lambda model: True)
    monkeypatch.setattr(torch_engine, "_runner", PagedRunner)
    monkeypatch.setattr(
        torch_engine, "Scheduler", lambda pool, limits, ahead: Scheduler(pool, limits, ahead=True)
    )
    return found


def greedy(prompt: Sequence[int], count: int) -> GenerationRequest:
    return GenerationRequest(tuple(prompt), stopping=Stopping(count, ignore_eos=True))


@interpreted
class TestSteps:
    def test_go_on_while_texts_come_to_new_blocks_and_leave(
        self, tiny_llama: LoadedModel, launches: Launches
    ) -> None:
        """Each step but the first is under way when it is asked for, and none is for nothing."""
        longest = max(prompts(12, 400), key=len)
        asked = [longest[:10], longest[5:18], longest[20:34]]
        expected = [by_generate(tiny_llama, prompt, 25) for prompt in asked]
        runner = PagedRunner(tiny_llama, 16, BLOCK_SIZE, 4)
        texts = {number: list(prompt) for number, prompt in enumerate(asked)}

        def step(begins: dict[int, int]) -> None:
            spans = [
                # The block of the next token is there already.
                Span(begin, len(text), range(5 * number, 5 * number + len(text) // BLOCK_SIZE + 1))
                for (number, text), begin in zip(texts.items(), begins.values(), strict=True)
            ]
            new = [text[span.begin :] for text, span in zip(texts.values(), spans, strict=True)]
            likeliest = runner.run(new, spans, range(len(spans))).argmax(dim=-1).tolist()
            for text, token in zip(texts.values(), likeliest, strict=True):
                text.append(token)

        step(dict.fromkeys(texts, 0))
        for count in range(24):
            if count == 12:
                left = texts.pop(0)
            step({number: len(text) - 1 for number, text in texts.items()})
        assert left[len(asked[0]) :] == expected[0][:13]
        assert [text[len(asked[number]) :] for number, text in texts.items()] == expected[1:]
        assert len(launches.sizes) == 24 + 1

    async def test_that_go_ahead_change_no_text(
        self, tiny_llama: LoadedModel, launches: Launches
    ) -> None:
        """Texts of all lengths come and go, and lose their memory, of which there is little."""
        chance = random.Random(1)
        wanted = [greedy(prompt, chance.randint(1, 20)) for prompt in prompts(8, 400, 60)]
        expected = [
            by_generate(tiny_llama, one.prompt_ids, one.stopping.max_new_tokens) for one in wanted
        ]
        kv_bytes, limits = bytes_for(tiny_llama, 10), Limits(running=6, tokens=64)
        engine = TorchEngine(tiny_llama, 64, kv_bytes=kv_bytes, limits=limits)
        try:
            assert await arriving(engine, wanted, 10) == expected
        finally:
            await engine.close()

    @pytest.mark.parametrize("another", [3, 1000])
    def test_are_begun_ahead_only_where_they_are_right_many_times_in_a_row(
        self, tiny_llama: LoadedModel, launches: Launches, another: int
    ) -> None:
        """Every third token is not the likeliest, or none: one step at most is of no use."""
        runner = PagedRunner(tiny_llama, 8, BLOCK_SIZE, 1)
        token, count = 5, 2 * BLOCK_SIZE - 2
        for place in range(1, 1 + count):
            [logits] = runner.run([[token]], [Span(place, place + 1, [3, 5])], [0])
            token = int(logits.argmax()) ^ (place % another == 0)
        assert len(launches.sizes) == count + 1
        assert runner._graphs is not None
        assert runner._graphs._ahead == (another > count)

    def test_are_padded_with_what_lies_in_no_lent_block(
        self, tiny_llama: LoadedModel, launches: Launches
    ) -> None:
        runner = PagedRunner(tiny_llama, 8, BLOCK_SIZE, 4)
        graphs = runner._graphs
        assert graphs is not None
        runner.run([[5], [6], [7]], [Span(3, 4, [one]) for one in range(3)], range(3))
        assert graphs._places.tolist() == [5, 5, 5, 0]  # as the step after the one ahead needs them
        assert set(graphs._tables[3].tolist()) == {8}

    def test_are_compiled_once_for_one_text_and_once_for_several(
        self, tiny_llama: LoadedModel, launches: Launches, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        made = []

        def backend(graph: torch.fx.GraphModule, _: Any) -> Callable[..., Any]:
            made.append(graph)
            return graph.forward

        compiled = partial(COMPILE, fullgraph=True, backend=backend)
        monkeypatch.setattr(torch, "compile", lambda function, **_: compiled(function))
        PagedRunner(tiny_llama, 8, BLOCK_SIZE, 8)
        assert len(made) == 2
