from collections.abc import Sequence
from typing import Annotated

import grpc
import pytest
from google.rpc import error_details_pb2
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field
from segue.gateway.v1.gateway_service_pb2 import NarrateRequest, NarrationSeed
from segue.recommender.v1.recommender_service_pb2 import RecommendSongsRequest, Seed

from gateway.requests import NarrateRequest as CheckedNarrateRequest
from serving.errors import RpcError
from serving.validation import Id, RequestModel, parse, validate


class CheckedSeed(RequestModel):
    song_id: Id
    weight: Annotated[float, Field(ge=-1, le=1)] = 0.5


class Recommend(RequestModel):
    seeds: Annotated[list[CheckedSeed], Field(min_length=1)]
    limit: Annotated[int, Field(ge=1)] = 10


def violated(error: RpcError) -> Sequence[str]:
    details = error_details_pb2.BadRequest()
    assert any(detail.Unpack(details) for detail in error.status().details)
    return [violation.field for violation in details.field_violations]


def test_fields_that_are_not_set_take_the_models_defaults() -> None:
    checked = validate(Recommend, RecommendSongsRequest(seeds=[Seed(song_id="a")]))
    assert (checked.limit, checked.seeds[0].weight) == (10, 0.5)


def test_zero_is_not_the_same_as_not_set() -> None:
    request = RecommendSongsRequest(seeds=[Seed(song_id="a", weight=0)])
    assert validate(Recommend, request).seeds[0].weight == 0


def test_every_field_that_cannot_be_used_is_told_with_its_path() -> None:
    request = RecommendSongsRequest(seeds=[Seed(song_id="a"), Seed(song_id="", weight=2)], limit=-5)
    with pytest.raises(RpcError) as caught:
        validate(Recommend, request)
    assert caught.value.code is grpc.StatusCode.INVALID_ARGUMENT
    assert set(violated(caught.value)) == {"seeds[1].song_id", "seeds[1].weight", "limit"}


def test_numbers_that_are_none_are_refused() -> None:
    request = RecommendSongsRequest(seeds=[Seed(song_id="a", weight=float("nan"))])
    with pytest.raises(RpcError) as caught:
        validate(Recommend, request)
    assert violated(caught.value) == ["seeds[0].weight"]


def test_a_oneof_of_which_nothing_is_set_is_told_with_its_members() -> None:
    request = NarrateRequest(seeds=[NarrationSeed(song_id="a"), NarrationSeed()])
    with pytest.raises(RpcError, match="set exactly one of song_id, query") as caught:
        validate(CheckedNarrateRequest, request)
    assert violated(caught.value) == ["seeds[1].song"]


@given(st.binary(max_size=200))
def test_any_bytes_are_a_message_or_an_invalid_argument(raw: bytes) -> None:
    try:
        assert isinstance(parse(raw, NarrateRequest), NarrateRequest)
    except RpcError as error:
        assert error.code is grpc.StatusCode.INVALID_ARGUMENT  # noqa: PT017


def test_a_string_that_is_not_utf8_is_an_invalid_argument() -> None:
    frame = b"\x0a\x04\x0a\x02\xff\xfe"
    with pytest.raises(RpcError, match="not UTF-8"):
        parse(frame, RecommendSongsRequest)
