"""How fast tokens come."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from statistics import median

import numpy as np


@dataclass(frozen=True, slots=True)
class Speed:
    """What one measurement found; what it does not know is None.

    Attributes:
        tokens_per_second: Of all streams together.
        first_token_ms: From a request to its first token, median.
        gap_p50_ms: From a token to the next of its text, median.
        gap_p99_ms: The same, 99th percentile.
    """

    tokens_per_second: float
    first_token_ms: float | None = None
    gap_p50_ms: float | None = None
    gap_p99_ms: float | None = None

    @classmethod
    def of(
        cls, tokens: int, seconds: float, first_s: Sequence[float], gaps_s: Sequence[float]
    ) -> Speed:
        """Sum up the tokens that came in some seconds, waits for the first and gaps between."""
        return cls(
            tokens / seconds,
            percentile_ms(first_s, 50),
            percentile_ms(gaps_s, 50),
            percentile_ms(gaps_s, 99),
        )

    @classmethod
    def typical(cls, speeds: Sequence[Speed]) -> Speed:
        """The median of each figure."""
        known: dict[str, list[float]] = {}
        for speed in speeds:
            for figure, value in asdict(speed).items():
                if value is not None:
                    known.setdefault(figure, []).append(value)
        return cls(**{figure: median(values) for figure, values in known.items()})


def percentile_ms(seconds: Sequence[float], percent: float) -> float | None:
    """A percentile in milliseconds; None when there is nothing."""
    return float(np.percentile(seconds, percent)) * 1000 if seconds else None
