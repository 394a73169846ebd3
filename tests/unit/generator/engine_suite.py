"""What every engine promises of texts; each engine's test class inherits it."""

import asyncio
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Iterator, Sized
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Any

import pytest
import torch

from services.generator.engine.interface import (
    Delta,
    Engine,
    EngineClosedError,
    Event,
    Finished,
    FinishReason,
    GenerationRequest,
    PromptTooLongError,
    QueueFullError,
    Sampling,
    Started,
    Stopping,
)
from services.generator.models import LoadedModel

PROMPT = tuple(range(10, 30))


def request(
    *, sampling: Sampling | None = None, deadline: float | None = None, **stopping: Any
) -> GenerationRequest:
    stopping.setdefault("ignore_eos", True)
    limits = Stopping(**{"max_new_tokens": 12} | stopping)
    return GenerationRequest(PROMPT, sampling or Sampling(), limits, deadline)


async def collect(engine: Engine, wanted: GenerationRequest) -> list[Event]:
    return [event async for event in engine.generate(wanted)]


def ending(events: list[Event]) -> Finished:
    assert isinstance(events[-1], Finished)
    return events[-1]


def text_of(events: list[Event]) -> str:
    return "".join(event.text for event in events if isinstance(event, Delta))


def ids_of(events: list[Event]) -> list[int]:
    return [i for event in events if isinstance(event, Delta) for i in event.token_ids]


@dataclass(frozen=True, slots=True)
class Held:
    """A model that is held up, from when `begun` is set until `release` is called."""

    begun: threading.Event
    release: Callable[[], None]


class EngineMaker(ABC):
    """Makes the engine that a suite is about, and says what its model does.

    How the model is led is written here for a model of this process; an engine whose model runs
    elsewhere does it in its own way.
    """

    @abstractmethod
    def make(
        self, loaded: LoadedModel, *, max_waiting: int = 16, max_running: int = 8
    ) -> Engine: ...

    @contextmanager
    def led(self, loaded: LoadedModel, after: Callable[[], None]) -> Iterator[None]:
        """Let something happen after each run of the model."""
        hook = loaded.model.register_forward_hook(lambda *_: after())
        try:
            yield
        finally:
            hook.remove()

    @contextmanager
    def changed(
        self, loaded: LoadedModel, change: Callable[[torch.Tensor], torch.Tensor]
    ) -> Iterator[None]:
        """Change the logits that the model gives."""
        hook = loaded.model.lm_head.register_forward_hook(lambda *given: change(given[2]))
        try:
            yield
        finally:
            hook.remove()

    @contextmanager
    def steps(self, loaded: LoadedModel) -> Iterator[Sized]:
        """Something that has as many parts as the model has been run."""
        seen: list[None] = []
        with self.led(loaded, lambda: seen.append(None)):
            yield seen

    @contextmanager
    def forced(self, loaded: LoadedModel, token_ids: list[int]) -> Iterator[None]:
        """Make the model choose these tokens, then again the last."""
        queue = list(token_ids)

        def choose(logits: torch.Tensor) -> torch.Tensor:
            chosen = queue.pop(0) if len(queue) > 1 else queue[0]
            biased = torch.full_like(logits, -1e9)
            biased[..., chosen] = 1e9
            return biased

        with self.changed(loaded, choose):
            yield

    @contextmanager
    def slowed(self, loaded: LoadedModel) -> Iterator[None]:
        """Let each run of the model take 20 ms more."""
        with self.led(loaded, lambda: time.sleep(0.02)):
            yield

    @contextmanager
    def held(self, loaded: LoadedModel) -> Iterator[Held]:
        """Let no run of the model end before it is released."""
        begun, released = threading.Event(), threading.Event()

        def hold() -> None:
            begun.set()
            released.wait(20)

        with self.led(loaded, hold):
            try:
                yield Held(begun, released.set)
            finally:
                released.set()

    @asynccontextmanager
    async def engine(self, loaded: LoadedModel, **limits: int) -> AsyncIterator[Engine]:
        engine = self.make(loaded, **limits)
        try:
            yield engine
        finally:
            await engine.close()


