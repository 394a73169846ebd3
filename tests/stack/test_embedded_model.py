"""The embedded model, converted from its GGUF file and loaded as any other."""

from typing import Any

import transformers

from services.generator.engine.interface import (
    Delta,
    Finished,
    FinishReason,
    GenerationRequest,
    Stopping,
)
from services.generator.engine.reference import ReferenceEngine
from services.generator.models import LoadedModel
from services.generator.tokenization import ChatMessage

QUESTION = "What is the capital of France?"


def test_it_keeps_its_template_and_its_end_of_turn(embedded: LoadedModel) -> None:
    ids = embedded.tokenizer.encode_chat([ChatMessage("user", QUESTION)])
    prompt = embedded.tokenizer.decode(ids, skip_special_tokens=False)
    assert prompt.endswith(f"<|im_start|>user\n{QUESTION}<|im_end|>\n<|im_start|>assistant\n")
    assert embedded.tokenizer.decode(sorted(embedded.stop_ids), skip_special_tokens=False) == (
        "<|im_end|>"
    )


async def test_it_answers_a_chat_as_a_greedy_pipeline_does(embedded: LoadedModel) -> None:
    ids = tuple(embedded.tokenizer.encode_chat([ChatMessage("user", QUESTION)]))
    engine = ReferenceEngine(embedded)
    try:
        wanted = GenerationRequest(ids, stopping=Stopping(max_new_tokens=24))
        events = [event async for event in engine.generate(wanted)]
    finally:
        await engine.close()
    make: Any = transformers.pipeline  # its overloads leave this form out
    pipeline = make("text-generation", embedded.model, tokenizer=embedded.tokenizer.backend)
    chat = [{"role": "user", "content": QUESTION}]
    answer = pipeline(chat, do_sample=False, max_new_tokens=24, return_full_text=False)
    text = "".join(event.text for event in events if isinstance(event, Delta))
    assert text == answer[0]["generated_text"]
    assert "Paris" in text
    assert isinstance(events[-1], Finished)
    assert events[-1].reason is FinishReason.END_OF_SEQUENCE
