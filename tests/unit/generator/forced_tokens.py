"""Makes vLLM choose given tokens. It is imported by the process in which vLLM runs the model."""

from collections.abc import Callable, Sequence

import torch
from vllm.sampling_params import SamplingParams
from vllm.v1.sample.logits_processor import AdapterLogitsProcessor

FORCED = "forced"
"""Name among a request's extra arguments of the tokens to choose; the last again and again."""


class ForcedTokens(AdapterLogitsProcessor):  # type: ignore[misc]  # vLLM may not be there
    """Raises the logits of a request's forced tokens, so that those forbidden stay so."""

    def is_argmax_invariant(self) -> bool:
        return False

    def new_req_logits_processor(
        self, params: SamplingParams
    ) -> Callable[[Sequence[int], torch.Tensor], torch.Tensor] | None:
        tokens = (params.extra_args or {}).get(FORCED)
        if not tokens:
            return None

        def force(generated: Sequence[int], logits: torch.Tensor) -> torch.Tensor:
            logits[tokens[min(len(generated), len(tokens) - 1)]] += 1e9
            return logits

        return force
