from typing import TypeVar

import grpc
import pytest
from google.protobuf.message import Message
from google.rpc import error_details_pb2

from serving.errors import (
    FieldViolation,
    RpcError,
    deadline_exceeded,
    internal,
    invalid_argument,
    not_found,
    resource_exhausted,
    unavailable,
)

Detail = TypeVar("Detail", bound=Message)


def detail_of(error: RpcError, kind: type[Detail]) -> Detail:
    message = kind()
    assert any(detail.Unpack(message) for detail in error.status("r-1").details)
    return message


@pytest.mark.parametrize(
    "error",
    [
        invalid_argument([FieldViolation("limit", "too large")]),
        not_found("Song", "7", "there is no song 7"),
        resource_exhausted("generator", "busy", 1.5),
        unavailable("AWAY", "not here"),
        deadline_exceeded("late"),
        internal(),
    ],
    ids=lambda error: error.code.name,
)
def test_every_error_carries_a_reason_and_the_request_id(error: RpcError) -> None:
    info = detail_of(error, error_details_pb2.ErrorInfo)
    assert info.domain == "segue"
    assert info.reason.isupper()
    assert detail_of(error, error_details_pb2.RequestInfo).request_id == "r-1"
    assert error.status().code == error.code.value[0]


def test_what_is_not_there_is_named() -> None:
    info = detail_of(not_found("Song", "7", "no 7"), error_details_pb2.ResourceInfo)
    assert (info.resource_type, info.resource_name) == ("Song", "7")


def test_overload_says_when_to_try_again() -> None:
    error = resource_exhausted("generator", "busy", 1.5)
    assert error.code is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert detail_of(error, error_details_pb2.RetryInfo).retry_delay.ToMilliseconds() == 1500
    quota = detail_of(error, error_details_pb2.QuotaFailure)
    assert quota.violations[0].subject == "generator"
