"""Checked requests: the limits that the contract's comments state, on both sides of each."""

from typing import Any

import pytest
from google.protobuf.message import Message
from google.rpc import error_details_pb2
from segue.recommender.v1 import recommender_service_pb2 as pb

from services.recommender import requests
from serving.errors import RpcError
from serving.validation import RequestModel, validate

MODELS: dict[type[Message], type[RequestModel]] = {
    pb.SearchSongsRequest: requests.SearchSongs,
    pb.GetSongsRequest: requests.SongIds,
    pb.GetEmbeddingsRequest: requests.SongIds,
    pb.FindSimilarSongsRequest: requests.FindSimilarSongs,
    pb.RecommendSongsRequest: requests.RecommendSongs,
    pb.BatchRecommendSongsRequest: requests.BatchRecommendSongs,
}
SEED = pb.Seed(song_id="a")
LONGEST, TOO_LONG = "x" * 200, "x" * 201


def recommend(**fields: Any) -> pb.RecommendSongsRequest:
    return pb.RecommendSongsRequest(**({"seeds": [SEED]} | fields))


def batch(*wanted: pb.RecommendSongsRequest) -> pb.BatchRecommendSongsRequest:
    return pb.BatchRecommendSongsRequest(requests=wanted)


def violations(message: Message) -> dict[str, str]:
    """What is wrong with a request, by field."""
    with pytest.raises(RpcError) as caught:
        validate(MODELS[type(message)], message)
    request = error_details_pb2.BadRequest()
    assert any(detail.Unpack(request) for detail in caught.value.status().details)
    return {violation.field: violation.description for violation in request.field_violations}


@pytest.mark.parametrize(
    "message",
    [
        pb.SearchSongsRequest(query="x" * 500, page_size=100),
        pb.SearchSongsRequest(query="x", page_size=1),
        pb.GetSongsRequest(song_ids=[LONGEST] * 1000),
        pb.GetEmbeddingsRequest(song_ids=["a"]),
        pb.FindSimilarSongsRequest(song_id=LONGEST, limit=1000),
        recommend(seeds=[SEED] * 500),
        recommend(seeds=[pb.Seed(song_id="a", weight=weight) for weight in (-100, 0, 100)]),
        recommend(limit=1),
        recommend(limit=1000),
        recommend(exclude_song_ids=["a"] * 10_000),
        recommend(tags=pb.TagFilter()),
        recommend(tags=pb.TagFilter(all_of=["a"] * 100, any_of=[LONGEST], none_of=["b"] * 100)),
        recommend(max_per_artist=1, diversity=0),
        recommend(max_per_artist=1000, diversity=1),
        batch(recommend()),
        batch(*[recommend()] * 256),
        batch(*[recommend(seeds=[SEED] * 500, limit=1)] * 20),
        batch(*[recommend(limit=1000)] * 10),
    ],
)
def test_what_the_contract_allows_is_accepted(message: Message) -> None:
    validate(MODELS[type(message)], message)


