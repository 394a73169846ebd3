"""Bad requests: the right status, details that say what to do, and the server goes on."""

from collections.abc import Callable
from typing import TypeVar, cast

import grpc
import pytest
from google.protobuf.message import Message
from google.rpc import error_details_pb2
from grpc_status import rpc_status
from segue.gateway.v1 import gateway_service_pb2 as gateway
from segue.generator.v1 import generation_pb2
from segue.generator.v1 import generator_service_pb2 as generator
from segue.recommender.v1 import recommender_service_pb2 as recommender

from tests.stack.conftest import Running

Detail = TypeVar("Detail", bound=Message)

Seed = recommender.Seed
KNOWN = [Seed(song_id="abba-dancing-queen")]
MESSAGE = generation_pb2.ChatMessage(role=generation_pb2.ROLE_USER, content="Hi")


def failure(call: Callable[[], object]) -> grpc.RpcError:
    with pytest.raises(grpc.RpcError) as caught:
        call()
    return caught.value


def detail(error: grpc.RpcError, kind: type[Detail]) -> Detail:
    status = rpc_status.from_call(cast("grpc.Call", error))
    assert status is not None, error
    message = kind()
    assert any(item.Unpack(message) for item in status.details), status
    return message


def violated_fields(error: grpc.RpcError) -> set[str]:
    violations = detail(error, error_details_pb2.BadRequest).field_violations
    assert all(violation.description for violation in violations)
    return {violation.field for violation in violations}


GOOD = recommender.RecommendSongsRequest(seeds=KNOWN)


def batch(*requests: recommender.RecommendSongsRequest) -> recommender.BatchRecommendSongsRequest:
    return recommender.BatchRecommendSongsRequest(requests=requests)


RECOMMENDER_REQUESTS = [
    ("SearchSongs", recommender.SearchSongsRequest(), {"query"}),
    ("SearchSongs", recommender.SearchSongsRequest(query="?!"), {"query"}),
    ("SearchSongs", recommender.SearchSongsRequest(query="x" * 501), {"query"}),
    ("SearchSongs", recommender.SearchSongsRequest(query="x", page_size=-1), {"page_size"}),
    ("SearchSongs", recommender.SearchSongsRequest(query="x", page_size=101), {"page_size"}),
    ("SearchSongs", recommender.SearchSongsRequest(query="x", page_token="?"), {"page_token"}),  # noqa: S106
    ("GetSongs", recommender.GetSongsRequest(), {"song_ids"}),
    ("GetSongs", recommender.GetSongsRequest(song_ids=["a", ""]), {"song_ids[1]"}),
    ("GetSongs", recommender.GetSongsRequest(song_ids=["a"] * 1001), {"song_ids"}),
    ("FindSimilarSongs", recommender.FindSimilarSongsRequest(), {"song_id"}),
    ("FindSimilarSongs", recommender.FindSimilarSongsRequest(song_id="a", limit=0), {"limit"}),
    ("RecommendSongs", recommender.RecommendSongsRequest(), {"seeds"}),
    ("RecommendSongs", recommender.RecommendSongsRequest(seeds=[Seed()]), {"seeds[0].song_id"}),
    ("RecommendSongs", recommender.RecommendSongsRequest(seeds=KNOWN, limit=-1), {"limit"}),
    ("RecommendSongs", recommender.RecommendSongsRequest(seeds=KNOWN, limit=2**31 - 1), {"limit"}),
    (
        "RecommendSongs",
        recommender.RecommendSongsRequest(seeds=[Seed(song_id="a", weight=1e9)]),
        {"seeds[0].weight"},
    ),
    (
        "RecommendSongs",
        recommender.RecommendSongsRequest(
            seeds=KNOWN, max_per_artist=0, diversity=2, tags=recommender.TagFilter(any_of=["a", ""])
        ),
        {"max_per_artist", "diversity", "tags.any_of[1]"},
    ),
    ("BatchRecommendSongs", batch(), {"requests"}),
    ("BatchRecommendSongs", batch(*[GOOD] * 257), {"requests"}),
    (
        "BatchRecommendSongs",
        batch(*[GOOD] * 3, recommender.RecommendSongsRequest(seeds=[Seed()])),
        {"requests[3].seeds[0].song_id"},
    ),
    (
        "BatchRecommendSongs",
        batch(*[recommender.RecommendSongsRequest(seeds=KNOWN * 500, limit=1)] * 20, GOOD),
        {"requests"},
    ),
    (
        "BatchRecommendSongs",
        batch(*[recommender.RecommendSongsRequest(seeds=KNOWN, limit=1000)] * 10, GOOD),
        {"requests"},
    ),
    ("GetEmbeddings", recommender.GetEmbeddingsRequest(), {"song_ids"}),
]


