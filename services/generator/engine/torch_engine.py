"""An engine that batches continuously: in every step each running text gets its next token.

After nano-vllm (GeeeekExplorer, 2025) in its parts: a scheduler and a pool of blocks that know no
tensors, a runner that knows no requests, and this, which brings them together in one thread.
"""

import logging
from collections.abc import Callable
from concurrent.futures import Future
from queue import SimpleQueue
from threading import Thread
from typing import TYPE_CHECKING

import torch

from services.generator.embedding import Vectors
from services.generator.engine.attention import Span, UnsupportedModelError, token_bytes
from services.generator.engine.blocks import BlockPool
from services.generator.engine.cpu_attention import BLOCK_SIZE
from services.generator.engine.cpu_cache import CpuCache
from services.generator.engine.cpu_runner import CpuRunner, kept_type
from services.generator.engine.interface import Logprobs
from services.generator.engine.job import Job
from services.generator.engine.likelihoods import Likelihoods
from services.generator.engine.pace import Pace
from services.generator.engine.sampler import Candidates, Choice, choose
from services.generator.engine.scheduler import Chunk, Limits, Scheduler
from services.generator.engine.sequence import Sequence
from services.generator.engine.shares import CONTEXT
from services.generator.engine.threaded import Prompts, ThreadedEngine
from services.generator.hidden_states import BATCH_TOKENS
from services.generator.models import LoadedModel

if TYPE_CHECKING:
    from services.generator.engine.paged_runner import PagedRunner

_log = logging.getLogger("segue.engine")

# Of SmolLM2-135M on two cores, 96 tokens take 34 ms, five times a step of eight texts.
_CPU_STEP_TOKENS = 96
_CUDA_STEP_TOKENS = 2048  # 15 teraflop of Phi-3-mini; not measured
_CPU_BYTES = 2**30
_CUDA_SHARE = 0.8


def block_bytes(loaded: LoadedModel) -> int:
    """Memory that a block of keys and values takes where the model is."""
    model = loaded.model
    if model.device.type == "cpu":
        return CpuCache.block_bytes(model.config, kept_type(loaded))
    return BLOCK_SIZE * token_bytes(model.config, model.dtype)


def usual_limits(device: torch.device) -> Limits:
    """Bounds of a step that suit a device."""
    if device.type == "cpu":
        return Limits(tokens=_CPU_STEP_TOKENS, context=CONTEXT)
    return Limits(tokens=_CUDA_STEP_TOKENS)


class KvBudgetError(ValueError):
    """The memory for keys and values holds not even one block; the message says what would."""

    def __init__(self, kv_bytes: int, least: int) -> None:
        super().__init__(
            f"{kv_bytes:,} bytes for keys and values hold less than {BLOCK_SIZE} tokens of this "
            f"model; give at least {least:,} with --kv-bytes"
        )