class EngineSuite(EngineMaker):
    async def test_a_text_is_started_grows_and_is_finished(self, tiny_llama: LoadedModel) -> None:
        async with self.engine(tiny_llama) as engine:
            events = await collect(engine, request())
        assert events[0] == Started(len(PROMPT))
        assert all(isinstance(event, Delta) for event in events[1:-1])
        finished = ending(events)
        assert finished.reason is FinishReason.LENGTH
        assert (finished.prompt_tokens, finished.generated_tokens) == (20, 12)
        assert finished.first_token_s is not None
        assert 0 <= finished.queued_s <= finished.first_token_s <= finished.total_s

    async def test_a_seed_that_was_drawn_is_reported_and_gives_the_same_again(
        self, tiny_llama: LoadedModel
    ) -> None:
        async with self.engine(tiny_llama) as engine:
            first = await collect(engine, request(sampling=Sampling(do_sample=True)))
            seed = ending(first).seed
            assert seed is not None
            again = await collect(engine, request(sampling=Sampling(do_sample=True, seed=seed)))
        assert ids_of(again) == ids_of(first)

    async def test_the_largest_seed_of_the_contract_is_a_seed(
        self, tiny_llama: LoadedModel
    ) -> None:
        wanted = request(sampling=Sampling(do_sample=True, seed=2**63 - 1))
        async with self.engine(tiny_llama) as engine:
            first, again = await collect(engine, wanted), await collect(engine, wanted)
        assert ids_of(again) == ids_of(first)
        assert ending(first).seed == 2**63 - 1

    async def test_the_text_goes_on_when_the_models_end_is_ignored(
        self, tiny_llama: LoadedModel
    ) -> None:
        stop_id = min(tiny_llama.stop_ids)
        async with self.engine(tiny_llama) as engine:
            with self.forced(tiny_llama, [50, stop_id, 60]):
                events = await collect(engine, request(max_new_tokens=3))
        assert ending(events).reason is FinishReason.LENGTH
        assert ids_of(events) == [50, stop_id, 60]
        assert text_of(events) == tiny_llama.tokenizer.decode([50, 60])

    async def test_the_model_ends_no_text_before_the_fewest_tokens_wanted(
        self, tiny_llama: LoadedModel
    ) -> None:
        stop_id = min(tiny_llama.stop_ids)
        async with self.engine(tiny_llama) as engine:
            with self.forced(tiny_llama, [stop_id]):
                events = await collect(engine, request(ignore_eos=False, min_new_tokens=3))
        assert not tiny_llama.stop_ids.intersection(ids_of(events)[:3])
        assert ids_of(events)[3:] == [stop_id]

    async def test_the_model_ends_its_text_with_any_of_its_stop_ids(
        self, tiny_llama: LoadedModel
    ) -> None:
        async with self.engine(tiny_llama) as engine:
            for stop_id in sorted(tiny_llama.stop_ids):
                with self.forced(tiny_llama, [50, 60, stop_id]):
                    events = await collect(engine, request(ignore_eos=False))
                assert ending(events).reason is FinishReason.END_OF_SEQUENCE
                assert ids_of(events) == [50, 60, stop_id]
                assert text_of(events) == tiny_llama.tokenizer.decode([50, 60])

    async def test_phi3_ends_its_text_with_each_of_its_three_ids(
        self, tiny_phi3: LoadedModel
    ) -> None:
        async with self.engine(tiny_phi3) as engine:
            for stop_id in (32000, 32001, 32007):
                with self.forced(tiny_phi3, [1815, 366, stop_id]):
                    events = await collect(engine, request(ignore_eos=False))
                assert ending(events).reason is FinishReason.END_OF_SEQUENCE
                assert ids_of(events) == [1815, 366, stop_id]

    async def test_a_stop_string_ends_the_text_and_no_part_of_it_is_sent(
        self, tiny_llama: LoadedModel
    ) -> None:
        song = tiny_llama.tokenizer.encode("a song about the night, all of it")
        async with self.engine(tiny_llama) as engine:
            with self.forced(tiny_llama, song):
                events = await collect(engine, request(max_new_tokens=60, stop=("t the n", "zz")))
        assert text_of(events) == "a song abou"
        assert ending(events).reason is FinishReason.STOP_STRING
        assert ending(events).stop == "t the n"
        text = tiny_llama.tokenizer.decode(ids_of(events))
        assert "t the n" in text
        # Nothing was generated beyond the token that completes it.
        assert "t the n" not in tiny_llama.tokenizer.decode(ids_of(events)[:-1])
        assert ending(events).generated_tokens == len(ids_of(events))

    async def test_every_delta_is_whole_characters(self, tiny_llama: LoadedModel) -> None:
        text = "坂本 🎵 é 👩‍👩‍👧"
        ids = tiny_llama.tokenizer.encode(text)
        async with self.engine(tiny_llama) as engine:
            with self.forced(tiny_llama, ids):
                events = await collect(engine, request(max_new_tokens=len(ids)))
        deltas = [event.text for event in events if isinstance(event, Delta)]
        assert "".join(deltas) == text
        assert not any("\ufffd" in delta for delta in deltas)
        assert len(deltas) > 5

    async def test_the_context_cuts_the_text_and_refuses_a_prompt_that_fills_it(
        self, tiny_llama: LoadedModel
    ) -> None:
        stopping = Stopping(max_new_tokens=100, ignore_eos=True)
        async with self.engine(tiny_llama) as engine:
            events = await collect(engine, GenerationRequest((9,) * 250, Sampling(), stopping))
            assert ending(events).generated_tokens == 6
            assert ending(events).reason is FinishReason.LENGTH
            with pytest.raises(PromptTooLongError):
                await collect(engine, GenerationRequest((9,) * 256, Sampling(), stopping))

    async def test_closing_the_stream_stops_the_model_within_one_step(
        self, tiny_llama: LoadedModel
    ) -> None:
        async with self.engine(tiny_llama) as engine:
            with self.steps(tiny_llama) as seen:
                stream = engine.generate(request(max_new_tokens=230))
                async for event in stream:
                    if isinstance(event, Delta):
                        break
                await stream.aclose()
                closed = len(seen)
                await collect(engine, request(max_new_tokens=1))
        # One step may have been under way, and the next request took one.
        assert len(seen) <= closed + 2

    async def test_a_deadline_ends_the_text_and_what_there_is_stands(
        self, tiny_llama: LoadedModel
    ) -> None:
        async with self.engine(tiny_llama) as engine:
            with self.slowed(tiny_llama):
                deadline = time.monotonic() + 0.3
                events = await collect(engine, request(max_new_tokens=200, deadline=deadline))
        assert ending(events).reason is FinishReason.DEADLINE
        assert 0 < ending(events).generated_tokens < 200
        assert len(ids_of(events)) == ending(events).generated_tokens
        assert text_of(events) == tiny_llama.tokenizer.decode(ids_of(events))

    async def test_expired_work_never_reaches_the_model(self, tiny_llama: LoadedModel) -> None:
        async with self.engine(tiny_llama) as engine:
            with self.steps(tiny_llama) as seen:
                events = await collect(engine, request(deadline=time.monotonic() - 1))
        assert not seen
        assert ending(events).reason is FinishReason.DEADLINE

    async def test_a_deadline_that_comes_while_waiting_ends_the_wait(
        self, tiny_llama: LoadedModel
    ) -> None:
        async with self.engine(tiny_llama) as engine:
            with self.held(tiny_llama) as model:
                first = asyncio.create_task(collect(engine, request(max_new_tokens=1)))
                assert await asyncio.to_thread(model.begun.wait, 20)
                events = await collect(engine, request(deadline=time.monotonic() + 0.1))
                assert ending(events).reason is FinishReason.DEADLINE
                assert not first.done()
                model.release()
                assert ending(await first).reason is FinishReason.LENGTH

    async def test_a_deadline_that_comes_during_a_step_does_not_wait_for_its_end(
        self, tiny_llama: LoadedModel
    ) -> None:
        async with self.engine(tiny_llama) as engine:
            with self.slowed(tiny_llama):
                wanted = request(max_new_tokens=200, deadline=time.monotonic() + 0.5)
                stream = engine.generate(wanted)
                events = [await anext(stream), await anext(stream)]
                with self.held(tiny_llama):
                    # Held for longer than that, or the model's own step would end it too.
                    async with asyncio.timeout(10):
                        events += [event async for event in stream]
        assert ending(events).reason is FinishReason.DEADLINE
        assert 0 < ending(events).generated_tokens < 200
        assert len(ids_of(events)) == ending(events).generated_tokens
        assert text_of(events) == tiny_llama.tokenizer.decode(ids_of(events))

    async def test_a_full_queue_refuses_at_once_and_says_when_to_try_again(
        self, tiny_llama: LoadedModel
    ) -> None:
        async with self.engine(tiny_llama, max_waiting=1, max_running=1) as engine:
            streams = [engine.generate(request(max_new_tokens=230)) for _ in range(2)]
            for stream in streams:
                engine.check_room()
                await anext(stream)
            delays = []
            for _ in range(100):
                with pytest.raises(QueueFullError) as caught:
                    await collect(engine, request())
                delays.append(caught.value.retry_after_s)
                with pytest.raises(QueueFullError) as caught:
                    engine.check_room()
                delays.append(caught.value.retry_after_s)
            # Each is told a place of its own, none to stay away for ever.
            assert 0 < delays[0] < delays[1] < delays[-1] < 60
            for stream in streams:
                await stream.aclose()
            assert ending(await collect(engine, request())).generated_tokens == 12

    async def test_many_at_once_each_get_their_own_text(self, tiny_llama: LoadedModel) -> None:
        async with self.engine(tiny_llama) as engine:
            alone = await collect(engine, request())
            together = await asyncio.gather(*(collect(engine, request()) for _ in range(8)))
        for events in together:
            assert ids_of(events) == ids_of(alone)

    async def test_closing_the_engine_finishes_running_texts(self, tiny_llama: LoadedModel) -> None:
        engine = self.make(tiny_llama)
        with self.slowed(tiny_llama):
            running = [
                asyncio.create_task(collect(engine, request(max_new_tokens=230))) for _ in range(3)
            ]
            await asyncio.sleep(0.1)
            await engine.close()
            await engine.close()
            for events in await asyncio.gather(*running):
                assert ending(events).reason is FinishReason.CANCELLED
        with pytest.raises(EngineClosedError):
            await collect(engine, request())
        with pytest.raises(EngineClosedError):
            engine.check_room()

    async def test_closing_the_engine_leaves_a_whole_text_whole(
        self, tiny_llama: LoadedModel
    ) -> None:
        engine = self.make(tiny_llama)
        unread = engine.generate(request(max_new_tokens=3))
        await anext(unread)
        await collect(engine, request(max_new_tokens=9))  # comes after it
        await engine.close()
        assert ending([event async for event in unread]).reason is FinishReason.LENGTH
