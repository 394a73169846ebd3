"""Decoder layers of Llama's kind, each in one compiled loop.

For the few tokens of a step, calling the parts of a layer one by one takes longer than what they
compute.
"""

import ctypes
from typing import Any, cast

import numpy as np
import torch
from torch import nn

from services.generator import openmp
from services.generator.engine.attention import Span, StepAttention
from services.generator.engine.cpu_attention import AttentionCall, Rows, attend_share, keep_share
from services.generator.engine.cpu_attention import row as head_row
from services.generator.engine.cpu_cache import CpuAttention, CpuCache
from services.generator.layers.compiled import Floats, compiled
from services.generator.layers.gated_mlp import Int8GatedMLP
from services.generator.layers.hadamard import MOST, transform
from services.generator.layers.int8_linear import Int8Linear, Part
from services.generator.layers.int8_product import (
    GATED,
    OUTPUTS,
    WORD,
    Int8Weights,
    gate_groups,
    multiply_groups,
    share,
)
from services.generator.layers.rms_norm import RMSNorm, normalize_row
from services.generator.layers.rounding import LARGEST, peak, round_row, round_to
from services.generator.openmp import (
    barrier,
    carray,
    parallel,
    pointer,
    thread_count,
    thread_number,
)

_PARTS = ("input_layernorm", "self_attn", "post_attention_layernorm", "mlp")
_PROJECTIONS = ("q_proj", "k_proj", "v_proj")


class LayerCall(ctypes.Structure):
    """What the compiled loop is told; widths are those of one token.

    Attributes:
        attention: Its query, key and value lie side by side, as the first product gives them.
        hidden: Address of float32 (tokens, hidden_width), changed.
        inner: Of float32 (tokens, inner_width), written.
        rounded: Of bytes for the widest rows that are rounded, written.
        scales: Of float32 (tokens,), written.
        peaks: Of float32 (tokens, threads), written.
        cosines: Of float32 (tokens, width of a head).
        sines: As `cosines`.
        attention_norm: Of float32 (hidden_width,).
        mlp_norm: As `attention_norm`.
    """

    _fields_ = (
        ("attention", AttentionCall),
        *((name, Int8Weights) for name in ("projections", "output", "gate_up", "down")),
        *((name, ctypes.c_int64) for name in ("hidden", "inner", "rounded", "scales", "peaks")),
        *((name, ctypes.c_int64) for name in ("cosines", "sines", "attention_norm", "mlp_norm")),
        *((name, ctypes.c_int64) for name in ("hidden_width", "inner_width")),
        *((name, ctypes.c_float) for name in ("attention_epsilon", "mlp_epsilon")),
    )


@compiled
def _floats(address: int, row: int, width: int) -> Floats:
    found: Floats = carray(pointer(address + 4 * row * width), width, np.float32)
    return found


@compiled
def _round(call: Any, row: int, scratch: Floats) -> None:
    """Round a row of one token, changed."""
    rounded = carray(pointer(call.rounded + row * len(scratch)), len(scratch), np.uint8)
    _floats(call.scales, row, 1)[0] = round_row(scratch, rounded)


@compiled
def _normalize_share(call: Any, norm: int, epsilon: float) -> None:
    weight = _floats(norm, 0, call.hidden_width)
    scratch = np.empty(call.hidden_width, np.float32)
    for token in range(thread_number(), call.attention.tokens, thread_count()):
        normalize_row(_floats(call.hidden, token, call.hidden_width), weight, epsilon, scratch)
        _round(call, token, scratch)


@compiled
def _rotate(numbers: Floats, cosines: Floats, sines: Floats) -> None:
    """Rotary embedding (RoFormer, Su et al., 2021) of one head of one token, changed."""
    half = len(numbers) // 2
    for column in range(half):
        one, other = numbers[column], numbers[half + column]
        numbers[column] = one * cosines[column] - other * sines[column]
        numbers[half + column] = other * cosines[half + column] + one * sines[half + column]


@compiled
def _rotate_share(call: Any) -> None:
    attention = call.attention
    for token in range(thread_number(), attention.tokens, thread_count()):
        cosines = _floats(call.cosines, token, attention.width)
        sines = _floats(call.sines, token, attention.width)
        for head in range(attention.query_heads):
            _rotate(head_row(attention.query, head, token, attention.width), cosines, sines)
        for head in range(attention.heads):
            _rotate(head_row(attention.key, head, token, attention.width), cosines, sines)


