"""Errors as clients see them: a status code, a sentence, and `google.rpc` details.

The details follow https://cloud.google.com/apis/design/errors: `ErrorInfo` always, `BadRequest` for
fields, `ResourceInfo` for things that are not there, `RetryInfo` and `QuotaFailure` for overload.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import grpc
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.rpc import code_pb2, error_details_pb2, status_pb2
from grpc_status import rpc_status

DOMAIN = "segue"


@dataclass(frozen=True, slots=True)
class FieldViolation:
    """One field of a request that cannot be used.

    Attributes:
        path: Where it is, such as `seeds[0].song_id`.
        problem: What is wrong with it.
    """

    path: str
    problem: str


class RpcError(Exception):
    """Ends an RPC with a status; raised by services, sent by the interceptor."""

    def __init__(
        self, code: grpc.StatusCode, reason: str, message: str, details: Sequence[Message] = ()
    ) -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason
        self.message = message
        self.details = tuple(details)

    def status(self, request_id: str = "") -> status_pb2.Status:
        """The `google.rpc.Status` that is sent, `ErrorInfo` first."""
        status = status_pb2.Status(code=self.code.value[0], message=self.message)
        status.details.add().Pack(error_details_pb2.ErrorInfo(reason=self.reason, domain=DOMAIN))
        for detail in self.details:
            status.details.add().Pack(detail)
        if request_id:
            status.details.add().Pack(error_details_pb2.RequestInfo(request_id=request_id))
        return status


def invalid_argument(violations: Sequence[FieldViolation]) -> RpcError:
    """A request with fields that cannot be used; the message names each of them."""
    details = error_details_pb2.BadRequest(
        field_violations=[
            error_details_pb2.BadRequest.FieldViolation(field=v.path, description=v.problem)
            for v in violations
        ]
    )
    message = "; ".join(f"{v.path}: {v.problem}" for v in violations)
    return RpcError(grpc.StatusCode.INVALID_ARGUMENT, "INVALID_REQUEST", message, [details])


def not_found(resource_type: str, name: str, message: str) -> RpcError:
    """A thing that was named and is not there."""
    details = error_details_pb2.ResourceInfo(
        resource_type=resource_type, resource_name=name, description=message
    )
    return RpcError(grpc.StatusCode.NOT_FOUND, "NOT_FOUND", message, [details])


def resource_exhausted(subject: str, message: str, retry_after_s: float) -> RpcError:
    """Too much work; the client may try again after `retry_after_s` seconds."""
    delay = Duration()
    delay.FromMilliseconds(max(1, round(retry_after_s * 1000)))
    quota = error_details_pb2.QuotaFailure(
        violations=[error_details_pb2.QuotaFailure.Violation(subject=subject, description=message)]
    )
    return RpcError(
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        "OVERLOADED",
        message,
        [error_details_pb2.RetryInfo(retry_delay=delay), quota],
    )


def unavailable(reason: str, message: str) -> RpcError:
    """Something that is not there now and may come back."""
    return RpcError(grpc.StatusCode.UNAVAILABLE, reason, message)


def deadline_exceeded(message: str) -> RpcError:
    """The deadline came first."""
    return RpcError(grpc.StatusCode.DEADLINE_EXCEEDED, "DEADLINE_EXCEEDED", message)


def internal() -> RpcError:
    """A defect; nothing of it leaves the process but the id under which the log tells it."""
    return RpcError(
        grpc.StatusCode.INTERNAL,
        "INTERNAL",
        "the server failed on this request; its log tells why under the request id in the details",
    )


def from_backend(error: grpc.aio.AioRpcError, backend: str) -> RpcError:
    """The error of a service behind this one, passed on with its details.

    An error without `google.rpc` details was made by the transport; it is told as UNAVAILABLE of
    `backend`, or keeps its code where that speaks for itself (deadline, cancellation).
    """
    status = _details_of(error)
    if status is not None:
        return _BackendError(status)
    code = error.code()
    if code is grpc.StatusCode.DEADLINE_EXCEEDED:
        return deadline_exceeded(f"the {backend} did not answer before the deadline")
    if code is grpc.StatusCode.UNAVAILABLE:
        return unavailable("BACKEND_UNAVAILABLE", f"the {backend} cannot be reached; try again")
    return RpcError(code, "BACKEND_ERROR", f"the {backend} failed: {error.details()}")


def _details_of(error: grpc.aio.AioRpcError) -> status_pb2.Status | None:
    try:
        return rpc_status.from_call(cast("grpc.Call", error))
    except ValueError:  # the peer's trailer disagrees with its own status
        return None


class _BackendError(RpcError):
    """Another service's status, sent on as it came."""

    def __init__(self, status: status_pb2.Status) -> None:
        code = _CODES.get(status.code, grpc.StatusCode.UNKNOWN)
        super().__init__(code, code_pb2.Code.Name(code.value[0]), status.message)
        self._status = status

    def status(self, request_id: str = "") -> status_pb2.Status:
        return self._status


_CODES = {code.value[0]: code for code in grpc.StatusCode}
