"""What the RPCs answer, and how they refuse what cannot be answered."""

import asyncio
import importlib.util
from collections.abc import AsyncIterator, Awaitable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import grpc
import numpy as np
import pytest
import torch
from google.rpc import error_details_pb2
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from segue.generator.v1 import embedding_pb2, generation_pb2, generator_service_pb2_grpc
from segue.generator.v1 import generator_service_pb2 as pb

from services.generator.engine.cpu_attention import BLOCK_SIZE
from services.generator.engine.cpu_cache import CpuCache
from services.generator.engine.interface import UnsupportedError
from services.generator.models import LoadedModel
from services.generator.requests import MAX_EMBEDDED_TOKENS
from services.generator.service import GeneratorService
from services.generator.settings import GeneratorSettings
from services.generator.tokenization import ChatMessage, Tokenizer
from serving.errors import RpcError
from serving.service import StartError
from tests.unit.generator.embedding_suite import passes, until_begun

TEXTS = ["the song that comes next", "night", "a song about the night and 坂本", "a b c d e f"]
NOBODY: Any = None  # these RPCs ask nothing of their context
UNHURRIED: Any = SimpleNamespace(time_remaining=lambda: None)  # a context without a deadline


@pytest.fixture
async def service(tiny_llama: LoadedModel) -> AsyncIterator[GeneratorService]:
    folder = tiny_llama.tokenizer.backend.name_or_path
    service = GeneratorService(GeneratorSettings(model=folder, cache=Path(folder).parent))
    await service.start()
    yield service
    await service.close()


@pytest.fixture
def small_messages(service: GeneratorService, monkeypatch: pytest.MonkeyPatch) -> None:
    small = service._settings.model_copy(update={"max_message_bytes": 2048})
    monkeypatch.setattr(service, "_settings", small)


async def violations(call: Awaitable[object]) -> dict[str, str]:
    with pytest.raises(RpcError) as caught:
        await call
    assert caught.value.code is grpc.StatusCode.INVALID_ARGUMENT
    details = error_details_pb2.BadRequest()
    assert any(detail.Unpack(details) for detail in caught.value.status().details)
    return {violation.field: violation.description for violation in details.field_violations}


def chat(content: str) -> generation_pb2.Chat:
    message = generation_pb2.ChatMessage(role=generation_pb2.ROLE_USER, content=content)
    return generation_pb2.Chat(messages=[message])


def states_of(model: LoadedModel, text: str) -> Any:
    """The last hidden states of a text, by `transformers` alone."""
    ids = torch.tensor([model.tokenizer.encode(text)])
    with torch.inference_mode():
        return model.model(ids, output_hidden_states=True).hidden_states[-1][0].numpy()


async def test_a_prompt_is_counted_as_the_model_reads_it(
    service: GeneratorService, tiny_llama: LoadedModel
) -> None:
    answer = await service.CountTokens(pb.CountTokensRequest(prompt=TEXTS[0]), NOBODY)
    count = len(tiny_llama.tokenizer.encode(TEXTS[0]))
    assert (answer.tokens, answer.context_length, answer.remaining) == (count, 256, 256 - count)


async def test_a_chat_is_counted_with_its_template(
    service: GeneratorService, tiny_llama: LoadedModel
) -> None:
    answer = await service.CountTokens(pb.CountTokensRequest(chat=chat("Hi")), NOBODY)
    expected = tiny_llama.tokenizer.encode_chat([ChatMessage("user", "Hi")])
    assert answer.tokens == len(expected) > len(tiny_llama.tokenizer.encode("Hi"))


@pytest.mark.parametrize(("tokens", "remaining"), [(1, 255), (256, 0), (300, 0)])
async def test_what_exceeds_the_context_is_counted_too(
    service: GeneratorService, tokens: int, remaining: int
) -> None:
    request = pb.CountTokensRequest(token_ids=generation_pb2.TokenIds(ids=[7] * tokens))
    answer = await service.CountTokens(request, NOBODY)
    assert (answer.tokens, answer.remaining) == (tokens, remaining)


