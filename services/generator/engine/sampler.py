"""Chooses the next token of each sequence, by its own settings, all in one pass."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch

from services.generator.engine.interface import Sampling
from services.generator.layers.argmax import argmax

# Settings that the contract allows can take a row beyond what floats hold, and a row that is not a
# number would fail its whole step. Nothing changes: so cold a text is the likeliest.
_COLDEST = 1e-5
_LARGEST = 1e30

# Rows of which no more tokens are kept are not sorted, which takes ten times as long.
_FEW = 256


@dataclass(slots=True)
class Choice:
    """How one sequence's tokens are chosen.

    Attributes:
        sampling: Its settings.
        seed: Of its draws.
        generator: Its own source of chance, made when the first token is drawn.
    """

    sampling: Sampling
    seed: int | None
    generator: torch.Generator | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Candidates:
    """What is known of a sequence when its next token is chosen.

    Attributes:
        choice: How it is chosen.
        tokens: Those that there are, the prompt's included.
        forbidden: Tokens that may not come now.
    """

    choice: Choice
    tokens: Sequence[int]
    forbidden: Sequence[int] = ()


@torch.inference_mode()
def choose(logits: torch.Tensor, candidates: Sequence[Candidates]) -> list[int]:
    """Choose a token for each row of logits.

    The steps are those of transformers' `generate`, in its order: repetition penalty, forbidden
    tokens, temperature, top-k, top-p, min-p. A draw takes as much chance as `generate` takes after
    `set_seed`, from a source that is the sequence's own; so who else is in the batch makes no
    difference.

    Args:
        logits: float32 (rows, vocabulary); changed.
        candidates: Of each row.
    """
    for row, one in enumerate(candidates):
        if one.forbidden or one.choice.sampling.repetition_penalty != 1.0:
            _penalise(logits[row], one)
    chosen = _likeliest_tokens(logits)
    drawn = [row for row, one in enumerate(candidates) if one.choice.sampling.do_sample]
    few = [row for row in drawn if 0 < candidates[row].choice.sampling.top_k <= _FEW]
    for rows in (few, [row for row in drawn if row not in few]):
        if rows:
            settings = [candidates[row].choice.sampling for row in rows]
            chances = _probabilities(logits[rows], settings)
            # As `torch.multinomial` draws, which waits for a GPU to check its arguments.
            times = torch.empty_like(chances)
            for row, time in zip(rows, times, strict=True):
                time.exponential_(generator=_generator(candidates[row].choice, logits.device))
            chosen[rows] = (chances / times).argmax(dim=-1)
    tokens: list[int] = chosen.tolist()
    return tokens


def _likeliest_tokens(logits: torch.Tensor) -> torch.Tensor:
    return argmax(logits) if logits.device.type == "cpu" else logits.argmax(dim=-1)


def _penalise(row: torch.Tensor, one: Candidates) -> None:
    penalty = one.choice.sampling.repetition_penalty
    if penalty != 1.0:
        present = torch.tensor(sorted(set(one.tokens)), device=row.device)
        scores = row[present]
        scores = torch.where(scores < 0, scores * penalty, scores / penalty)
        row[present] = scores.clamp(-_LARGEST, _LARGEST)
    if one.forbidden:
        row[list(one.forbidden)] = -torch.inf


def _probabilities(logits: torch.Tensor, settings: Sequence[Sampling]) -> torch.Tensor:
    """What each token's chance is, float32 (rows, vocabulary)."""
    size = logits.shape[-1]

    def column(values: Sequence[float]) -> torch.Tensor:
        return torch.tensor(values, dtype=torch.float32, device=logits.device)[:, None]

    logits = logits / column([max(_COLDEST, one.temperature) for one in settings])
    values, tokens = _likeliest(logits, [min(one.top_k or size, size) for one in settings])
    # As `generate` adds them up: the least likely first.
    rising = values.flip(1).softmax(dim=-1).cumsum(dim=-1)
    unlikely = rising <= 1 - column([one.top_p for one in settings])
    unlikely[:, -1] = False
    values = values.masked_fill(unlikely.flip(1), -torch.inf)
    probabilities = values.softmax(dim=-1)
    threshold = column([one.min_p for one in settings]) * probabilities.amax(-1, keepdim=True)
    values = values.masked_fill(probabilities < threshold, -torch.inf)
    return torch.zeros_like(logits).scatter(1, tokens, values.softmax(dim=-1))


def _likeliest(logits: torch.Tensor, counts: Sequence[int]) -> tuple[torch.Tensor, torch.Tensor]:
    """The largest logits of each row, falling, and their tokens; -inf beyond those to be kept.

    More are kept than wanted where the last one equals others, as `generate` does.
    """
    last = torch.tensor(counts, device=logits.device)[:, None] - 1
    wanted = max(counts) + 1
    if wanted <= logits.shape[1]:
        values, tokens = logits.topk(wanted)
        least = values.gather(1, last)
        if bool((values[:, -1:] < least).all()):
            return values.masked_fill(values < least, -torch.inf), tokens
    values, tokens = logits.sort(descending=True)
    return values.masked_fill(values < values.gather(1, last), -torch.inf), tokens


def _generator(choice: Choice, device: torch.device) -> torch.Generator:
    if choice.generator is None:
        choice.generator = torch.Generator(device).manual_seed(choice.seed or 0)
    return choice.generator