@compiled
def _attended_share(call: Any) -> None:
    width = call.attention.query_heads * call.attention.width
    for token in range(thread_number(), call.attention.tokens, thread_count()):
        _round(call, token, _floats(call.attention.output.address, token, width))


@compiled
def _gated_columns(call: Any) -> tuple[int, int]:
    """The columns that this thread computes, rounds and reads again: its own, as far as can be."""
    blocks, mine, threads = call.inner_width // MOST, thread_number(), thread_count()
    return blocks * mine // threads * MOST, blocks * (mine + 1) // threads * MOST


@compiled
def _gate_share(call: Any) -> None:
    """Gate and mix this thread's columns, and tell the largest of each row."""
    begin, end = _gated_columns(call)
    tokens, width = call.attention.tokens, call.inner_width
    gate_groups(
        call.gate_up,
        begin // GATED,
        end // GATED,
        tokens,
        call.rounded,
        call.scales,
        call.inner,
        4 * width,
    )
    for token in range(tokens):
        inner = _floats(call.inner, token, width)[begin:end]
        transform(inner)
        _floats(call.peaks, token, thread_count())[thread_number()] = peak(inner)


@compiled
def _round_gated_share(call: Any) -> None:
    """Round this thread's columns, when all have told the largest."""
    begin, end = _gated_columns(call)
    width = call.inner_width
    for token in range(call.attention.tokens):
        inner = _floats(call.inner, token, width)[begin:end]
        rounded = carray(pointer(call.rounded + token * width), width, np.uint8)
        most = _floats(call.peaks, token, thread_count()).max()
        round_to(inner, most, rounded[begin:end])
        if begin == 0:
            _floats(call.scales, token, 1)[0] = most / np.float32(LARGEST)


@compiled
def _project_share(call: Any) -> None:
    """Queries, keys and values side by side."""
    weights, query = call.projections, call.attention.query
    first, last = share(weights.groups)
    multiply_groups(
        weights,
        first,
        last,
        call.attention.tokens,
        call.rounded,
        call.scales,
        weights.bias,
        0,
        query.address,
        query.token,
    )


@compiled
def _add_share(call: Any, weights: Any) -> None:
    """Add a product to what the layer was given."""
    first, last = share(weights.groups)
    multiply_groups(
        weights,
        first,
        last,
        call.attention.tokens,
        call.rounded,
        call.scales,
        call.hidden,
        4 * call.hidden_width,
        call.hidden,
        4 * call.hidden_width,
    )


@parallel(LayerCall)
def _compute(calls: Any) -> None:
    """Compute one layer."""
    call = carray(calls, 1)[0]
    _normalize_share(call, call.attention_norm, call.attention_epsilon)
    barrier()
    _project_share(call)
    barrier()
    _rotate_share(call)
    keep_share(call.attention)  # of the tokens that this thread has rotated
    barrier()
    attend_share(call.attention)
    barrier()
    _attended_share(call)
    barrier()
    _add_share(call, call.output)
    barrier()
    _normalize_share(call, call.mlp_norm, call.mlp_epsilon)
    barrier()
    _gate_share(call)
    barrier()
    _round_gated_share(call)
    barrier()
    _add_share(call, call.down)


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
        if step is None:
            return cast(
                "torch.Tensor",
                self.layer(hidden_states, position_embeddings=position_embeddings, **others),
            )
        call, workspace = self._call, self._workspace
        cosines, sines = (each.contiguous() for each in position_embeddings)
        workspace.reserve(hidden_states.shape[1], *self._widths)
        call.attention = self._attention(step, cosines.shape[-1])
        call.hidden = hidden_states.data_ptr()
        for name in ("inner", "rounded", "scales", "peaks"):
            setattr(call, name, getattr(workspace, name).data_ptr())
        call.cosines, call.sines = cosines.data_ptr(), sines.data_ptr()
        openmp.run(_compute, call, workspace.threads)
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
            step=CpuCache(config, 1).attention([Span(0, tokens, [0])]),
        )
        for each in (fused, layer)
    )
    return fused if (given - expected).abs().max() <= 0.02 * expected.abs().max() else None