async def test_what_there_is_no_memory_for_does_not_remain(tiny_llama: LoadedModel) -> None:
    folder = tiny_llama.tokenizer.backend.name_or_path
    block = CpuCache.block_bytes(tiny_llama.model.config)
    service = GeneratorService(
        GeneratorSettings(model=folder, cache=Path(folder).parent, kv_bytes=2 * block)
    )
    await service.start()
    try:
        ids = generation_pb2.TokenIds(ids=[7] * 20)
        counted = await service.CountTokens(pb.CountTokensRequest(token_ids=ids), NOBODY)
        stopping = generation_pb2.Stopping(max_new_tokens=100, ignore_eos=True)
        request = pb.GenerateRequest(token_ids=ids, stopping=stopping)
        answer = await service.Generate(request, UNHURRIED)
        described = (await service.GetModel(pb.GetModelRequest(), NOBODY)).model
    finally:
        await service.close()
    assert counted.remaining == 2 * BLOCK_SIZE - 20 == answer.finished.usage.generated_tokens
    assert counted.context_length == 2 * BLOCK_SIZE
    assert described.context_length == 256  # which is the model's own


class TestLogprobs:
    @staticmethod
    def fields(**fields: Any) -> dict[str, Any]:
        stopping = generation_pb2.Stopping(max_new_tokens=12, ignore_eos=True)
        return {"prompt": TEXTS[0], "stopping": stopping} | fields

    async def test_of_a_stream_are_those_of_the_whole_text(self, service: GeneratorService) -> None:
        wanted = self.fields(logprobs=3)
        whole = await service.Generate(pb.GenerateRequest(**wanted), UNHURRIED)
        stream = service.GenerateStream(pb.GenerateStreamRequest(**wanted), UNHURRIED)
        deltas = [event.delta async for event in stream if event.HasField("delta")]
        assert all(len(delta.logprobs) == len(delta.token_ids) for delta in deltas)
        assert [told for delta in deltas for told in delta.logprobs] == list(whole.logprobs)
        assert [told.token.id for told in whole.logprobs] == list(whole.token_ids)
        assert all(len(told.top) == 3 for told in whole.logprobs)

    async def test_spell_tokens_as_the_vocabulary_does(
        self, service: GeneratorService, tiny_llama: LoadedModel
    ) -> None:
        answer = await service.Generate(pb.GenerateRequest(**self.fields(logprobs=20)), UNHURRIED)
        told = [token for one in answer.logprobs for token in (one.token, *one.top)]
        assert [token.piece for token in told] == tiny_llama.tokenizer.pieces(
            [token.id for token in told]
        )
        assert any(token.piece for token in told)

    async def test_are_not_told_unasked(self, service: GeneratorService) -> None:
        answer = await service.Generate(pb.GenerateRequest(**self.fields()), UNHURRIED)
        assert answer.token_ids
        assert not answer.logprobs

    async def test_come_without_others_when_none_are_asked_for(
        self, service: GeneratorService
    ) -> None:
        answer = await service.Generate(pb.GenerateRequest(**self.fields(logprobs=0)), UNHURRIED)
        assert len(answer.logprobs) == len(answer.token_ids) == 12
        assert not any(told.top for told in answer.logprobs)

    async def test_of_the_prompt_that_is_returned_are_not_told(
        self, service: GeneratorService
    ) -> None:
        wanted = self.fields(logprobs=1, return_full_text=True)
        answer = await service.Generate(pb.GenerateRequest(**wanted), UNHURRIED)
        assert answer.text.startswith(TEXTS[0])
        assert len(answer.logprobs) == len(answer.token_ids) == 12

    @pytest.mark.usefixtures("small_messages")
    async def test_that_exceed_a_message_are_refused_and_can_be_streamed(
        self, service: GeneratorService
    ) -> None:
        wanted = self.fields(logprobs=20)
        call = service.Generate(pb.GenerateRequest(**wanted), UNHURRIED)
        assert "for a stream" in (await violations(call))["stopping.max_new_tokens"]
        stream = service.GenerateStream(pb.GenerateStreamRequest(**wanted), UNHURRIED)
        events = [event async for event in stream]
        assert events[-1].finished.usage.generated_tokens == 12


async def test_what_cannot_be_counted_is_named(service: GeneratorService) -> None:
    async def fields(**input_: Any) -> set[str]:
        request = pb.CountTokensRequest(**input_)
        return set(await violations(service.CountTokens(request, NOBODY)))

    assert await fields() == {"input"}
    assert await fields(prompt="") == {"prompt"}
    assert await fields(token_ids=generation_pb2.TokenIds(ids=[1, 400])) == {"token_ids.ids[1]"}
    assert await fields(chat=generation_pb2.Chat()) == {"chat.messages"}


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.text(max_size=20))
async def test_a_text_is_cut_as_wanted(service: GeneratorService, text: str) -> None:
    async def tokens(kind: pb.TokenKind.ValueType) -> list[pb.Token]:
        request = pb.TokenizeRequest(text=text, kind=kind)
        return list((await service.Tokenize(request, NOBODY)).tokens)

    words = await tokens(pb.TOKEN_KIND_WORD)
    assert "".join(token.piece for token in words) == text
    assert not any(token.id for token in words)
    assert [token.id for token in await tokens(pb.TOKEN_KIND_CHARACTER)] == list(map(ord, text))
    assert bytes(token.id for token in await tokens(pb.TOKEN_KIND_BYTE)) == text.encode()
    ids = [token.id for token in await tokens(pb.TOKEN_KIND_UNSPECIFIED)]
    assert (await service.Detokenize(pb.DetokenizeRequest(ids=ids), NOBODY)).text == text