@pytest.mark.parametrize(("method", "request_", "fields"), RECOMMENDER_REQUESTS)
def test_the_recommender_names_the_fields_that_it_cannot_use(
    running: Running, method: str, request_: Message, fields: set[str]
) -> None:
    error = failure(lambda: getattr(running.recommender, method)(request_))
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert violated_fields(error) == fields
    assert detail(error, error_details_pb2.ErrorInfo).domain == "segue"


def stopping(**fields: object) -> generation_pb2.Stopping:
    return generation_pb2.Stopping(**fields)  # type: ignore[arg-type]


def sampling(**fields: object) -> generation_pb2.Sampling:
    return generation_pb2.Sampling(**fields)  # type: ignore[arg-type]


GenerateRequest = generator.GenerateRequest

GENERATE_REQUESTS = [
    (GenerateRequest(), {"input"}),
    (GenerateRequest(prompt=""), {"prompt"}),
    (GenerateRequest(prompt="song " * 9000), {"prompt"}),
    (GenerateRequest(token_ids=generation_pb2.TokenIds(ids=[5] * 8192)), {"token_ids"}),
    (GenerateRequest(token_ids=generation_pb2.TokenIds(ids=[5, -1])), {"token_ids.ids[1]"}),
    (GenerateRequest(token_ids=generation_pb2.TokenIds(ids=[10**8])), {"token_ids.ids[0]"}),
    (GenerateRequest(chat=generation_pb2.Chat()), {"chat.messages"}),
    (
        GenerateRequest(chat=generation_pb2.Chat(messages=[generation_pb2.ChatMessage()])),
        {"chat.messages[0].role"},
    ),
    (
        GenerateRequest(prompt="a", stopping=stopping(max_new_tokens=-1)),
        {"stopping.max_new_tokens"},
    ),
    (GenerateRequest(prompt="a", stopping=stopping(stop=[""])), {"stopping.stop[0]"}),
    (GenerateRequest(prompt="a", stopping=stopping(stop=["x"] * 17)), {"stopping.stop"}),
    (GenerateRequest(prompt="a", sampling=sampling(temperature=0)), {"sampling.temperature"}),
    (GenerateRequest(prompt="a", sampling=sampling(top_p=1.5)), {"sampling.top_p"}),
    (GenerateRequest(prompt="a", sampling=sampling(seed=-1)), {"sampling.seed"}),
]


@pytest.mark.parametrize(("request_", "fields"), GENERATE_REQUESTS)
def test_the_generator_names_the_fields_that_it_cannot_use(
    running: Running, request_: generator.GenerateRequest, fields: set[str]
) -> None:
    error = failure(lambda: running.generator.Generate(request_))
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert violated_fields(error) == fields


def test_ids_outside_the_vocabulary_are_named(running: Running) -> None:
    request = generator.DetokenizeRequest(ids=[1, 2, 10**8])
    error = failure(lambda: running.generator.Detokenize(request))
    assert violated_fields(error) == {"ids[2]"}