@pytest.mark.parametrize(
    ("message", "field"),
    [
        (pb.SearchSongsRequest(query="x" * 501), "query"),
        (pb.SearchSongsRequest(query="x", page_size=0), "page_size"),
        (pb.GetSongsRequest(song_ids=["a"] * 1001), "song_ids"),
        (pb.GetEmbeddingsRequest(song_ids=["a", TOO_LONG]), "song_ids[1]"),
        (pb.FindSimilarSongsRequest(song_id=TOO_LONG), "song_id"),
        (pb.FindSimilarSongsRequest(song_id="a", limit=1001), "limit"),
        (recommend(seeds=[]), "seeds"),
        (recommend(seeds=[SEED] * 501), "seeds"),
        (recommend(seeds=[SEED, pb.Seed()]), "seeds[1].song_id"),
        (recommend(seeds=[pb.Seed(song_id="a", weight=-100.1)]), "seeds[0].weight"),
        (recommend(seeds=[pb.Seed(song_id="a", weight=float("nan"))]), "seeds[0].weight"),
        (recommend(seeds=[pb.Seed(song_id="a", weight=float("inf"))]), "seeds[0].weight"),
        (recommend(limit=0), "limit"),
        (recommend(limit=1001), "limit"),
        (recommend(exclude_song_ids=["a"] * 10_001), "exclude_song_ids"),
        (recommend(exclude_song_ids=["a", ""]), "exclude_song_ids[1]"),
        (recommend(tags=pb.TagFilter(all_of=["a"] * 101)), "tags.all_of"),
        (recommend(tags=pb.TagFilter(any_of=["a", ""])), "tags.any_of[1]"),
        (recommend(tags=pb.TagFilter(none_of=[TOO_LONG])), "tags.none_of[0]"),
        (recommend(max_per_artist=0), "max_per_artist"),
        (recommend(max_per_artist=1001), "max_per_artist"),
        (recommend(diversity=-0.1), "diversity"),
        (recommend(diversity=1.1), "diversity"),
        (recommend(diversity=float("nan")), "diversity"),
        (batch(), "requests"),
        (batch(*[recommend()] * 257), "requests"),
        (batch(*[recommend()] * 3, recommend(seeds=[pb.Seed()])), "requests[3].seeds[0].song_id"),
        (
            batch(recommend(), recommend(tags=pb.TagFilter(all_of=[""]))),
            "requests[1].tags.all_of[0]",
        ),
    ],
)
def test_what_lies_beyond_is_refused_by_the_path_of_the_field(message: Message, field: str) -> None:
    assert list(violations(message)) == [field]


def test_several_bad_requests_of_a_batch_are_all_named() -> None:
    message = batch(recommend(limit=0), recommend(), recommend(diversity=2))
    assert list(violations(message)) == ["requests[0].limit", "requests[2].diversity"]


@pytest.mark.parametrize(
    ("message", "problem"),
    [
        (
            batch(*[recommend(seeds=[SEED] * 500, limit=1)] * 20, recommend()),
            "hold 10,001 seeds in all; ask for at most 10,000",
        ),
        (
            batch(*[recommend(limit=1000)] * 10, recommend(limit=1)),
            "hold 10,001 songs wanted in all; ask for at most 10,000",
        ),
    ],
)
def test_a_batch_that_is_too_much_in_all_says_how_much_it_holds(
    message: Message, problem: str
) -> None:
    assert violations(message) == {"requests": problem}


def test_what_is_not_set_has_the_default_of_the_contract() -> None:
    wanted = validate(requests.RecommendSongs, recommend())
    assert wanted == requests.RecommendSongs(
        seeds=[requests.Seed(song_id="a", weight=1.0)],
        limit=10,
        exclude_song_ids=(),
        tags=None,
        max_per_artist=None,
        diversity=0.0,
        exact=False,
        explain=False,
    )
    assert validate(requests.SearchSongs, pb.SearchSongsRequest(query="x")).page_size == 10
    assert validate(requests.FindSimilarSongs, pb.FindSimilarSongsRequest(song_id="a")).limit == 10


def test_a_weight_of_zero_is_not_a_weight_that_is_not_set() -> None:
    wanted = validate(requests.RecommendSongs, recommend(seeds=[pb.Seed(song_id="a", weight=0)]))
    assert wanted.seeds[0].weight == 0


@pytest.mark.parametrize("message", MODELS)
def test_a_request_has_the_fields_of_its_message(message: type[Message]) -> None:
    assert {field.name for field in message.DESCRIPTOR.fields} == set(MODELS[message].model_fields)


@pytest.mark.parametrize(
    ("message", "model"), [(pb.Seed, requests.Seed), (pb.TagFilter, requests.TagFilter)]
)
def test_so_have_their_parts(message: type[Message], model: type[RequestModel]) -> None:
    assert {field.name for field in message.DESCRIPTOR.fields} == set(model.model_fields)
