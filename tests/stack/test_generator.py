"""The generator's RPCs, over the wire, with the embedded model."""

import math

import grpc
import numpy as np
import pytest
from segue.generator.v1 import generation_pb2
from segue.generator.v1 import generator_service_pb2 as pb

from tests.stack.conftest import Running

CHAT = generation_pb2.Chat(
    messages=[
        generation_pb2.ChatMessage(
            role=generation_pb2.ROLE_USER, content="What is the capital of France?"
        )
    ]
)


def stopping(**fields: object) -> generation_pb2.Stopping:
    return generation_pb2.Stopping(**fields)  # type: ignore[arg-type]


def test_the_model_answers(running: Running) -> None:
    request = pb.GenerateRequest(chat=CHAT, stopping=stopping(max_new_tokens=20))
    answer = running.generator.Generate(request)
    assert "Paris" in answer.text
    assert answer.finished.reason == generation_pb2.FINISH_REASON_END_OF_SEQUENCE
    assert answer.finished.usage.generated_tokens == len(answer.token_ids)


def test_a_stream_is_the_same_text_in_pieces(running: Running) -> None:
    limit = stopping(max_new_tokens=16)
    whole = running.generator.Generate(pb.GenerateRequest(prompt="The song", stopping=limit))
    events = list(
        running.generator.GenerateStream(
            pb.GenerateStreamRequest(prompt="The song", stopping=limit)
        )
    )
    kinds = [event.WhichOneof("event") for event in events]
    assert kinds == ["started", *["delta"] * (len(events) - 2), "finished"]
    assert "".join(event.delta.text for event in events[1:-1]) == whole.text
    ids = [token_id for event in events[1:-1] for token_id in event.delta.token_ids]
    assert ids == list(whole.token_ids)
    assert len(kinds) > 8
    assert events[-1].finished.reason == generation_pb2.FINISH_REASON_LENGTH


def test_log_probabilities_tell_how_sure_the_model_is(running: Running) -> None:
    request = pb.GenerateRequest(chat=CHAT, stopping=stopping(max_new_tokens=20), logprobs=5)
    answer = running.generator.Generate(request)
    assert [told.token.id for told in answer.logprobs] == list(answer.token_ids)
    assert all(told.token == told.top[0] for told in answer.logprobs)
    assert all(len(told.top) == 5 for told in answer.logprobs)
    paris = next(told for told in answer.logprobs if told.token.piece == "ĠParis")
    assert math.exp(paris.token.logprob) > 0.5 > math.exp(paris.top[1].logprob)


def test_too_many_log_probabilities_are_refused(running: Running) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        running.generator.Generate(pb.GenerateRequest(prompt="Hi", logprobs=21))
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "logprobs" in str(caught.value.details())


def test_the_request_id_of_the_caller_comes_back(running: Running) -> None:
    request = pb.GenerateStreamRequest(prompt="Hi", stopping=stopping(max_new_tokens=1))
    events = list(running.generator.GenerateStream(request, metadata=(("x-request-id", "mine-1"),)))
    assert events[0].started.request_id == "mine-1"


def test_the_full_text_begins_with_the_prompt(running: Running) -> None:
    request = pb.GenerateRequest(
        prompt="One two three", return_full_text=True, stopping=stopping(max_new_tokens=4)
    )
    assert running.generator.Generate(request).text.startswith("One two three")


def test_a_deadline_ends_a_stream_with_the_text_so_far(running: Running) -> None:
    request = pb.GenerateStreamRequest(
        prompt="A very long story:", stopping=stopping(max_new_tokens=2000, ignore_eos=True)
    )
    events = list(running.generator.GenerateStream(request, timeout=2))
    assert events[-1].finished.reason == generation_pb2.FINISH_REASON_DEADLINE
    assert any(event.delta.text for event in events)


def test_a_deadline_ends_a_unary_call_with_an_error(running: Running) -> None:
    request = pb.GenerateRequest(
        prompt="A very long story:", stopping=stopping(max_new_tokens=2000, ignore_eos=True)
    )
    with pytest.raises(grpc.RpcError) as caught:
        running.generator.Generate(request, timeout=1)
    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED


