"""Steps in which each sequence gets one token, as CUDA graphs, and the step after them.

A GPU runs such a step of a small model in less time than a host takes to launch its kernels; a
graph launches all of them at once (as in vLLM, gpt-fast and nano-vllm). And it does not wait for
the host to say which tokens were chosen: it goes on with the likeliest. When those were chosen,
what the host asks for next is under way already; when not, it is computed again, and nothing else
comes of it: a sequence's next keys and values are written where nobody looks yet.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from services.generator.engine.attention import Span
from services.generator.engine.paged_cache import DecodeAttention, PagedCache, to_device

_WARM_UPS = 2  # before a capture: what is set up lazily cannot be captured

# Steps in a row whose likeliest tokens were chosen, before one is begun ahead: to compute a step
# twice costs several times what is gained when it was right.
_TRUST = 8


def ladder(most: int) -> list[int]:
    """Batch sizes that there are graphs for, up to `most`; smaller steps are padded to the next."""
    return [size for size in (1, 2, 4, *range(8, most, 8)) if size < most] + [most]


def can_be_captured(model: Any) -> bool:
    """Whether a model is on a GPU, and computes the same way whatever the tokens are."""
    rope = str(getattr(model.config, "rope_parameters", None))
    # These turn queries and keys by how long the longest text is.
    by_length = "dynamic" in rope or "longrope" in rope
    return model.device.type == "cuda" and model._can_compile_fullgraph and not by_length


@dataclass(frozen=True, slots=True)
class _Step:
    """What a step makes, on the device until it is `done`.

    Attributes:
        logits: float32 (most, vocabulary).
        likeliest: int64 (most,), in the host's memory: the tokens that the next step begins with.
        done: Recorded behind it.
    """

    logits: torch.Tensor
    likeliest: torch.Tensor
    done: torch.cuda.Event

    @classmethod
    def empty(cls, most: int, vocabulary: int, device: torch.device) -> "_Step":
        return cls(
            torch.empty(most, vocabulary, device=device),
            torch.empty(most, dtype=torch.int64, pin_memory=device.type == "cuda"),
            torch.cuda.Event(),
        )


class DecodeGraphs:
    """Computes one token of each of some sequences.

    Args:
        model: Of transformers, one that `can_be_captured`.
        cache: Where its keys and values lie.
        most: Sequences of a step.
        context_length: Tokens of a sequence.
    """

    @torch.inference_mode()
    def __init__(self, model: Any, cache: PagedCache, most: int, context_length: int) -> None:
        self._model = model
        self._cache = cache
        device = cache.device
        self._no_mask = torch.zeros(1, 1, 1, 1, dtype=torch.bool, device=device)
        # What a graph reads; it leaves tokens and places as the step after it needs them.
        self._tokens = torch.zeros(most, dtype=torch.int64, device=device)
        self._places = torch.zeros(most, dtype=torch.int64, device=device)
        columns = -(-context_length // cache.block_size)
        shape = (most, columns)
        self._tables = torch.full(shape, cache.scratch, dtype=torch.int32, device=device)
        self._rows = np.full(shape, cache.scratch, np.int32)  # the same, on the host
        self._stream = torch.cuda.Stream(device)
        self._forward = torch.compile(
            self._logits,
            fullgraph=True,
            # A single token's matrix products then become reductions that read weights faster.
            options={"coordinate_descent_tuning": True},
        )
        self._graphs = self._capture(ladder(most))
        vocabulary = self._graphs[most][1].shape[1]
        # Two, by turns: while one is read, the step ahead fills the other.
        self._this, self._next = (_Step.empty(most, vocabulary, device) for _ in range(2))
        self._order: list[int] = []  # where in `_this` the last call's sequences are
        self._expected: list[Span] = []  # what comes after them
        self._ahead = False  # whether that is under way, in their order, into `_next`
        self._right = _TRUST  # so many steps in a row began with the likeliest tokens

    def run(self, tokens: Sequence[int], spans: Sequence[Span]) -> torch.Tensor:
        """Compute some tokens, each of another sequence.

        Args:
            tokens: One of each sequence.
            spans: Where they stand; none is the first of its sequence.

        Returns:
            Logits after each of them, float32 (sequences, vocabulary), for the current stream. They
            hold until the next call.
        """
        order = self._were_expected(tokens, spans)
        current = torch.cuda.current_stream()
        self._stream.wait_stream(current)
        with torch.cuda.stream(self._stream):
            if order is None:
                order = list(range(len(spans)))
                self._load(tokens, spans)
                self._launch(self._this, len(spans))
            else:
                self._this, self._next = self._next, self._this
                self._carry_on(order, spans)
            current.wait_event(self._this.done)
            self._go_ahead(order, spans)
        logits = self._this.logits
        return logits[: len(order)] if _is_range(order) else logits[order]

    def settle(self) -> None:
        """Let the current stream wait for all that is under way, and expect nothing."""
        torch.cuda.current_stream().wait_stream(self._stream)
        self._expected, self._ahead = [], False

    def _were_expected(self, tokens: Sequence[int], spans: Sequence[Span]) -> list[int] | None:
        """Where the step that is under way has these tokens; None where it has not all of them."""
        places = _places_of(spans, self._expected)
        if places is None:
            return None
        self._this.done.synchronize()
        likeliest = self._this.likeliest.tolist()
        right = [likeliest[self._order[place]] for place in places] == list(tokens)
        self._right = self._right + 1 if right else 0
        return places if right and self._ahead else None

    def _load(self, tokens: Sequence[int], spans: Sequence[Span]) -> None:
        """Tell the device what to compute."""
        self._tokens[: len(tokens)] = to_device(tokens, np.int64, self._cache.device)
        for row, span in zip(self._rows, spans, strict=False):
            row[: len(span.blocks)] = span.blocks
        self._place([span.begin for span in spans])

    def _carry_on(self, order: list[int], spans: Sequence[Span]) -> None:
        """Tell the device what has changed, since it went ahead, for the step after `_this`."""
        changed = len(order) < len(self._expected)
        if changed:
            self._tokens[: len(order)] = self._tokens[
                to_device(order, np.int64, self._cache.device)
            ]
            self._rows[: len(order)] = self._rows[order]
        for row, span, number in zip(self._rows, spans, order, strict=False):
            known = len(self._expected[number].blocks)
            if known < len(span.blocks):
                row[known : len(span.blocks)] = span.blocks[known:]
                changed = True
        if changed:
            self._place([span.end for span in spans])

    def _place(self, places: list[int]) -> None:
        """Give the device places and tables; what a step is padded with is in the scratch block."""
        size = self._size(len(places))
        self._rows[len(places) : size] = self._cache.scratch
        padded = places + [0] * (size - len(places))
        self._places[:size] = to_device(padded, np.int64, self._cache.device)
        self._tables[:size] = to_device(self._rows[:size], np.int32, self._cache.device)

    def _go_ahead(self, order: list[int], spans: Sequence[Span]) -> None:
        """Start the step after `_this` if its tokens are likely, and each has its slot already."""
        size = self._cache.block_size
        self._order = order
        self._expected = [Span(one.end, one.end + 1, list(one.blocks)) for one in spans]
        room = all(one.end < len(one.blocks) * size for one in spans)
        self._ahead = room and self._right >= _TRUST
        if self._ahead:
            self._launch(self._next, len(spans))

    def _launch(self, step: _Step, count: int) -> None:
        graph, logits = self._graphs[self._size(count)]
        graph.replay()
        step.logits[:count] = logits[:count]
        step.likeliest[:count].copy_(self._tokens[:count], non_blocking=True)
        step.done.record()

    def _size(self, count: int) -> int:
        return min(size for size in self._graphs if size >= count)

    def _capture(
        self, sizes: Sequence[int]
    ) -> dict[int, tuple[torch.cuda.CUDAGraph, torch.Tensor]]:
        """Graphs, and where each leaves its logits until the next is launched."""
        graphs = {}
        memory = torch.cuda.graph_pool_handle()
        self._stream.wait_stream(torch.cuda.current_stream())
        for size in reversed(sizes):  # the smaller ones find room in the memory of the largest
            with torch.cuda.stream(self._stream):
                for _ in range(_WARM_UPS):
                    self._step(size)
            self._stream.synchronize()
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph, pool=memory, stream=self._stream):
                logits = self._step(size)
            graphs[size] = graph, logits
        return graphs

    def _step(self, size: int) -> torch.Tensor:
        """What is captured: a step, and what the one after it begins with."""
        tokens, places, tables = self._tokens[:size], self._places[:size], self._tables[:size]
        if size > 1:  # compiled once for all of them, and once for a single one
            for each in (tokens, places, tables):
                torch._dynamo.maybe_mark_dynamic(each, 0)
        logits: torch.Tensor = self._forward(tokens, places, tables)
        tokens.copy_(logits.argmax(dim=-1))
        places += places.clamp(max=1)  # padding stays where it is, at 0
        return logits

    def _logits(
        self, tokens: torch.Tensor, places: torch.Tensor, tables: torch.Tensor
    ) -> torch.Tensor:
        output = self._model(
            input_ids=tokens[None],
            position_ids=places[None],
            attention_mask=self._no_mask,
            use_cache=False,
            step=DecodeAttention(self._cache, places, tables),
        )
        logits: torch.Tensor = output.logits[0].float()
        return logits


def _places_of(spans: Sequence[Span], expected: Sequence[Span]) -> list[int] | None:
    """Where spans stand among those expected, whose order they keep; None unless all do."""
    rest = enumerate(expected)
    places = [next((n for n, one in rest if _is_same(span, one)), -1) for span in spans]
    return places if -1 not in places else None


def _is_same(span: Span, expected: Span) -> bool:
    blocks = list(span.blocks[: len(expected.blocks)])
    return span.begin == expected.begin and blocks == expected.blocks


def _is_range(numbers: list[int]) -> bool:
    return numbers == list(range(len(numbers)))
