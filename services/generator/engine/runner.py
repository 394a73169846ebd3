"""Runs the model on a step's tokens."""

from collections.abc import Sequence
from typing import Any

import torch

from services.generator.engine.cache import ATTENTION, KvCache, Span, StepAttention
from services.generator.models import LoadedModel


class ModelRunner:
    """Runs a model whose keys and values lie in a cache of blocks.

    The model's layers are those of transformers; only its attention is another.

    Args:
        loaded: The model.
        blocks: How many blocks the cache has.
        block_size: Tokens in each.
    """

    def __init__(self, loaded: LoadedModel, blocks: int, block_size: int) -> None:
        model = loaded.model
        model.set_attn_implementation(ATTENTION)
        self._model: Any = model
        self._cache = KvCache(model.config, blocks, block_size, model.dtype, model.device)
        # A mask that the model is given is not made by it; attention here has its own.
        self._no_mask = torch.zeros(1, 1, 1, 1, dtype=torch.bool, device=model.device)

    @torch.inference_mode()
    def run(
        self, tokens: Sequence[Sequence[int]], spans: Sequence[Span], wanted: Sequence[int]
    ) -> torch.Tensor:
        """Compute some tokens of several sequences.

        Args:
            tokens: The tokens of each sequence.
            spans: Where they stand.
            wanted: Numbers of the sequences whose next token is to be chosen.

        Returns:
            Logits after the last token of each of those, float32 (wanted, vocabulary).

        Raises:
            UnsupportedModelError: what the model does with earlier tokens is not known here.
        """
        device = self._model.device
        counts = [len(mine) for mine in tokens]
        ends = torch.tensor(counts).cumsum(0)
        places = torch.cat([torch.arange(span.begin, span.end) for span in spans])
        step = StepAttention(self._cache, spans)
        output = self._model(
            input_ids=torch.tensor([[token for mine in tokens for token in mine]], device=device),
            position_ids=places[None].to(device),
            attention_mask=self._no_mask,
            use_cache=False,
            logits_to_keep=(ends[list(wanted)] - 1).to(device),
            step=step,
        )
        step.check()
        logits: torch.Tensor = output.logits[0].float()
        return logits
