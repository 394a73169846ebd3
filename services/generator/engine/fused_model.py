"""A model of Llama's kind, a whole step of it in one call of a compiled loop.

To call a model of transformers takes hundreds of functions. Weights have passed through the CPU's
caches meanwhile, and each of those comes from memory anew in each step.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from services.generator import openmp
from services.generator.engine.attention import Span, heads_and_width
from services.generator.engine.cpu_attention import BLOCK_SIZE, Ints
from services.generator.engine.cpu_cache import CpuAttention, CpuCache
from services.generator.engine.fused_layer import FusedLayer
from services.generator.engine.layer_run import LayerRun
from services.generator.engine.model_loop import ModelCall
from services.generator.layers.int8_linear import Int8Linear
from services.generator.layers.likeness import alike
from services.generator.layers.rms_norm import RMSNorm

Computed = Callable[[Any, Sequence[int], CpuAttention], Any]
"""What a model of transformers gives in a step, with logits after all tokens."""


class FusedModel:
    """Computes logits, where a model is an embedding, fused layers, a norm and a linear layer.

    Args:
        model: Of transformers, which goes on owning its parts.
        places: How long sequences may become; a multiple of BLOCK_SIZE.

    Raises:
        AttributeError, TypeError, ValueError: it has other parts.
    """

    def __init__(self, model: Any, places: int) -> None:
        base = model.base_model
        self._embedding, self._head = model.get_input_embeddings(), model.get_output_embeddings()
        self._norm = norm = base.norm
        kinds = type(self._embedding), type(norm), type(self._head)
        if kinds != (nn.Embedding, RMSNorm, Int8Linear):
            raise TypeError(f"is made of {kinds}")
        self._run = _only_run(base.layers)
        self._angles = _angles(base.rotary_emb, places, heads_and_width(model.config)[1])
        self._places = places
        self._tokens = 0
        self._addresses = 0, 0, 0
        self._call = call = ModelCall(head=self._head.product.weights, epsilon=norm.epsilon)
        call.embedding = _floats(self._embedding.weight).data_ptr()
        call.norm = norm.weight.ctypes.data
        call.all_cosines, call.all_sines = (each.data_ptr() for each in self._angles)

    def __call__(self, tokens: Sequence[int], step: CpuAttention, wanted: Ints) -> torch.Tensor:
        """Compute a step.

        Args:
            tokens: Of all sequences, one behind the other.
            step: Where they stand.
            wanted: int64, the numbers of those after which logits are wanted.

        Returns:
            Logits, float32 (wanted, vocabulary); the next call may overwrite them.

        Raises:
            IndexError: a token is none of the model's, or a sequence is too long.
        """
        if min(tokens) < 0 or max(tokens) >= self._embedding.num_embeddings:
            raise IndexError("a token is none of the model's")
        if step.call.longest > self._places:
            raise IndexError("a text is longer than the model's may be")
        self._reserve(len(tokens))
        ids, call = np.array(tokens, np.int64), self._call
        logits = self._head.product.output(len(wanted))
        call.tokens, call.places = ids.ctypes.data, step.places.ctypes.data
        call.wanted, call.wanted_count = wanted.ctypes.data, len(wanted)
        call.logits, call.logit_bytes = logits.data_ptr(), 4 * logits.shape[1]
        self._run.compute(*self._addresses, step, call)
        found: torch.Tensor = logits[:, : self._head.out_features]
        return found

    def _reserve(self, tokens: int) -> None:
        """Make room for a step's tokens, where there is not enough."""
        if tokens <= self._tokens:
            return
        self._tokens = tokens
        width, angles = self._embedding.embedding_dim, self._angles[0].shape[1]
        floats = [torch.empty(tokens, each) for each in (width, angles, angles, 1)]
        rounded = torch.empty(tokens, width, dtype=torch.uint8)
        self._memory = [*floats, rounded]
        hidden, cosines, sines, scales = (each.data_ptr() for each in floats)
        self._addresses = hidden, cosines, sines
        self._call.rounded, self._call.scales = rounded.data_ptr(), scales


@torch.inference_mode()
def fused_model(model: Any, places: int, computed: Computed) -> FusedModel | None:
    """One that computes the same as a model with fused layers, if there is.

    Args:
        model: That model.
        places: How long sequences may become.
        computed: Asks the model itself.
    """

    def step() -> CpuAttention:
        return CpuCache(model.config, 1, torch.bfloat16).attention([Span(0, BLOCK_SIZE, [0])])

    with openmp.one_thread():
        try:
            fused = FusedModel(model, -(-places // BLOCK_SIZE) * BLOCK_SIZE)
            vocabulary = model.get_input_embeddings().num_embeddings
            tokens = np.random.default_rng(1).integers(vocabulary, size=BLOCK_SIZE).tolist()
            expected = computed(model, tokens, step()).logits[0].clone()
            given = fused(tokens, step(), np.arange(BLOCK_SIZE))
        except Exception:  # of a model that is made of something else
            return None
        return fused if alike(given, expected, tolerance=0.01) else None


def _only_run(layers: Any) -> LayerRun:
    """What computes all of the layers at once."""
    runs = {layer.run for layer in layers if isinstance(layer, FusedLayer)}
    [run] = runs
    if len(run) != len(layers):
        raise ValueError("some layers are computed by themselves")
    return run


def _floats(tensor: torch.Tensor) -> torch.Tensor:
    """A tensor whose memory loops may read."""
    if tensor.dtype != torch.float32 or not tensor.is_contiguous():
        raise TypeError(f"is of {tensor.dtype}")
    return tensor


def _angles(rotary: Any, places: int, width: int) -> list[torch.Tensor]:
    """Cosines and sines of all places, float32 (places, width of a head) each.

    Some models (LongRoPE, Ding et al., 2024) turn a place otherwise where a text is long.
    """
    every, few = (
        [each[0] for each in rotary(torch.empty(0), torch.arange(count)[None])]
        for count in (places, BLOCK_SIZE)
    )
    if not all(torch.equal(one[:BLOCK_SIZE], other) for one, other in zip(every, few, strict=True)):
        raise ValueError("a place is not always turned by the same angles")
    if any(each.shape != (places, width) for each in every):
        raise ValueError("not all of a head is turned")
    return [_floats(each.contiguous()) for each in every]
