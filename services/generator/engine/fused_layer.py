"""Decoder layers of Llama's kind, each in one compiled loop.

For the few tokens of a step, calling the parts of a layer one by one takes longer than what they
compute.
"""

from typing import Any

import torch
from torch import nn

from services.generator import openmp
from services.generator.engine.attention import Span, StepAttention
from services.generator.engine.cpu_attention import AttentionCall, Rows
from services.generator.engine.cpu_cache import CpuAttention, CpuCache
from services.generator.engine.layer_loop import LayerCall, compute
from services.generator.layers.gated_mlp import Int8GatedMLP
from services.generator.layers.hadamard import MOST
from services.generator.layers.int8_linear import Int8Linear, Part
from services.generator.layers.int8_product import OUTPUTS, WORD
from services.generator.layers.rms_norm import RMSNorm

_PARTS = ("input_layernorm", "self_attn", "post_attention_layernorm", "mlp")
_PROJECTIONS = ("q_proj", "k_proj", "v_proj")


class Workspace:
    """Memory for what is computed inside a layer, which all layers use in turn.

    Attributes:
        threads: How many the loop may be run in.
    """

    def __init__(self) -> None:
        self.threads = 0
        self._tokens = 0

    def reserve(self, tokens: int, projected: int, attended: int, inner: int, hidden: int) -> None:
        """Make room for a step's tokens; the others are widths."""
        threads = torch.get_num_threads()
        if (tokens, threads) == (self._tokens, self.threads):
            return
        self._tokens, self.threads = tokens, threads
        self.projected = torch.empty(tokens, projected)
        self.attended = torch.empty(tokens, attended)
        self.inner = torch.empty(tokens, inner)
        self.rounded = torch.empty(tokens, max(hidden, attended, inner), dtype=torch.uint8)
        self.scales = torch.empty(tokens)
        self.peaks = torch.empty(tokens, threads)


class FusedLayer(nn.Module):
    """Stands in for a decoder layer whose parts are in eight bits, in an engine's steps.

    Args:
        layer: Of transformers; it is asked for all else.
        asked: What the layer asks of attention: its number, the scale and the window.
        workspace: Shared with the other layers.
    """

    def __init__(
        self, layer: Any, asked: tuple[int, float, int | None], workspace: Workspace
    ) -> None:
        super().__init__()
        self.layer = layer
        self._asked = asked
        self._workspace = workspace
        attention, mlp = layer.self_attn, layer.mlp
        self._call = call = LayerCall()
        call.projections = attention.q_proj.linear.product.weights
        call.output = attention.o_proj.product.weights
        call.gate_up, call.down = mlp.gate_up.product.weights, mlp.down.product.weights
        norms = layer.input_layernorm, layer.post_attention_layernorm
        call.attention_norm, call.mlp_norm = (norm.weight.ctypes.data for norm in norms)
        call.attention_epsilon, call.mlp_epsilon = (norm.epsilon for norm in norms)
        call.hidden_width, call.inner_width = mlp.gate_up.in_features, mlp.down.in_features
        self._widths = (
            attention.q_proj.linear.out_features,
            attention.o_proj.in_features,
            mlp.down.in_features,
            mlp.gate_up.in_features,
        )

    def forward(
        self,
        hidden_states: torch.Tensor,
        *,
        position_embeddings: tuple[torch.Tensor, torch.Tensor],
        step: CpuAttention | None = None,
        **others: Any,
    ) -> torch.Tensor:
        """As the layer; in a step, what it is given is changed."""
        if step is None or step.dtype != torch.bfloat16:
            if step is not None:
                others["step"] = step
            given: torch.Tensor = self.layer(
                hidden_states, position_embeddings=position_embeddings, **others
            )
            return given
        call, workspace = self._call, self._workspace
        cosines, sines = (each.contiguous() for each in position_embeddings)
        workspace.reserve(hidden_states.shape[1], *self._widths)
        call.attention = self._attention(step, cosines.shape[-1])
        call.hidden = hidden_states.data_ptr()
        for name in ("inner", "rounded", "scales", "peaks"):
            setattr(call, name, getattr(workspace, name).data_ptr())
        call.cosines, call.sines = cosines.data_ptr(), sines.data_ptr()
        openmp.run(compute, call, workspace.threads)
        return hidden_states

    def _attention(self, step: CpuAttention, width: int) -> AttentionCall:
        """What attention is told: where this layer's query, key and value will be."""
        call, workspace = step.prepared(*self._asked), self._workspace
        begin, (projected, attended, _, _) = workspace.projected.data_ptr(), self._widths
        call.query = Rows(begin, 4 * width, 4 * projected)
        call.key = Rows(begin + 4 * attended, 4 * width, 4 * projected)
        behind = (attended + projected) // 2  # as many keys as values
        call.value = Rows(begin + 4 * behind, 4 * width, 4 * projected)
        call.output = Rows(workspace.attended.data_ptr(), 4 * width, 4 * attended)
        call.query_heads = attended // width
        return call


def fuse(model: nn.Module) -> None:
    """Let decoder layers that can be computed in one loop be."""
    config: Any = model.config
    workspace = Workspace()
    with openmp.one_thread():
        for parent in list(model.modules()):
            for name, child in list(parent.named_children()):
                if _is_fusable(child) and (fused := _fused(child, config, workspace)):
                    setattr(parent, name, fused)


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

    asked: tuple[int, float, int | None]
    width: int

    def _attend(
        self,
        layer: int,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        scale: float,
        window: int | None,
    ) -> torch.Tensor:
        self.asked, self.width = (layer, scale, window), query.shape[2]
        return torch.zeros_like(query.transpose(0, 1))


@torch.inference_mode()
def _fused(layer: Any, config: Any, workspace: Workspace) -> FusedLayer | None:
    """One that computes the same but for rounding, if there is."""
    source = torch.Generator().manual_seed(0)
    tokens, question = 5, _Question(0)
    rows = torch.randn(1, tokens, layer.mlp.gate_up.in_features, generator=source)
    width = layer.self_attn.head_dim
    positions = tuple(torch.randn(1, tokens, width, generator=source) for _ in range(2))
    layer(rows, position_embeddings=positions, attention_mask=None, step=question)
    fused = FusedLayer(layer, question.asked, workspace)
    given, expected = (
        each(
            rows.clone(),
            position_embeddings=positions,
            attention_mask=None,
            step=CpuCache(config, 1, torch.bfloat16).attention([Span(0, tokens, [0])]),
        )
        for each in (fused, layer)
    )
    return fused if (given - expected).abs().max() <= 0.02 * expected.abs().max() else None