class TorchEngine(ThreadedEngine):
    """Runs a model of transformers in one owned thread.

    Nothing else in the process may compute with torch: once two threads have had workers of OpenMP,
    those of both sleep between steps, and small steps take twice as long.

    Args:
        loaded: The model and its tokenizer; its attention is replaced, and no other engine may run
            it at the same time.
        max_waiting: Requests that may wait beside those that run; one more is refused.
        kv_bytes: Memory for keys and values; by default 1 GiB, or most of what a GPU has left, and
            never more than all that may run can use.
        limits: Bounds of one step; by default the usual ones of the model's device.
        share: Whether beginnings that prompts have in common are computed once.

    Raises:
        KvBudgetError: the memory holds no block.
    """

    name = "torch"

    def __init__(
        self,
        loaded: LoadedModel,
        max_waiting: int = 16,
        *,
        kv_bytes: int | None = None,
        limits: Limits | None = None,
        share: bool = True,
    ) -> None:
        limits = limits or usual_limits(loaded.model.device)
        blocks = _blocks(loaded, kv_bytes, limits)
        room = min(loaded.description.context_length, blocks * BLOCK_SIZE)
        # Texts that grow wait for a pass as they wait for a step.
        pass_tokens = min(BATCH_TOKENS, limits.tokens)
        super().__init__(loaded, limits.running + max_waiting, room, pass_tokens)
        self._pace = Pace()
        self._pool = BlockPool(blocks, BLOCK_SIZE, share=share)
        ahead = loaded.model.device.type == "cuda"
        self._scheduler: Scheduler[_Owner] = Scheduler(self._pool, limits, ahead=ahead)
        self._runner = _runner(loaded, blocks, BLOCK_SIZE, limits.running)
        self._arrivals: SimpleQueue[Job | _Pass | None] = SimpleQueue()
        self._thread = Thread(target=self._run, name="model", daemon=True)
        self._thread.start()

    def _begin(self, job: Job) -> None:
        self._arrivals.put(job)

    def _submit(self, work: Callable[[], list[Vectors]]) -> Future[list[Vectors]]:
        run = _Pass(work)
        self._arrivals.put(run)
        return run.result

    def _states(self, prompts: Prompts) -> list[Vectors]:
        return self._runner.hidden_states(prompts)

    def _place_every_s(self) -> float:
        return self._pace.seconds

    def _end_thread(self) -> None:
        self._arrivals.put(None)
        self._thread.join()

    # From here on: the engine's thread.

    def _run(self) -> None:
        closing = False
        while not closing or len(self._scheduler):
            self._tell()
            closing = closing or self._take_arrivals()
            try:
                self._drop_what_is_over()
                self._step()
            except Exception as error:  # a defect, which must not leave anybody waiting for ever
                _log.exception("the engine failed, and all its texts with it")
                for sequence in self._scheduler.sequences:
                    self._fail(sequence, error)
        self._tell()

    def _take_arrivals(self) -> bool:
        """Take what has come, and wait for it when there is nothing to do; true at the end."""
        while not (len(self._scheduler) and self._arrivals.empty()):
            arrival = self._arrivals.get()
            if arrival is None:
                return True
            if isinstance(arrival, Job):
                self._scheduler.add(_sequence(arrival, self.room))
            else:
                arrival()
                break  # texts that grow get their next token between two passes
        return False

    def _tell(self) -> None:
        metrics, scheduler = self._metrics, self._scheduler
        metrics.running.set(scheduler.running)
        metrics.waiting.set(len(scheduler) - scheduler.running)
        metrics.kv_use.set(1 - self._pool.free / self._pool.count)

    def _drop_what_is_over(self) -> None:
        for sequence in self._scheduler.sequences:
            job = sequence.owner.job
            if job.over():
                self._scheduler.remove(sequence)
                job.end()

    def _step(self) -> None:
        chunks = self._scheduler.schedule()
        self._metrics.preemptions.inc(self._scheduler.preempted)
        if not chunks:
            return
        for chunk in chunks:
            self._note_admission(chunk.sequence)
        try:
            chosen = self._compute(chunks)
        except Exception as error:
            for chunk in chunks:
                self._fail(chunk.sequence, error)
            return
        for chunk in chunks:
            self._scheduler.done(chunk)
        for sequence, token, logprobs in chosen:
            try:
                self._append(sequence, token, logprobs)
            except Exception as error:  # what its tokens say concerns this text alone
                self._fail(sequence, error)

    def _fail(self, sequence: Sequence["_Owner"], error: Exception) -> None:
        self._scheduler.remove(sequence)
        sequence.owner.job.fail(error)

    def _note_admission(self, sequence: "Sequence[_Owner]") -> None:
        """Note that waiting is over, if it was not before."""
        job = sequence.owner.job
        if not job.begun:
            job.begin(cached_tokens=sequence.cached)
            self._metrics.prefix_queries.inc(len(sequence.tokens))
            self._metrics.prefix_hits.inc(sequence.cached)

    def _compute(
        self, chunks: "list[Chunk[_Owner]]"
    ) -> "list[tuple[Sequence[_Owner], int, Logprobs | None]]":
        """Run the model, and choose the next token of each sequence that is ready for it."""
        ready = [number for number, chunk in enumerate(chunks) if chunk.last]
        logits = self._runner.run(
            [chunk.sequence.tokens[chunk.begin : chunk.end] for chunk in chunks],
            [Span(chunk.begin, chunk.end, chunk.sequence.blocks) for chunk in chunks],
            ready,
        )
        sequences = [chunks[number].sequence for number in ready]
        likelihoods = Likelihoods(logits, [one.owner.job.request.logprobs for one in sequences])
        tokens = choose(logits, [self._candidates(sequence) for sequence in sequences])
        return list(zip(sequences, tokens, likelihoods.of(tokens), strict=True))

    def _candidates(self, sequence: "Sequence[_Owner]") -> Candidates:
        request = sequence.owner.job.request
        generated = len(sequence.tokens) - len(request.prompt_ids)
        early = generated < request.stopping.min_new_tokens and not request.stopping.ignore_eos
        return Candidates(
            sequence.owner.choice,
            sequence.tokens,
            forbidden=sorted(self._loaded.stop_ids) if early else (),
        )

    def _append(self, sequence: "Sequence[_Owner]", token: int, logprobs: Logprobs | None) -> None:
        job = sequence.owner.job
        sequence.tokens.append(token)
        job.put(token, logprobs)
        if job.over() or job.ended_itself or len(sequence.tokens) == sequence.most:
            self._scheduler.remove(sequence)
            self._pace.note()
            job.end()


