"""What the generator answers, as messages of the contract."""

from collections.abc import Sequence

from google.protobuf.duration_pb2 import Duration
from segue.generator.v1 import embedding_pb2, generation_pb2, model_pb2
from segue.generator.v1 import generator_service_pb2 as pb

from services.generator import requests
from services.generator.embedding import Vectors
from services.generator.engine.interface import (
    Delta,
    Event,
    Finished,
    FinishReason,
    Logprobs,
    Started,
)
from services.generator.models import LoadedModel
from services.generator.tokenization import Token, Tokenizer
from serving.context import current_request_id

_REASONS = {
    FinishReason.END_OF_SEQUENCE: generation_pb2.FINISH_REASON_END_OF_SEQUENCE,
    FinishReason.STOP_STRING: generation_pb2.FINISH_REASON_STOP_STRING,
    FinishReason.LENGTH: generation_pb2.FINISH_REASON_LENGTH,
    FinishReason.DEADLINE: generation_pb2.FINISH_REASON_DEADLINE,
    FinishReason.CANCELLED: generation_pb2.FINISH_REASON_CANCELLED,
}


def event(happened: Event, loaded: LoadedModel) -> pb.GenerateStreamResponse:
    """One event of a text that a model generates."""
    match happened:
        case Started():
            started = generation_pb2.Started(
                request_id=current_request_id(),
                model=loaded.description.name,
                prompt_tokens=happened.prompt_tokens,
            )
            return pb.GenerateStreamResponse(started=started)
        case Delta():
            delta = generation_pb2.Delta(
                text=happened.text,
                token_ids=happened.token_ids,
                logprobs=[_logprobs(told, loaded.tokenizer) for told in happened.logprobs],
            )
            return pb.GenerateStreamResponse(delta=delta)
        case Finished():
            return pb.GenerateStreamResponse(finished=_finished(happened))


def token(cut: Token) -> pb.Token:
    """A token of a text."""
    return pb.Token(id=cut.id, piece=cut.piece, start=cut.start, end=cut.end)


def embedding(
    ids: Sequence[int], states: Vectors, wanted: requests.Embed
) -> embedding_pb2.Embedding:
    """The vectors of a text whose tokens are `ids` and have the rows of `states`."""
    rows = zip(ids, states.tolist(), strict=True) if wanted.token_vectors else ()
    return embedding_pb2.Embedding(
        vector=wanted.pooled(states).tolist(),
        tokens=len(ids),
        token_vectors=[
            embedding_pb2.TokenVector(id=token_id, vector=row) for token_id, row in rows
        ],
    )


def description(loaded: LoadedModel, engine: str) -> model_pb2.Model:
    """The model, and the name of the engine that runs it."""
    model, tokenizer = loaded.description, loaded.description.tokenizer
    return model_pb2.Model(
        name=model.name,
        architecture=model.architecture,
        parameters=model.parameters,
        dtype=model.dtype,
        device=model.device,
        context_length=model.context_length,
        embedding_dimension=model.embedding_dimension,
        end_of_sequence_ids=sorted(loaded.stop_ids),
        engine=engine,
        tokenizer=model_pb2.TokenizerDescription(
            algorithm=tokenizer.algorithm,
            vocabulary_size=tokenizer.vocabulary_size,
            special_tokens=[
                model_pb2.SpecialToken(text=text, id=token_id)
                for text, token_id in tokenizer.special_tokens
            ],
            normalization=tokenizer.normalization,
            chat_template=tokenizer.chat_template,
        ),
    )


def _logprobs(told: Logprobs, tokenizer: Tokenizer) -> generation_pb2.Logprobs:
    tokens = (told.token, *told.top)
    pieces = tokenizer.pieces([token.id for token in tokens])
    token, *top = (
        generation_pb2.TokenLogprob(id=token.id, piece=piece, logprob=token.logprob)
        for token, piece in zip(tokens, pieces, strict=True)
    )
    return generation_pb2.Logprobs(token=token, top=top)


def _finished(event: Finished) -> generation_pb2.Finished:
    return generation_pb2.Finished(
        reason=_REASONS[event.reason],
        stop=event.stop,
        usage=generation_pb2.Usage(
            prompt_tokens=event.prompt_tokens,
            cached_tokens=event.cached_tokens,
            generated_tokens=event.generated_tokens,
        ),
        seed=event.seed,
        queue_time=_duration(event.queued_s),
        time_to_first_token=None if event.first_token_s is None else _duration(event.first_token_s),
        total_time=_duration(event.total_s),
    )


def _duration(seconds: float) -> Duration:
    duration = Duration()
    duration.FromNanoseconds(round(seconds * 1e9))
    return duration
