"""How much time a request has, and how much of it may be handed on."""

from typing import Any

import grpc

# Kept back of what the client gave, so that the last message still reaches it.
MARGIN_S = 0.2
MARGIN_SHARE = 0.1


def time_left(
    context: grpc.aio.ServicerContext[Any, Any], limit_s: float | None = None
) -> float | None:
    """Seconds that work may take: the client's deadline less a margin, at most `limit_s`.

    None when there is neither deadline nor limit; never negative.
    """
    remaining = context.time_remaining()
    if remaining is None:
        return limit_s
    left = max(0.0, remaining - min(MARGIN_S, MARGIN_SHARE * remaining))
    return left if limit_s is None else min(left, limit_s)
