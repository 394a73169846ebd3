"""Runs the model on a step's tokens, on a CPU."""

from collections.abc import Iterable, Sequence
from itertools import accumulate, chain, pairwise
from typing import Any

import numpy as np
import torch

from services.generator.embedding import Vectors
from services.generator.engine.attention import ATTENTION, Span
from services.generator.engine.cpu_attention import BLOCK_SIZE, Ints
from services.generator.engine.cpu_cache import CpuAttention, CpuCache
from services.generator.engine.fused_layer import fuse
from services.generator.engine.fused_model import fused_model
from services.generator.engine.shares import deal
from services.generator.layers.int8_linear import Int8Linear
from services.generator.layers.replacement import INT8
from services.generator.models import LoadedModel


def kept_type(loaded: LoadedModel) -> torch.dtype:
    """Of keys and values: as exact as what is computed with them."""
    rounded = loaded.description.dtype in (INT8, "bfloat16")
    return torch.bfloat16 if rounded else torch.float32


class CpuRunner:
    """Runs a model whose keys and values lie in a cache of blocks.

    Its attention is another than that of transformers. Decoder layers in eight bits are computed in
    one loop (see `fused_layer`), and with them all else (see `fused_model`), where that gives the
    same.

    Args:
        loaded: The model.
        blocks: How many blocks the cache has.

    Attributes:
        fused: What computes steps; None where the model itself is called.
    """

    def __init__(self, loaded: LoadedModel, blocks: int) -> None:
        model = loaded.model
        model.set_attn_implementation(ATTENTION)
        fuse(model)
        head = model.get_output_embeddings()
        if isinstance(head, Int8Linear):
            head.product.keep_memory()
        self._model: Any = model
        self._cache = CpuCache(model.config, blocks, kept_type(loaded))
        self._cache.reserve()
        # A mask that the model is given is not made by it; attention here has its own.
        self._no_mask = torch.zeros(1, 1, 1, 1, dtype=torch.bool)
        places = min(blocks * BLOCK_SIZE, loaded.description.context_length)
        self.fused = fused_model(model, places, self._ask)

    def run(
        self, tokens: Sequence[Sequence[int]], spans: Sequence[Span], wanted: Sequence[int]
    ) -> torch.Tensor:
        """Compute some tokens of several sequences.

        Args:
            tokens: The tokens of each sequence.
            spans: Where they stand.
            wanted: Numbers of the sequences whose next token is to be chosen.

        Returns:
            Logits after the last token of each of those, float32 (wanted, vocabulary), which may be
            overwritten by the next call.

        Raises:
            UnsupportedModelError: what the model does with earlier tokens is not known here.
        """
        row, step, ends = _arranged(self._cache, tokens, spans)
        last = ends[list(wanted)] - 1
        if self.fused:
            logits = self.fused(row, step, last)
        else:
            keep = torch.from_numpy(last)
            logits = self._ask(self._model, row, step, logits_to_keep=keep).logits[0].float()
        step.check()
        return logits

    def hidden_states(self, prompts: Sequence[Sequence[int]]) -> list[Vectors]:
        """As `hidden_states`, of each prompt to the last bit as if it were the only one.

        Raises:
            UnsupportedModelError: as `run`.
        """
        blocks = _offsets(-(-len(prompt) // BLOCK_SIZE) for prompt in prompts)
        spans = [
            Span(0, len(prompt), range(begin, end))
            for prompt, (begin, end) in zip(prompts, pairwise(blocks), strict=True)
        ]
        cache = CpuCache(self._model.config, blocks[-1], self._cache.dtype)
        row, step, ends = _arranged(cache, prompts, spans)
        rows = self._ask(self._model.base_model, row, step).last_hidden_state[0].float().numpy()
        step.check()
        return [
            rows[end - len(prompt) : end].copy() for prompt, end in zip(prompts, ends, strict=True)
        ]

    @torch.inference_mode()
    def _ask(self, model: Any, row: Sequence[int], step: CpuAttention, **options: Any) -> Any:
        """What a model of transformers gives for a step's tokens."""
        return model(
            input_ids=torch.tensor([row]),
            position_ids=torch.from_numpy(step.places)[None],
            attention_mask=self._no_mask,
            use_cache=False,
            step=step,
            **options,
        )


def _arranged(
    cache: CpuCache, tokens: Sequence[Sequence[int]], spans: Sequence[Span]
) -> tuple[list[int], CpuAttention, Ints]:
    """A step's tokens in one row, their attention, and behind which of them each sequence ends.

    A thread may compute some sequences by itself, so those stand side by side.
    """
    hands = deal(spans, torch.get_num_threads())
    order = list(chain.from_iterable(hands)) or list(range(len(spans)))
    ends = np.empty(len(order), np.int64)
    ends[order] = np.cumsum([len(tokens[number]) for number in order])
    step = cache.attention([spans[number] for number in order], list(map(len, hands)))
    return list(chain.from_iterable(tokens[number] for number in order)), step, ends


def _offsets(lengths: Iterable[int]) -> list[int]:
    """Where each of some pieces begins, and where the last one ends."""
    return [0, *accumulate(lengths)]
