"""What engines promise of models in float32: their texts are those of transformers.

Coarser types are asked for no more than what is near (`logprobs_suite`). How a product is shaped
changes its last bits, whereupon a number may be rounded the other way; that is enough for two
tokens that are nearly as likely to change places.
"""

from typing import Any

import torch
import transformers

from services.generator.engine.interface import GenerationRequest, Sampling, Stopping
from services.generator.models import LoadedModel
from tests.unit.generator.engine_suite import (
    PROMPT,
    EngineMaker,
    collect,
    ending,
    ids_of,
    request,
    text_of,
)


class GreedySuite(EngineMaker):
    async def test_greedy_tokens_and_text_are_those_of_generate(
        self, tiny_llama: LoadedModel
    ) -> None:
        async with self.engine(tiny_llama) as engine:
            events = await collect(engine, request(max_new_tokens=40))
        prompt = torch.tensor([PROMPT])
        expected = tiny_llama.model.generate(
            prompt,
            attention_mask=torch.ones_like(prompt),
            max_new_tokens=40,
            do_sample=False,
            eos_token_id=None,
            pad_token_id=0,
        )[0, len(PROMPT) :].tolist()
        assert ids_of(events) == expected
        assert text_of(events) == tiny_llama.tokenizer.decode(expected)


class PipelineSuite(GreedySuite):
    """For models that run in this process; others draw with another source of chance."""

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
