"""Decoder layers of Llama's kind, those that follow each other in one call of a compiled loop.

For the few tokens of a step, calling the parts of a layer one by one takes longer than what they
compute.
"""

from itertools import groupby
from typing import Any

import torch
from torch import nn

from services.generator import openmp
from services.generator.engine.attention import Span, StepAttention, heads_and_width
from services.generator.engine.cpu_cache import CpuAttention, CpuCache
from services.generator.engine.layer_run import Asked, LayerRun
from services.generator.layers.gated_mlp import Int8GatedMLP
from services.generator.layers.hadamard import MOST
from services.generator.layers.int8_linear import Int8Linear, Part
from services.generator.layers.int8_product import OUTPUTS, WORD
from services.generator.layers.likeness import alike, samples
from services.generator.layers.rms_norm import RMSNorm

_PARTS = ("input_layernorm", "self_attn", "post_attention_layernorm", "mlp")
_PROJECTIONS = ("q_proj", "k_proj", "v_proj")


class FusedLayer(nn.Module):
    """Stands in for a decoder layer whose parts are in eight bits, in an engine's steps.

    Args:
        layer: Of transformers; it is asked for all else.
        asked: What the layer asks of attention.

    Attributes:
        run: Computes this layer and those that follow it or are before it.
    """

    def __init__(self, layer: Any, asked: Asked) -> None:
        super().__init__()
        self.layer = layer
        self.asked = asked
        self.run = LayerRun([layer], [asked])

    def forward(
        self,
        hidden_states: torch.Tensor,
        *,
        position_embeddings: tuple[torch.Tensor, torch.Tensor],
        step: CpuAttention | None = None,
        **others: Any,
    ) -> torch.Tensor:
        """As the layer; in a step, what it is given is changed.

        Raises:
            UnsupportedModelError: the layer is computed with those before it, and given something
                else than they are.
        """
        computed = self.run(self.asked.layer, hidden_states, *position_embeddings, step)
        if computed is not None:
            return computed
        if step is not None:
            others["step"] = step
        given: torch.Tensor = self.layer(
            hidden_states, position_embeddings=position_embeddings, **others
        )
        return given

    def widths(self) -> tuple[int, ...]:
        """Of the inputs and outputs of its products."""
        attention, mlp = self.layer.self_attn, self.layer.mlp
        linears = attention.q_proj.linear, attention.o_proj, mlp.gate_up, mlp.down
        return tuple(width for each in linears for width in (each.in_features, each.out_features))


def fuse(model: nn.Module) -> None:
    """Let decoder layers that can be computed in one loop be."""
    config: Any = model.config
    with openmp.one_thread():
        parents = [each for each in model.modules() if not isinstance(each, FusedLayer)]
        for parent in reversed(parents):  # what is inside of others comes first
            for name, child in list(parent.named_children()):
                if _is_fusable(child) and (fused := _fused(child, config)):
                    setattr(parent, name, fused)
                elif type(child) is nn.ModuleList:
                    _join(list(child))


def _join(layers: list[nn.Module]) -> None:
    """Let fused layers of the same widths that follow each other be computed at once."""
    for widths, group in groupby(
        layers, lambda layer: layer.widths() if isinstance(layer, FusedLayer) else None
    ):
        members: Any = list(group)
        if widths:
            run = LayerRun([each.layer for each in members], [each.asked for each in members])
            for each in members:
                each.run = run


def _is_fusable(layer: Any) -> bool:
    """Whether a layer has the parts, in eight bits and of fitting widths."""
    if {name for name, _ in layer.named_children()} != set(_PARTS):
        return False
    attention, mlp = layer.self_attn, layer.mlp
    norms = layer.input_layernorm, layer.post_attention_layernorm
    if not isinstance(mlp, Int8GatedMLP) or any(type(norm) is not RMSNorm for norm in norms):
        return False
    parts = dict(attention.named_children())
    output = parts.pop("o_proj", None)
    if parts.keys() != set(_PROJECTIONS) or not isinstance(output, Int8Linear) or output.biased:
        return False
    if any(not isinstance(part, Part) for part in parts.values()):
        return False
    linears = attention.q_proj.linear, output, mlp.gate_up, mlp.down
    return mlp.down.in_features % MOST == 0 and all(
        linear.in_features % WORD == linear.out_features % OUTPUTS == 0 for linear in linears
    )


class _Question(StepAttention):
    """Finds out what a layer asks of attention."""

    asked: Asked

    def _attend(
        self,
        layer: int,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        scale: float,
        window: int | None,
    ) -> torch.Tensor:
        self.asked = Asked(layer, scale, window)
        return torch.zeros_like(query.transpose(0, 1))


@torch.inference_mode()
def _fused(layer: Any, config: Any) -> FusedLayer | None:
    """One that computes the same but for rounding, if there is."""
    heads, width = heads_and_width(config)
    linear, attended = layer.self_attn.q_proj.linear, layer.self_attn.o_proj.in_features
    if linear.out_features != attended + 2 * heads * width:
        return None
    rows, question = samples(linear.in_features)[None], _Question(0)
    source = torch.Generator().manual_seed(1)
    positions = torch.randn(2, 1, rows.shape[1], width, generator=source)

    def computed(layer: nn.Module, step: StepAttention) -> torch.Tensor:
        output: torch.Tensor = layer(
            rows.clone(), position_embeddings=tuple(positions), attention_mask=None, step=step
        )
        return output

    def step() -> CpuAttention:
        return CpuCache(config, 1, torch.bfloat16).attention([Span(0, rows.shape[1], [0])])

    try:
        computed(layer, question)
        expected = computed(layer, step())
        fused = FusedLayer(layer, question.asked)
    except Exception:  # of a layer that wants to be told something else
        return None
    return fused if alike(computed(fused, step()), expected, tolerance=0.01) else None