class _Pass:
    """A pass of the model for something else than a text, and what comes of it."""

    def __init__(self, work: Callable[[], list[Vectors]]) -> None:
        self.result: Future[list[Vectors]] = Future()
        self._work = work

    def __call__(self) -> None:
        if self.result.set_running_or_notify_cancel():
            try:
                self.result.set_result(self._work())
            except Exception as error:
                self.result.set_exception(error)


class _Owner:
    """Whose a sequence is: its job, and how its tokens are chosen."""

    __slots__ = ("choice", "job")

    def __init__(self, job: Job) -> None:
        self.job = job
        self.choice = Choice(job.request.sampling, job.seed)


def _sequence(job: Job, room: int) -> Sequence[_Owner]:
    request = job.request
    most = min(room, len(request.prompt_ids) + request.stopping.max_new_tokens)
    return Sequence(_Owner(job), list(request.prompt_ids), most)


def _runner(
    loaded: LoadedModel, blocks: int, block_size: int, most: int
) -> "CpuRunner | PagedRunner":
    """What runs the model where it is, at most so many sequences a step."""
    device = loaded.model.device.type
    if device == "cpu":
        return CpuRunner(loaded, blocks)
    if device != "cuda":
        raise UnsupportedModelError(f"on a device of type {device}")
    # It needs Triton, which comes with the torch that knows CUDA and with no other.
    from services.generator.engine.paged_runner import PagedRunner

    return PagedRunner(loaded, blocks, block_size, most)


def _blocks(loaded: LoadedModel, kv_bytes: int | None, limits: Limits) -> int:
    """How many blocks fit the budget."""
    model = loaded.model
    if kv_bytes is None:
        kv_bytes = _CPU_BYTES
        if model.device.type == "cuda":
            free, _ = torch.cuda.mem_get_info(model.device)
            kv_bytes = int(_CUDA_SHARE * free)
    least = block_bytes(loaded)
    if kv_bytes < least:
        raise KvBudgetError(kv_bytes, least)
    useful = limits.running * -(-loaded.description.context_length // BLOCK_SIZE)
    return int(min(kv_bytes // least, useful))