@pytest.mark.usefixtures("small_messages")
async def test_tokens_that_exceed_a_message_are_refused(service: GeneratorService) -> None:
    for kind in pb.TokenKind.values():
        request = pb.TokenizeRequest(text="a b " * 200, kind=kind)
        problems = await violations(service.Tokenize(request, NOBODY))
        assert "send less text" in problems["text"]
    long = pb.DetokenizeRequest(ids=[70] * 4000)
    assert "send fewer ids" in (await violations(service.Detokenize(long, NOBODY)))["ids"]


async def test_texts_are_embedded_as_by_hand(
    service: GeneratorService, tiny_llama: LoadedModel
) -> None:
    answer = await service.Embed(pb.EmbedRequest(texts=TEXTS), NOBODY)
    assert answer.model == "tiny-llama"
    for text, embedding in zip(TEXTS, answer.embeddings, strict=True):
        mean = states_of(tiny_llama, text).mean(axis=0)
        np.testing.assert_allclose(embedding.vector, mean / np.linalg.norm(mean), atol=1e-5)
        assert embedding.tokens == len(tiny_llama.tokenizer.encode(text))
        assert not embedding.token_vectors


async def test_a_texts_embedding_does_not_depend_on_the_texts_beside_it(
    service: GeneratorService,
) -> None:
    together = await service.Embed(pb.EmbedRequest(texts=TEXTS), NOBODY)
    for text, embedding in zip(TEXTS, together.embeddings, strict=True):
        alone = (await service.Embed(pb.EmbedRequest(texts=[text]), NOBODY)).embeddings[0]
        np.testing.assert_allclose(embedding.vector, alone.vector, atol=1e-5)


async def test_the_vector_of_each_token_comes_on_demand_and_unscaled(
    service: GeneratorService, tiny_llama: LoadedModel
) -> None:
    request = pb.EmbedRequest(
        texts=TEXTS, token_vectors=True, pooling=embedding_pb2.POOLING_LAST, normalize=False
    )
    answer = await service.Embed(request, NOBODY)
    for text, embedding in zip(TEXTS, answer.embeddings, strict=True):
        ids = [token.id for token in embedding.token_vectors]
        assert ids == tiny_llama.tokenizer.encode(text)
        states = np.array([token.vector for token in embedding.token_vectors])
        np.testing.assert_allclose(states, states_of(tiny_llama, text), atol=2e-5)
        np.testing.assert_array_equal(embedding.vector, states[-1])


async def test_a_text_beyond_the_context_is_named(service: GeneratorService) -> None:
    assert len((await service.Embed(pb.EmbedRequest(texts=["é" * 128]), NOBODY)).embeddings) == 1
    request = pb.EmbedRequest(texts=["a", "é" * 129])
    problems = await violations(service.Embed(request, NOBODY))
    assert "1 to 256" in problems["texts[1]"]


