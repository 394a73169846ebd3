"""How the models of transformers are made to attend to keys and values that an engine keeps."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import torch
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

ATTENTION = "segue"
"""Under which transformers' models find this attention."""


class Span(NamedTuple):
    """Tokens of one sequence in a step.

    Attributes:
        begin: The first one's place in the sequence.
        end: Behind the last one; all before it are in the cache when the step is done.
        blocks: The sequence's blocks.
    """

    begin: int
    end: int
    blocks: Sequence[int]


class UnsupportedModelError(Exception):
    """The model does something in its attention that this engine does not know of."""

    def __init__(self, what: str) -> None:
        super().__init__(f"the torch engine cannot run a model {what}; use --engine reference")


class StepAttention(ABC):
    """Attention for one step: some tokens of several sequences, one behind the other in one row.

    Each token sees those of its own sequence up to itself, and no farther back than the model's
    sliding window, where it has one.

    Args:
        layers: How many the model has.
    """

    def __init__(self, layers: int) -> None:
        self._layers = set(range(layers))  # that have not attended yet

    def __call__(
        self,
        layer: int,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        scale: float,
        window: int | None,
    ) -> torch.Tensor:
        """Keep the tokens' keys and values in one layer, and attend.

        Args:
            layer: Its number.
            query: (heads, tokens, width).
            key: (key-value heads, tokens, width).
            value: As `key`.
            scale: Of the products.
            window: How many tokens, itself included, a token sees at most; all when None.

        Returns:
            (tokens, heads, width).
        """
        self._layers.discard(layer)
        return self._attend(layer, query, key, value, scale, window)

    @abstractmethod
    def _attend(
        self,
        layer: int,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        scale: float,
        window: int | None,
    ) -> torch.Tensor:
        """See `__call__`."""

    def attended(self, layers: Iterable[int]) -> None:
        """Note that layers have attended in some other way than by a call."""
        self._layers.difference_update(layers)

    def check(self) -> None:
        """Raise UnsupportedModelError unless every layer has attended.

        A layer that keeps what it knows of earlier tokens elsewhere, as recurrent ones do, would
        mix up the sequences of a step.
        """
        if self._layers:
            raise UnsupportedModelError(f"whose layers {sorted(self._layers)} have no attention")


def heads_and_width(config: Any) -> tuple[int, int]:
    """How many key-value heads each layer of a model has, and how wide one is."""
    if not hasattr(config, "num_attention_heads"):
        raise UnsupportedModelError("without attention heads")
    heads = config.num_attention_heads
    width = getattr(config, "head_dim", None) or config.hidden_size // heads
    return getattr(config, "num_key_value_heads", None) or heads, width


def token_bytes(config: Any, dtype: torch.dtype) -> int:
    """Memory that one token's keys and values take."""
    heads, width = heads_and_width(config)
    return int(2 * config.num_hidden_layers * heads * width * dtype.itemsize)


_UNKNOWN = ("softcap", "s_aux", "position_bias")
"""What some models ask of attention, under transformers' names, and would miss in silence."""


def _attention(
    module: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    *,
    step: StepAttention | None = None,
    scaling: float | None = None,
    sliding_window: int | None = None,
    **options: Any,
) -> tuple[torch.Tensor, None]:
    """As transformers calls attention; without a step it is the usual one."""
    if step is None:
        attended, _ = sdpa_attention_forward(
            module, query, key, value, attention_mask, scaling=scaling, **options
        )
        return attended, None
    if unknown := [name for name in _UNKNOWN if options.get(name) is not None]:
        raise UnsupportedModelError(f"whose attention has {unknown}")
    scale = scaling if scaling is not None else query.shape[-1] ** -0.5
    attended = step(module.layer_idx, query[0], key[0], value[0], scale, sliding_window)
    return attended.unsqueeze(0), None


AttentionInterface.register(ATTENTION, _attention)
AttentionMaskInterface.register(ATTENTION, sdpa_mask)
