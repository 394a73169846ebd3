"""How likely the model finds the tokens that are chosen, for those who ask."""

from collections.abc import Sequence

import torch

from services.generator.engine.interface import Logprobs, TokenLogprob


class Likelihoods:
    """The model's own probabilities of the next tokens, to be told once these are chosen.

    Args:
        logits: As the model gives them, (rows, vocabulary). They may be changed afterwards.
        counts: How many of the likeliest tokens are told of each row; None where nothing is told
            and so nothing is computed.
    """

    def __init__(self, logits: torch.Tensor, counts: Sequence[int | None]) -> None:
        self._counts = {row: count for row, count in enumerate(counts) if count is not None}
        if self._counts:
            self._logprobs = logits[list(self._counts)].float().log_softmax(dim=-1)

    def of(self, tokens: Sequence[int]) -> list[Logprobs | None]:
        """Tell of the tokens that were chosen, one of each row; None where nothing is told."""
        told: dict[int, Logprobs] = {}
        if self._counts:
            chosen = [tokens[row] for row in self._counts]
            told = dict(zip(self._counts, self._told(chosen), strict=True))
        return [told.get(row) for row in range(len(tokens))]

    def _told(self, chosen: list[int]) -> list[Logprobs]:
        """Tell of one token of each row that is told."""
        counts = list(self._counts.values())
        places = torch.tensor(chosen, device=self._logprobs.device)[:, None]
        own = self._logprobs.gather(1, places)[:, 0]
        top = self._logprobs.topk(min(max(counts), self._logprobs.shape[-1]), dim=-1)
        rows = zip(
            *(chosen, own.tolist(), top.indices.tolist(), top.values.tolist(), counts), strict=True
        )
        return [
            Logprobs(
                TokenLogprob(token, logprob),
                tuple(map(TokenLogprob, ids[:count], values[:count])),
            )
            for token, logprob, ids, values, count in rows
        ]
