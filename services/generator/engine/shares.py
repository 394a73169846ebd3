"""Which of a step's sequences each thread computes, where each computes some by itself."""

from collections.abc import Sequence

from services.generator.engine.attention import Span
from services.generator.layers.int8_tiles import AVAILABLE

# With fewer tokens each, threads wait for weights, which all of them would read. Where a CPU has
# tiles they always would: it multiplies several times faster than it reads.
_FEWEST = 8

CONTEXT = 800
"""How many earlier tokens take as long to attend to, on a CPU, as a token takes for all else: 256
tokens take 64 ms alone, and 146 ms behind 1,000 others."""

# How much longer the busiest thread may take than all do on average.
_UNEVEN = 1.1


def deal(spans: Sequence[Span], threads: int) -> list[list[int]]:
    """Numbers of the spans that each thread is to compute; empty where all compute all together.

    Threads that compute whole sequences, with all of the weights, need not wait for each other nor
    read what another has written. They do not where there are few tokens, or where many are of one
    sequence.
    """
    if AVAILABLE or sum(span.end - span.begin for span in spans) < _FEWEST * threads:
        return []
    prices = [(span.end - span.begin) * (1 + span.end / CONTEXT) for span in spans]
    hands: list[list[int]] = [[] for _ in range(threads)]
    loads = [0.0] * threads
    # The largest first, each to who has least: at most a third more than the best (Graham, 1969).
    for number in sorted(range(len(spans)), key=prices.__getitem__, reverse=True):
        least = loads.index(min(loads))
        hands[least].append(number)
        loads[least] += prices[number]
    return hands if max(loads) <= _UNEVEN * sum(loads) / threads else []
