"""Layers that are computed one after the other, in one call of the compiled loop."""

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass
from operator import is_not
from typing import Any

import numpy as np
import torch

from services.generator import openmp
from services.generator.engine.attention import UnsupportedModelError
from services.generator.engine.cpu_attention import AttentionCall, Rows
from services.generator.engine.cpu_cache import EVERYTHING, CpuAttention
from services.generator.engine.layer_loop import LayerCall
from services.generator.engine.model_loop import ModelCall, compute
from services.generator.engine.work_sharing import board

_ATTENTION = np.dtype(AttentionCall)

# Tokens that memory is kept for; a text to embed may have thousands more than any step.
_KEPT = 256


@dataclass(frozen=True, slots=True)
class Asked:
    """What a layer asks of attention."""

    layer: int
    scale: float
    window: int | None


class LayerRun:
    """Computes layers in an engine's steps.

    Args:
        layers: Of transformers, of the same widths, with parts in eight bits.
        asked: What each asks.
    """

    def __init__(self, layers: Sequence[Any], asked: Sequence[Asked]) -> None:
        self._layers = layers  # which own what the loop is told of
        self._array = (LayerCall * len(layers))(*map(_call, layers))
        self._calls = np.frombuffer(memoryview(self._array).cast("B"), np.dtype(LayerCall))
        self._numbers = [each.layer for each in asked]
        self._scales = [each.scale for each in asked]
        self._windows = [each.window or EVERYTHING for each in asked]
        self._workspace = _Workspace(layers[0])
        self._calls["widest"] = self._workspace.widest
        self._given: tuple[torch.Tensor, torch.Tensor, torch.Tensor] | None = None

    def __len__(self) -> int:
        return len(self._layers)

    def __call__(
        self,
        layer: int,
        hidden: torch.Tensor,
        cosines: torch.Tensor,
        sines: torch.Tensor,
        step: CpuAttention | None,
    ) -> torch.Tensor | None:
        """Compute a step for all layers when the first one is asked for.

        Args:
            layer: Its number.
            hidden: float32 (1, tokens, width), changed.
            cosines: float32 (1, tokens, width of a head).
            sines: As `cosines`.
            step: What is computed; None where it is no step of an engine.

        Returns:
            What the last one gives, as `hidden`; None where the loop is not for that.

        Raises:
            UnsupportedModelError: a later layer is not given what the first one was, and what the
                one before it gave.
        """
        if layer == self._numbers[0]:
            self._given = None
            if step is not None and _suits(step, cosines, sines):
                self._given = hidden.contiguous(), cosines, sines
                turned = cosines.contiguous(), sines.contiguous()
                places = turned[0].data_ptr(), turned[1].data_ptr()
                self.compute(self._given[0].data_ptr(), *places, step, ModelCall())
        elif self._given and any(map(is_not, (hidden, cosines, sines), self._given)):
            raise UnsupportedModelError(f"whose layer {layer} takes something else than others")
        return self._given[0] if self._given else None

    def compute(
        self, hidden: int, cosines: int, sines: int, step: CpuAttention, call: ModelCall
    ) -> None:
        """Compute a step.

        Args:
            hidden: Address of float32 (tokens, width), changed.
            cosines: Of float32 (tokens, width of a head).
            sines: As `cosines`.
            step: What is computed.
            call: Which says what is computed before and behind the layers; told what they are.
        """
        workspace, calls = self._workspace, self._calls
        workspace.reserve(step.call.tokens)
        workspace.tell(step.call)
        calls["attention"] = np.frombuffer(memoryview(step.call).cast("B"), _ATTENTION)
        attention = calls["attention"]
        attention["keys"], attention["values"] = step.cache.addresses(self._numbers)
        attention["scale"], attention["window"] = self._scales, self._windows
        calls["hidden"], calls["cosines"], calls["sines"] = hidden, cosines, sines
        for name in ("inner", "rounded", "scales", "peaks"):
            calls[name] = getattr(workspace, name).data_ptr()
        workspace.board[:] = 0
        workspace.board[0] = step.call.share_count
        call.board = workspace.board.ctypes.data
        call.layers, call.layer_count = ctypes.addressof(self._array), len(self._array)
        openmp.run(compute, call, workspace.threads)
        step.attended(self._numbers)


def _suits(step: CpuAttention, cosines: torch.Tensor, sines: torch.Tensor) -> bool:
    """Whether the loop is for such a step: it rotates all of a head."""
    width = step.call.width
    return step.cache.dtype == torch.bfloat16 and cosines.shape[2] == sines.shape[2] == width


def _call(layer: Any) -> LayerCall:
    """What the loop is told of a layer in all steps."""
    attention, mlp, call = layer.self_attn, layer.mlp, LayerCall()
    call.projections = attention.q_proj.linear.product.weights
    call.output = attention.o_proj.product.weights
    call.gate_up, call.down = mlp.gate_up.product.weights, mlp.down.product.weights
    norms = layer.input_layernorm, layer.post_attention_layernorm
    call.attention_norm, call.mlp_norm = (norm.weight.ctypes.data for norm in norms)
    call.attention_epsilon, call.mlp_epsilon = (norm.epsilon for norm in norms)
    call.hidden_width, call.inner_width = mlp.gate_up.in_features, mlp.down.in_features
    return call


class _Workspace:
    """Memory for what is computed inside a layer, which all layers use in turn.

    Attributes:
        threads: How many the loop may be run in.
        board: Of `work_sharing.board`.
        widest: Bytes of the widest row that is rounded.
    """

    def __init__(self, layer: Any) -> None:
        self.threads = 0
        self._tokens = 0
        self._projected = layer.self_attn.q_proj.linear.out_features
        self._attended = layer.self_attn.o_proj.in_features
        self._inner = layer.mlp.down.in_features
        self.widest = max(layer.mlp.gate_up.in_features, self._attended, self._inner)

    def reserve(self, tokens: int) -> None:
        """Make room for a step's tokens; what there is stays where it suits."""
        threads = torch.get_num_threads()
        if tokens <= self._tokens <= max(tokens, _KEPT) and threads == self.threads:
            return
        self._tokens, self.threads = tokens, threads
        self.board = board(threads)
        self.projected = torch.empty(tokens, self._projected)
        self.attended = torch.empty(tokens, self._attended)
        self.inner = torch.empty(tokens, self._inner)
        self.rounded = torch.empty(tokens, self.widest, dtype=torch.uint8)
        self.scales = torch.empty(tokens)
        self.peaks = torch.empty(threads, tokens)

    def tell(self, call: AttentionCall) -> None:
        """Tell attention where the layers' query, key and value will be."""
        width = call.width
        begin, projected, attended = self.projected.data_ptr(), self._projected, self._attended
        call.query = Rows(begin, 4 * width, 4 * projected)
        call.key = Rows(begin + 4 * attended, 4 * width, 4 * projected)
        behind = (attended + projected) // 2  # as many keys as values
        call.value = Rows(begin + 4 * behind, 4 * width, 4 * projected)
        call.output = Rows(self.attended.data_ptr(), 4 * width, 4 * attended)
        call.query_heads = attended // width
