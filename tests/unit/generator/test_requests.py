"""The limits that the contract's comments state."""

from typing import Any

import numpy as np
import pytest
from google.protobuf.message import Message
from google.rpc import error_details_pb2
from segue.generator.v1 import embedding_pb2
from segue.generator.v1 import generation_pb2 as pb
from segue.generator.v1 import generator_service_pb2 as service_pb

from services.generator import requests
from services.generator.engine import interface
from services.generator.tokenization import ChatMessage
from serving.errors import RpcError
from serving.validation import RequestModel, validate

LONGEST = 1_000_000
MODELS: dict[type[Message], type[RequestModel]] = {
    service_pb.GenerateRequest: requests.Generate,
    service_pb.GenerateStreamRequest: requests.Generate,
    service_pb.TokenizeRequest: requests.Tokenize,
    service_pb.DetokenizeRequest: requests.Detokenize,
    service_pb.CountTokensRequest: requests.Input,
    service_pb.EmbedRequest: requests.Embed,
}


def sampled(**fields: float) -> service_pb.GenerateRequest:
    return service_pb.GenerateRequest(prompt="a", sampling=pb.Sampling(**fields))  # type: ignore[arg-type]


def stopped(stop: tuple[str, ...] = (), **fields: int) -> service_pb.GenerateRequest:
    return service_pb.GenerateRequest(prompt="a", stopping=pb.Stopping(stop=stop, **fields))  # type: ignore[arg-type]


def said(*contents: str, role: pb.Role.ValueType = pb.ROLE_USER) -> pb.Chat:
    return pb.Chat(messages=[pb.ChatMessage(role=role, content=text) for text in contents])


def tokens(count: int) -> pb.TokenIds:
    return pb.TokenIds(ids=range(count))


def violations(message: Message) -> list[str]:
    details = error_details_pb2.BadRequest()
    try:
        validate(MODELS[type(message)], message)
    except RpcError as error:
        if not any(detail.Unpack(details) for detail in error.status().details):
            pytest.fail("an invalid argument names its fields")
    return [violation.field for violation in details.field_violations]


@pytest.mark.parametrize(
    ("field", "smallest", "too_small", "largest", "too_large"),
    [
        ("temperature", 1e-9, 0, 100, 100.1),
        ("top_p", 1e-9, 0, 1, 1.1),
        ("top_k", 0, -1, LONGEST, LONGEST + 1),
        ("min_p", 0, -0.1, 1, 1.1),
        ("repetition_penalty", 1e-9, 0, 100, 100.1),
        ("seed", 0, -1, 2**63 - 1, None),
        ("temperature", 1, float("nan"), 1, float("inf")),
    ],
)
def test_sampling_has_the_limits_of_the_contract(
    field: str, smallest: float, too_small: float, largest: float, too_large: float | None
) -> None:
    assert not violations(sampled(**{field: smallest}))
    assert not violations(sampled(**{field: largest}))
    assert violations(sampled(**{field: too_small})) == [f"sampling.{field}"]
    if too_large is not None:
        assert violations(sampled(**{field: too_large})) == [f"sampling.{field}"]


@pytest.mark.parametrize(
    ("message", "fields"),
    [
        (stopped(max_new_tokens=1), []),
        (stopped(max_new_tokens=LONGEST), []),
        (stopped(max_new_tokens=0), ["stopping.max_new_tokens"]),
        (stopped(max_new_tokens=LONGEST + 1), ["stopping.max_new_tokens"]),
        (stopped(min_new_tokens=-1), ["stopping.min_new_tokens"]),
        (stopped(max_new_tokens=5, min_new_tokens=5), []),
        (stopped(max_new_tokens=5, min_new_tokens=6), ["stopping.min_new_tokens"]),
        (stopped(min_new_tokens=256), []),
        (stopped(min_new_tokens=257), ["stopping.min_new_tokens"]),
        (stopped(("x",) * 16), []),
        (stopped(("x",) * 17), ["stopping.stop"]),
        (stopped(("é" * 500,)), []),
        (stopped(("x", "é" * 501)), ["stopping.stop[1]"]),
        (stopped(("",)), ["stopping.stop[0]"]),
    ],
)
def test_stopping_has_the_limits_of_the_contract(message: Message, fields: list[str]) -> None:
    assert violations(message) == fields


@pytest.mark.parametrize(
    "kind",
    [service_pb.GenerateRequest, service_pb.GenerateStreamRequest, service_pb.CountTokensRequest],
)
def test_the_input_has_the_limits_of_the_contract(
    kind: type[
        service_pb.GenerateRequest
        | service_pb.GenerateStreamRequest
        | service_pb.CountTokensRequest
    ],
) -> None:
    assert not violations(kind(prompt="é" * LONGEST))
    assert violations(kind(prompt="é" * (LONGEST + 1))) == ["prompt"]
    assert violations(kind(prompt="")) == ["prompt"]
    assert violations(kind()) == ["input"]
    assert not violations(kind(token_ids=tokens(LONGEST)))
    assert violations(kind(token_ids=tokens(LONGEST + 1))) == ["token_ids.ids"]
    assert violations(kind(token_ids=tokens(0))) == ["token_ids.ids"]


def test_a_chat_has_the_limits_of_the_contract() -> None:
    ask = service_pb.GenerateRequest
    assert not violations(ask(chat=said(*["Hi"] * 1000)))
    assert violations(ask(chat=said(*["Hi"] * 1001))) == ["chat.messages"]
    assert violations(ask(chat=said())) == ["chat.messages"]
    assert not violations(ask(chat=said("é" * LONGEST)))
    assert violations(ask(chat=said("Hi", "é" * (LONGEST + 1)))) == ["chat.messages[1].content"]
    unspecified = said("Hi", role=pb.ROLE_UNSPECIFIED)
    assert violations(ask(chat=unspecified)) == ["chat.messages[0].role"]


