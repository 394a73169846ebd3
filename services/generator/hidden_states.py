"""A model's last hidden states, of many prompts with as few passes as their lengths allow."""

from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Any

import torch
from torch.nn.utils.rnn import pad_sequence

from services.generator.embedding import Vectors

BATCH_TOKENS = 1024
"""Most tokens of a pass, padding included, by any engine.

More are no faster, and a pass cannot be stopped. Prompts longer than half of it run alone, which
models of long contexts need that scale positions by the longest prompt of a pass (longrope does
beyond 4,096 tokens).
"""


def batches(lengths: Sequence[int], most_tokens: int) -> Iterator[list[int]]:
    """Put prompts of like length together, the longest first.

    Yields:
        Places of `lengths`, each place once. A batch has at most `most_tokens` tokens when its
        prompts are padded to its longest; a prompt that is longer is a batch by itself.
    """
    batch: list[int] = []
    longest = 0
    for place in sorted(range(len(lengths)), key=lambda place: -lengths[place]):
        if batch and (len(batch) + 1) * longest > most_tokens:
            yield batch
            batch = []
        longest = longest if batch else lengths[place]
        batch.append(place)
    if batch:
        yield batch


def hidden_states(model: Any, prompts: Sequence[Sequence[int]]) -> list[Vectors]:
    """Run a causal model of `transformers` once, without its head, for prompts of tokens.

    Prompts are padded at their end, where no token of a causal model looks.

    Returns:
        For each prompt its last hidden states, after the final norm, (tokens, dimension).
    """
    ids = [torch.tensor(prompt, device=model.device) for prompt in prompts]
    present = [torch.ones_like(row) for row in ids]
    with torch.inference_mode():
        states = model.base_model(
            input_ids=pad_sequence(ids, batch_first=True),
            attention_mask=pad_sequence(present, batch_first=True),
            use_cache=False,
        ).last_hidden_state
        rows = states.float().cpu().numpy()
    return [row[: len(prompt)].copy() for row, prompt in zip(rows, prompts, strict=True)]


async def in_batches(
    prompts: Sequence[Sequence[int]],
    compute: Callable[[Sequence[Sequence[int]]], Awaitable[list[Vectors]]],
    most_tokens: int,
) -> list[Vectors]:
    """Compute something of each prompt, a batch at a time; gives it in the prompts' order.

    Batches have at most `most_tokens` tokens, as those of `batches`.
    """
    computed: dict[int, Vectors] = {}
    for places in batches([len(prompt) for prompt in prompts], most_tokens):
        batch = await compute([prompts[place] for place in places])
        computed.update(zip(places, batch, strict=True))
    return [computed[place] for place in range(len(prompts))]
