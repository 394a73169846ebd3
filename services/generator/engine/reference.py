"""The reference engine: `transformers`' own `generate`, one request after the other.

Every other engine is checked and measured against it. Requests run in the order they come, in one
thread; a seed gives what `transformers.set_seed` followed by a `text-generation` pipeline gives.
Texts to embed run in the same thread, a batch at a time between other requests.
"""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import torch
from transformers.generation.stopping_criteria import StoppingCriteria, StoppingCriteriaList

from services.generator.embedding import Vectors
from services.generator.engine.interface import GenerationRequest
from services.generator.engine.job import Job
from services.generator.engine.likelihoods import Likelihoods
from services.generator.engine.threaded import ThreadedEngine
from services.generator.models import LoadedModel

# How long a request is taken to last until one has been measured.
_FIRST_GUESS_S = 5.0


class ReferenceEngine(ThreadedEngine):
    """Runs `generate` in one owned thread.

    Args:
        loaded: The model and its tokenizer.
        max_waiting: Requests that may wait beside the one that runs; one more is refused.
    """

    name = "reference"

    def __init__(self, loaded: LoadedModel, max_waiting: int = 16) -> None:
        super().__init__(loaded, 1 + max_waiting, loaded.description.context_length)
        self._usual_s = _FIRST_GUESS_S
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="model")

    def _begin(self, job: Job) -> None:
        self._thread.submit(self._run, job)

    def _submit(self, work: Callable[[], list[Vectors]]) -> Future[list[Vectors]]:
        return self._thread.submit(work)

    def _place_every_s(self) -> float:
        return self._usual_s

    def _end_thread(self) -> None:
        self._thread.shutdown()

    def _run(self, job: Job) -> None:
        """Generate one text; in the engine's thread."""
        try:
            if not job.over():
                self._generate(job)
                self._usual_s += 0.2 * (job.running_s() - self._usual_s)
        except Exception as error:
            job.fail(error)
        else:
            job.end()

    def _generate(self, job: Job) -> None:
        job.begin()
        model = self._loaded.model
        prompt = torch.tensor([job.request.prompt_ids], device=model.device)
        if job.seed is not None:
            torch.manual_seed(job.seed)  # `set_seed` fails beyond 32 bits, numpy's limit
        step = _Step(job)
        with torch.inference_mode(), model.register_forward_hook(step.see):
            model.generate(
                prompt,
                attention_mask=torch.ones_like(prompt),
                stopping_criteria=StoppingCriteriaList([step]),
                **_arguments(job.request, self._loaded),
            )


class _Step(StoppingCriteria):
    """Hands each token to the job and ends the text when the job says so.

    A streamer would get the token only after this question has been asked, so that a stop string
    would be seen one step too late.
    """

    def __init__(self, job: Job) -> None:
        self._job = job
        self._likelihoods: Likelihoods

    def see(self, _model: Any, _arguments: Any, output: Any) -> None:
        """Note what the model says; `generate` hands on nothing but what it has made of it."""
        self._likelihoods = Likelihoods(output.logits[:, -1], [self._job.request.logprobs])

    def __call__(self, input_ids: Any, scores: Any, **kwargs: Any) -> Any:
        token = int(input_ids[0, -1])
        self._job.put(token, *self._likelihoods.of([token]))
        return torch.full((1,), self._job.over(), device=input_ids.device, dtype=torch.bool)


def _arguments(request: GenerationRequest, loaded: LoadedModel) -> dict[str, Any]:
    """The request in the words of `generate`."""
    sampling, stopping = request.sampling, request.stopping
    room = loaded.description.context_length - len(request.prompt_ids)
    arguments: dict[str, Any] = {
        "max_new_tokens": min(stopping.max_new_tokens, room),
        "min_new_tokens": min(stopping.min_new_tokens, room) or None,
        "do_sample": sampling.do_sample,
        "repetition_penalty": sampling.repetition_penalty,
        "eos_token_id": None if stopping.ignore_eos else sorted(loaded.stop_ids),
        "pad_token_id": min(loaded.stop_ids, default=0),
    }
    if sampling.do_sample:
        arguments |= {
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "top_k": sampling.top_k,
            "min_p": sampling.min_p or None,
        }
    return arguments