NARRATE_REQUESTS = [
    (gateway.NarrateRequest(), {"seeds"}),
    (gateway.NarrateRequest(seeds=[gateway.NarrationSeed()]), {"seeds[0].song"}),
    (gateway.NarrateRequest(seeds=[gateway.NarrationSeed(query="a")] * 21), {"seeds"}),
    (gateway.NarrateRequest(seeds=[gateway.NarrationSeed(query="a")], limit=0), {"limit"}),
]


@pytest.mark.parametrize(("request_", "fields"), NARRATE_REQUESTS)
def test_the_gateway_names_the_fields_that_it_cannot_use(
    running: Running, request_: gateway.NarrateRequest, fields: set[str]
) -> None:
    error = failure(lambda: list(running.gateway.Narrate(request_)))
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert violated_fields(error) == fields


def test_errors_behind_the_gateway_come_through_with_their_details(running: Running) -> None:
    error = failure(lambda: running.gateway.RecommendSongs(gateway.RecommendSongsRequest()))
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert violated_fields(error) == {"seeds"}
    varied = gateway.RecommendSongsRequest(seeds=KNOWN, diversity=2, limit=0)
    error = failure(lambda: running.gateway.RecommendSongs(varied))
    assert violated_fields(error) == {"diversity", "limit"}
    error = failure(lambda: list(running.gateway.GenerateStream(gateway.GenerateStreamRequest())))
    assert violated_fields(error) == {"input"}


def test_an_unknown_song_is_not_found_and_named(running: Running) -> None:
    for song_id in ("no such song", "0", "-1"):  # numbers are no rows
        request = recommender.FindSimilarSongsRequest(song_id=song_id)
        error = failure(lambda: running.recommender.FindSimilarSongs(request))  # noqa: B023
        assert error.code() is grpc.StatusCode.NOT_FOUND
        assert detail(error, error_details_pb2.ResourceInfo).resource_name == song_id


RAW_FRAMES = [
    ("recommender", "segue.recommender.v1.RecommenderService/SearchSongs", b"\x0a\x02\xff\xfe"),
    ("recommender", "segue.recommender.v1.RecommenderService/GetSongs", b"\x0a\x7fshort"),
    ("generator", "segue.generator.v1.GeneratorService/Tokenize", b"\x0a\x02\xc3\x28"),
    ("gateway", "segue.gateway.v1.GatewayService/SearchSongs", b"\x0a\x01\x80"),
]


def send_raw(address: str, method: str, frame: bytes) -> grpc.RpcError:
    with grpc.insecure_channel(address) as channel:
        send: grpc.UnaryUnaryMultiCallable[bytes, bytes]
        send = channel.unary_unary(f"/{method}", request_serializer=bytes)
        return failure(lambda: send(frame, timeout=10))


@pytest.mark.parametrize(("name", "method", "frame"), RAW_FRAMES)
def test_a_frame_that_is_no_message_is_an_invalid_argument(
    running: Running, name: str, method: str, frame: bytes
) -> None:
    error = send_raw(running.address(name), method, frame)
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "UTF-8" in str(error.details())


def test_a_frame_that_sets_two_members_of_a_oneof_is_an_invalid_argument(running: Running) -> None:
    prompt = generator.GenerateRequest(prompt="a").SerializeToString()
    chat = generator.GenerateRequest(chat=generation_pb2.Chat(messages=[MESSAGE]))
    method = "segue.generator.v1.GeneratorService/Generate"
    frame = prompt + chat.SerializeToString()
    error = send_raw(running.address("generator"), method, frame)
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert violated_fields(error) == {"input"}


def test_the_servers_go_on_after_all_this(running: Running) -> None:
    request = gateway.NarrateRequest(
        seeds=[gateway.NarrationSeed(query="fade to black")], stopping=stopping(max_new_tokens=2)
    )
    events = list(running.gateway.Narrate(request))
    assert not events[-1].finished.HasField("error")
