"""Health of a server, with a line about what an operator should look at."""

from collections.abc import Callable

import grpc
from grpc_health.v1 import health, health_pb2

DETAIL_KEY = "segue-health-detail"

# Metadata is ASCII, and a peer may refuse more than 8 KiB of it.
_MOST_CHARACTERS = 1000


class HealthServicer(health.aio.HealthServicer):
    """`grpc.health.v1.Health` whose `Check` sends `detail()` along, as trailing metadata.

    A server that serves, but not as it should, is healthy: nobody should take it out of use. The
    detail is there for whoever asks why.

    Args:
        detail: Gives one line; empty when there is nothing to tell.
    """

    def __init__(self, detail: Callable[[], str]) -> None:
        super().__init__()
        self._detail = detail

    async def Check(  # noqa: N802
        self,
        request: health_pb2.HealthCheckRequest,
        context: grpc.aio.ServicerContext[
            health_pb2.HealthCheckRequest, health_pb2.HealthCheckResponse
        ],
    ) -> health_pb2.HealthCheckResponse:
        """Tell whether a service is serving."""
        detail = _one_ascii_line(self._detail())
        if detail:
            context.set_trailing_metadata(((DETAIL_KEY, detail),))
        return await super().Check(request, context)


def _one_ascii_line(text: str) -> str:
    line = " ".join(text.split())
    return line.encode("unicode_escape").decode()[:_MOST_CHARACTERS]