async def test_texts_of_too_many_tokens_together_are_refused(service: GeneratorService) -> None:
    full = ["é" * 128] * (MAX_EMBEDDED_TOKENS // 256)
    problems = await violations(service.Embed(pb.EmbedRequest(texts=[*full, "a"]), NOBODY))
    assert "16,384 tokens" in problems["texts"]


@pytest.mark.usefixtures("small_messages")
async def test_vectors_that_exceed_a_message_are_refused_before_the_model_is_run(
    service: GeneratorService, monkeypatch: pytest.MonkeyPatch
) -> None:
    few = pb.EmbedRequest(texts=["night"] * 4)
    assert len((await service.Embed(few, NOBODY)).embeddings) == 4
    monkeypatch.setattr(service._served.engine, "embed", None)
    many = pb.EmbedRequest(texts=["night"] * 10)
    each_token = pb.EmbedRequest(texts=["n i g h t"], token_vectors=True)
    for request in (many, each_token):
        problems = await violations(service.Embed(request, NOBODY))
        assert "ask for fewer texts" in problems["texts"]


async def test_a_model_that_fails_is_told_without_saying_how(
    service: GeneratorService, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise RuntimeError("secret")

    monkeypatch.setattr(service._served.loaded.model.base_model, "forward", fail)
    with pytest.raises(RpcError) as caught:
        await service.Embed(pb.EmbedRequest(texts=["night"]), NOBODY)
    assert caught.value.code is grpc.StatusCode.INTERNAL
    assert "secret" not in str(caught.value.status())


class TestAnEmbeddingOverTheNetwork:
    """What a client that goes away, or asks too much, costs the others."""

    @pytest.fixture
    async def stub(
        self, service: GeneratorService
    ) -> "AsyncIterator[generator_service_pb2_grpc.GeneratorServiceAsyncStub]":
        server = grpc.aio.server()
        service.register(server)
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            yield generator_service_pb2_grpc.GeneratorServiceStub(channel)
        await server.stop(None)

    @pytest.mark.parametrize("leaving", ["cancelled", "expired"])
    async def test_that_is_given_up_while_it_waits_never_reaches_the_model(
        self, service: GeneratorService, stub: Any, leaving: str
    ) -> None:
        request = pb.EmbedRequest(texts=["night"])
        engine: Any = service._served.engine
        with passes(service._served.loaded, held=True) as seen:
            first = stub.Embed(request)
            await until_begun(seen, 1)
            waiting = stub.Embed(request, timeout=0.3 if leaving == "expired" else None)
            async with asyncio.timeout(20):
                while engine._embedding < 2:  # noqa: ASYNC110
                    await asyncio.sleep(0.005)
                if leaving == "cancelled":
                    waiting.cancel()
                while engine._embedding > 1:  # noqa: ASYNC110
                    await asyncio.sleep(0.005)
            seen[0].set()
            assert len((await first).embeddings) == 1
            expected = {"cancelled": "CANCELLED", "expired": "DEADLINE_EXCEEDED"}[leaving]
            assert (await waiting.code()).name == expected
        assert len(seen) == 1


@pytest.mark.parametrize(
    ("rpc", "request_"),
    [
        ("Embed", pb.EmbedRequest(texts=["night"])),
        ("Generate", pb.GenerateRequest(prompt="night")),
    ],
)
async def test_a_full_queue_is_told_at_once_with_the_time_to_wait(
    service: GeneratorService, monkeypatch: pytest.MonkeyPatch, rpc: str, request_: Any
) -> None:
    monkeypatch.setattr(service._served.engine, "_most", 0)
    monkeypatch.delattr(Tokenizer, "encode")  # which others may hold up
    with pytest.raises(RpcError) as caught:
        await getattr(service, rpc)(request_, UNHURRIED)
    assert caught.value.code is grpc.StatusCode.RESOURCE_EXHAUSTED
    retry = error_details_pb2.RetryInfo()
    assert any(detail.Unpack(retry) for detail in caught.value.status().details)
    assert retry.retry_delay.ToNanoseconds() > 0


async def test_a_model_that_is_being_shut_down_is_unavailable(service: GeneratorService) -> None:
    await service._served.engine.close()
    with pytest.raises(RpcError) as caught:
        await service.Embed(pb.EmbedRequest(texts=["night"]), NOBODY)
    assert caught.value.code is grpc.StatusCode.UNAVAILABLE


async def test_the_model_tells_how_long_its_vectors_are(service: GeneratorService) -> None:
    model = (await service.GetModel(pb.GetModelRequest(), NOBODY)).model
    answer = await service.Embed(pb.EmbedRequest(texts=["night"]), NOBODY)
    assert model.embedding_dimension == len(answer.embeddings[0].vector) == 64


async def test_what_the_engine_cannot_do_is_unimplemented_and_tells_what_can(
    service: GeneratorService, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refuse(prompts: Any) -> Any:
        raise UnsupportedError("this engine generates only; ask another")

    monkeypatch.setattr(service._served.engine, "embed", refuse)
    with pytest.raises(RpcError, match="ask another") as caught:
        await service.Embed(pb.EmbedRequest(texts=["night"]), NOBODY)
    assert caught.value.code is grpc.StatusCode.UNIMPLEMENTED


async def test_an_engine_that_is_not_installed_is_told_with_how_to_install_it(
    tiny_llama: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    folder = tiny_llama.model.name_or_path
    wanted = GeneratorSettings(model=folder, cache=Path(folder).parent, engine="vllm")
    service = GeneratorService(wanted)
    with pytest.raises(StartError, match="pip install"):
        await service.start()
    await service.close()
