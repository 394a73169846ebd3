"""Ask a server how it is."""

from dataclasses import dataclass

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from serving.health import DETAIL_KEY

_TIMEOUT_S = 2.0


@dataclass(frozen=True, slots=True)
class Health:
    """What a server says.

    Attributes:
        serving: Whether it is there and its health is SERVING.
        detail: What its operator should look at, in one line; empty when there is nothing.
    """

    serving: bool
    detail: str = ""


def ask_health(address: str) -> Health:
    """Ask the server at an address; one that does not answer is not serving."""
    with grpc.insecure_channel(address) as channel:
        check = health_pb2_grpc.HealthStub(channel).Check  # type: ignore[attr-defined]  # untyped
        try:
            answer, call = check.with_call(health_pb2.HealthCheckRequest(), timeout=_TIMEOUT_S)
        except grpc.RpcError:
            return Health(serving=False)
    serving = answer.status == health_pb2.HealthCheckResponse.SERVING
    return Health(serving, str(dict(call.trailing_metadata()).get(DETAIL_KEY, "")))