def test_a_client_that_goes_away_makes_room_for_the_next(running: Running) -> None:
    endless = pb.GenerateStreamRequest(
        prompt="A very long story:", stopping=stopping(max_new_tokens=4000, ignore_eos=True)
    )
    call = running.generator.GenerateStream(endless)
    next(call)
    next(call)
    call.cancel()
    request = pb.GenerateRequest(prompt="Hi", stopping=stopping(max_new_tokens=1))
    # Had the first gone on, this one would wait for minutes and meet its deadline.
    finished = running.generator.Generate(request, timeout=30).finished
    assert finished.usage.generated_tokens == 1


def test_tokens_know_their_place_and_join_to_the_text(running: Running) -> None:
    text = "Björk, 坂本龍一 & Sigur Rós 🎵"
    tokens = running.generator.Tokenize(pb.TokenizeRequest(text=text)).tokens
    assert tokens[0].start == 0
    assert tokens[-1].end == len(text)
    ids = [token.id for token in tokens]
    assert running.generator.Detokenize(pb.DetokenizeRequest(ids=ids)).text == text


def test_a_text_can_be_cut_by_word_character_and_byte(running: Running) -> None:
    text = "Björk & Sigur Rós 🎵"

    def cut(kind: pb.TokenKind.ValueType) -> list[pb.Token]:
        return list(running.generator.Tokenize(pb.TokenizeRequest(text=text, kind=kind)).tokens)

    words = ["Björk", " ", "&", " ", "Sigur", " ", "Rós", " ", "🎵"]
    assert [token.piece for token in cut(pb.TOKEN_KIND_WORD)] == words
    assert [token.piece for token in cut(pb.TOKEN_KIND_CHARACTER)] == list(text)
    assert bytes(token.id for token in cut(pb.TOKEN_KIND_BYTE)).decode() == text


def test_tokens_are_counted_as_they_are_used(running: Running) -> None:
    counted = running.generator.CountTokens(pb.CountTokensRequest(chat=CHAT))
    answer = running.generator.Generate(
        pb.GenerateRequest(chat=CHAT, stopping=stopping(max_new_tokens=1))
    )
    assert counted.tokens == answer.finished.usage.prompt_tokens
    assert counted.tokens + counted.remaining == counted.context_length == 8192


def test_texts_of_like_meaning_have_like_vectors(running: Running) -> None:
    texts = ["a sad song about rain", "a gloomy tune on rainy weather", "import numpy as np"]
    answer = running.generator.Embed(pb.EmbedRequest(texts=texts))
    song, tune, code = np.array([embedding.vector for embedding in answer.embeddings])
    assert np.linalg.norm([song, tune, code], axis=1) == pytest.approx([1, 1, 1], abs=1e-5)
    assert song @ tune > song @ code


def test_a_text_has_the_same_vector_alone_and_in_company(running: Running) -> None:
    texts = [" ".join(["song"] * length) for length in (1, 3, 20, 300)]
    together = running.generator.Embed(pb.EmbedRequest(texts=texts))
    for text, embedding in zip(texts, together.embeddings, strict=True):
        alone = running.generator.Embed(pb.EmbedRequest(texts=[text])).embeddings[0]
        assert embedding.vector == alone.vector  # to the last bit


def test_each_token_has_a_vector_and_too_many_are_refused(running: Running) -> None:
    dimension = running.generator.GetModel(pb.GetModelRequest()).model.embedding_dimension
    request = pb.EmbedRequest(texts=["the song"], token_vectors=True)
    embedding = running.generator.Embed(request).embeddings[0]
    assert [len(token.vector) for token in embedding.token_vectors] == [dimension] * 2
    too_many = pb.EmbedRequest(texts=["song " * 1000] * 5, token_vectors=True)
    with pytest.raises(grpc.RpcError) as caught:
        running.generator.Embed(too_many)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "ask for fewer texts" in str(caught.value.details())


def test_the_model_is_described(running: Running) -> None:
    model = running.generator.GetModel(pb.GetModelRequest()).model
    assert model.architecture == "LlamaForCausalLM"
    assert 134_000_000 < model.parameters < 136_000_000
    assert model.context_length == 8192
    assert model.embedding_dimension == 576
    assert model.engine == "torch"
    assert model.tokenizer.algorithm == "BPE"
    assert "<|im_end|>" in {token.text for token in model.tokenizer.special_tokens}
