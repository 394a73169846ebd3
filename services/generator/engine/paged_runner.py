"""Runs the model on a GPU."""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
import torch

from services.generator.embedding import Vectors
from services.generator.engine.attention import ATTENTION, Span, UnsupportedModelError
from services.generator.engine.decode_graphs import DecodeGraphs, can_be_captured
from services.generator.engine.paged_cache import PagedAttention, PagedCache, to_device
from services.generator.hidden_states import hidden_states
from services.generator.models import LoadedModel


class PagedRunner:
    """Does what `CpuRunner` does, with kernels for GPUs and without waiting for one.

    Steps in which each sequence gets one token are launched as graphs, where the model allows it.

    Args:
        loaded: The model.
        blocks: How many blocks the cache has.
        block_size: Tokens in each.
        most: Sequences of a step.

    Raises:
        UnsupportedModelError: it is not on one device, or what it does with earlier tokens is not
            known here.
    """

    def __init__(self, loaded: LoadedModel, blocks: int, block_size: int, most: int) -> None:
        model = loaded.model
        if len({parameter.device for parameter in model.parameters()}) > 1:
            raise UnsupportedModelError("that is spread over several devices")
        model.set_attn_implementation(ATTENTION)
        self._model: Any = model
        self._cache = PagedCache(model.config, blocks, block_size, model.dtype, model.device)
        self._no_mask = torch.zeros(1, 1, 1, 1, dtype=torch.bool, device=model.device)
        self._graphs: DecodeGraphs | None = None
        with self._there():
            self._warm_up()
            if can_be_captured(model):
                context = loaded.description.context_length
                self._graphs = DecodeGraphs(model, self._cache, most, context)

    @torch.inference_mode()
    def run(
        self, tokens: Sequence[Sequence[int]], spans: Sequence[Span], wanted: Sequence[int]
    ) -> torch.Tensor:
        """Compute some tokens of several sequences; see `CpuRunner.run`.

        The logits may be overwritten by the next step.
        """
        with self._there():
            if not self._graphs:
                return self._run(tokens, spans, wanted)
            if len(wanted) == len(spans) and all(map(_grows, spans)):
                return self._graphs.run([token for [token] in tokens], spans)
            self._graphs.settle()
            return self._run(tokens, spans, wanted)

    def hidden_states(self, prompts: Sequence[Sequence[int]]) -> list[Vectors]:
        """See `hidden_states`."""
        return hidden_states(self._model, prompts)

    def _there(self) -> AbstractContextManager[object]:
        """Launch kernels on the model's GPU, where that is not the first."""
        device = self._cache.device
        return torch.cuda.device(device) if device.type == "cuda" else nullcontext()

    def _run(
        self, tokens: Sequence[Sequence[int]], spans: Sequence[Span], wanted: Sequence[int]
    ) -> torch.Tensor:
        device = self._cache.device
        row = np.concatenate([np.asarray(mine, np.int64) for mine in tokens])
        places = np.concatenate([np.arange(span.begin, span.end) for span in spans])
        ends = np.cumsum([len(mine) for mine in tokens])
        step = PagedAttention(self._cache, spans)
        output = self._model(
            input_ids=to_device(row, np.int64, device)[None],
            position_ids=to_device(places, np.int64, device)[None],
            attention_mask=self._no_mask,
            use_cache=False,
            logits_to_keep=to_device(ends[list(wanted)] - 1, np.int64, device),
            step=step,
        )
        step.check()
        logits: torch.Tensor = output.logits[0].float()
        return logits

    @torch.inference_mode()
    def _warm_up(self) -> None:
        """Compile what the first prompt would wait for."""
        scratch = [self._cache.scratch]
        self._run([[0, 0], [0]], [Span(0, 2, scratch), Span(0, 1, scratch)], [0])


def _grows(span: Span) -> bool:
    """Whether it is one token behind others, whose place a graph can tell from padding."""
    return span.end - span.begin == 1 and span.begin > 0