def test_the_full_text_is_returned_of_a_prompt_but_not_of_a_chat() -> None:
    ask = service_pb.GenerateRequest
    assert not violations(ask(prompt="a", return_full_text=True))
    assert violations(ask(chat=said("Hi"), return_full_text=True)) == ["return_full_text"]


@pytest.mark.parametrize("ask", [service_pb.GenerateRequest, service_pb.GenerateStreamRequest])
def test_logprobs_have_the_limits_of_the_contract(
    ask: type[service_pb.GenerateRequest | service_pb.GenerateStreamRequest],
) -> None:
    assert not violations(ask(prompt="a", logprobs=0))
    assert not violations(ask(prompt="a", logprobs=20))
    assert violations(ask(prompt="a", logprobs=-1)) == ["logprobs"]
    assert violations(ask(prompt="a", logprobs=21)) == ["logprobs"]


def test_no_logprobs_differ_from_those_of_the_chosen_token_alone() -> None:
    def asked(**fields: int) -> int | None:
        message = service_pb.GenerateRequest(prompt="a", **fields)  # type: ignore[arg-type]
        return validate(requests.Generate, message).logprobs

    assert asked() is None
    assert asked(logprobs=0) == 0


def test_tokenizing_has_the_limits_of_the_contract() -> None:
    assert not violations(service_pb.TokenizeRequest())
    assert not violations(service_pb.TokenizeRequest(text="é" * LONGEST))
    assert violations(service_pb.TokenizeRequest(text="é" * (LONGEST + 1))) == ["text"]
    assert not violations(service_pb.DetokenizeRequest())
    assert not violations(service_pb.DetokenizeRequest(ids=range(LONGEST)))
    assert violations(service_pb.DetokenizeRequest(ids=range(LONGEST + 1))) == ["ids"]


def test_special_tokens_are_those_of_the_models_tokenizer_only() -> None:
    ask = service_pb.TokenizeRequest
    assert not violations(ask(add_special_tokens=True))
    for kind in (service_pb.TOKEN_KIND_WORD, service_pb.TOKEN_KIND_BYTE):
        assert not violations(ask(kind=kind))
        assert violations(ask(kind=kind, add_special_tokens=True)) == ["add_special_tokens"]
    unknown: Any = 4
    assert violations(ask(kind=unknown)) == ["kind"]


def test_embedding_has_the_limits_of_the_contract() -> None:
    ask = service_pb.EmbedRequest
    assert violations(ask()) == ["texts"]
    assert not violations(ask(texts=["a"] * 256))
    assert violations(ask(texts=["a"] * 257)) == ["texts"]
    assert violations(ask(texts=["a", ""])) == ["texts[1]"]
    assert not violations(ask(texts=["é" * LONGEST]))
    assert violations(ask(texts=["a", "é" * (LONGEST + 1)])) == ["texts[1]"]
    unknown: Any = 3
    assert violations(ask(texts=["a"], pooling=unknown)) == ["pooling"]


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, [0.6, 0.8]),
        ({"pooling": embedding_pb2.POOLING_MEAN}, [0.6, 0.8]),
        ({"pooling": embedding_pb2.POOLING_LAST}, [0, 1]),
        ({"normalize": True}, [0.6, 0.8]),
        ({"normalize": False}, [3, 4]),
        ({"pooling": embedding_pb2.POOLING_LAST, "normalize": False}, [0, 6]),
    ],
)
def test_vectors_are_pooled_as_wanted(fields: dict[str, Any], expected: list[float]) -> None:
    checked = validate(requests.Embed, service_pb.EmbedRequest(texts=["a"], **fields))
    states = np.array([[6, 2], [0, 6]], np.float32)
    np.testing.assert_allclose(checked.pooled(states), expected, rtol=1e-6)


def test_every_violation_is_told_at_once() -> None:
    message = service_pb.GenerateRequest(
        prompt="a",
        sampling=pb.Sampling(top_p=2, min_p=2),
        stopping=pb.Stopping(max_new_tokens=-1, stop=[""]),
    )
    assert set(violations(message)) == {
        *("sampling.top_p", "sampling.min_p", "stopping.max_new_tokens", "stopping.stop[0]")
    }


def test_what_is_not_set_takes_the_engines_defaults() -> None:
    checked = validate(requests.Generate, service_pb.GenerateRequest(prompt="a"))
    assert checked.sampling.settings() == interface.Sampling()
    assert checked.stopping.settings() == interface.Stopping()


def test_what_is_set_reaches_the_engine() -> None:
    message = stopped(("x", "y"), max_new_tokens=9, min_new_tokens=2, ignore_eos=True)
    message.sampling.CopyFrom(pb.Sampling(do_sample=True, top_k=0, seed=3))
    checked = validate(requests.Generate, message)
    assert checked.stopping.settings() == interface.Stopping(9, 2, ("x", "y"), ignore_eos=True)
    assert checked.sampling.settings() == interface.Sampling(do_sample=True, top_k=0, seed=3)


@pytest.mark.parametrize(
    ("role", "name"),
    [(pb.ROLE_SYSTEM, "system"), (pb.ROLE_USER, "user"), (pb.ROLE_ASSISTANT, "assistant")],
)
def test_roles_have_the_names_that_templates_know(role: pb.Role.ValueType, name: str) -> None:
    checked = validate(requests.Generate, service_pb.GenerateRequest(chat=said("Hi", role=role)))
    assert checked.chat is not None
    assert [message.spoken() for message in checked.chat.messages] == [ChatMessage(name, "Hi")]
