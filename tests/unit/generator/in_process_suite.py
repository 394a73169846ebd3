"""What engines promise beside that whose model runs in this process; their classes inherit it."""

from typing import Any

import pytest
import transformers

from services.generator.engine.interface import (
    FinishReason,
    GenerationError,
    GenerationRequest,
    Sampling,
    Stopping,
)
from services.generator.models import LoadedModel
from tests.unit.generator.engine_suite import EngineSuite, collect, ending, request, text_of


class InProcessSuite(EngineSuite):
    """What holds beside that where the model runs in this process, by transformers' own code.

    An engine with processes of its own draws with another source of chance, and loses them all when
    its model fails.
    """

    async def test_a_seeded_text_is_that_of_a_pipeline(self, tiny_llama: LoadedModel) -> None:
        backend = tiny_llama.tokenizer.backend
        make: Any = transformers.pipeline  # its overloads leave this form out
        pipeline = make("text-generation", model=tiny_llama.model, tokenizer=backend)
        prompt = "the song that comes next"
        ids = tuple(tiny_llama.tokenizer.encode(prompt))
        sampling = Sampling(do_sample=True, top_k=20, top_p=0.9, repetition_penalty=1.2, seed=7)
        async with self.engine(tiny_llama) as engine:
            wanted = GenerationRequest(ids, sampling, Stopping(max_new_tokens=15))
            events = await collect(engine, wanted)
        transformers.set_seed(7)
        expected = pipeline(
            prompt,
            do_sample=True,
            top_k=20,
            top_p=0.9,
            repetition_penalty=1.2,
            max_new_tokens=15,
            return_full_text=False,
        )
        assert text_of(events) == expected[0]["generated_text"]
        assert ending(events).seed == 7

    async def test_a_failing_model_fails_its_request_and_no_other(
        self, tiny_llama: LoadedModel
    ) -> None:
        def fail(*_: Any) -> None:
            raise RuntimeError("out of luck")

        async with self.engine(tiny_llama) as engine:
            hook = tiny_llama.model.register_forward_hook(fail)
            with pytest.raises(GenerationError):
                await collect(engine, request())
            hook.remove()
            assert ending(await collect(engine, request())).reason is FinishReason.LENGTH
