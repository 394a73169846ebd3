"""The generator's RPCs."""

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, TypeVar

import grpc
from google.protobuf.duration_pb2 import Duration
from segue.generator.v1 import generation_pb2, generator_service_pb2_grpc, model_pb2
from segue.generator.v1 import generator_service_pb2 as pb

from services.generator import models, requests
from services.generator.engine.interface import (
    Delta,
    Engine,
    EngineClosedError,
    Event,
    Finished,
    FinishReason,
    GenerationError,
    GenerationRequest,
    PromptTooLongError,
    QueueFullError,
    Started,
    Stopping,
)
from services.generator.engine.reference import ReferenceEngine
from services.generator.engine.scheduler import Limits
from services.generator.engine.torch_engine import TorchEngine
from services.generator.settings import GeneratorSettings
from services.generator.tokenization import ChatTemplateError, UnknownTokenError
from serving.context import current_request_id
from serving.deadlines import time_left
from serving.errors import (
    FieldViolation,
    deadline_exceeded,
    internal,
    invalid_argument,
    resource_exhausted,
    unavailable,
)
from serving.service import StartError
from serving.validation import validate

_log = logging.getLogger("segue.generator")

Context = grpc.aio.ServicerContext[Any, Any]
Answer = TypeVar("Answer")

_REASONS = {
    FinishReason.END_OF_SEQUENCE: generation_pb2.FINISH_REASON_END_OF_SEQUENCE,
    FinishReason.STOP_STRING: generation_pb2.FINISH_REASON_STOP_STRING,
    FinishReason.LENGTH: generation_pb2.FINISH_REASON_LENGTH,
    FinishReason.DEADLINE: generation_pb2.FINISH_REASON_DEADLINE,
    FinishReason.CANCELLED: generation_pb2.FINISH_REASON_CANCELLED,
}


@dataclass(frozen=True, slots=True)
class _Served:
    """A model and the engine that runs it."""

    loaded: models.LoadedModel
    engine: Engine


class GeneratorService(generator_service_pb2_grpc.GeneratorServiceServicer):
    """Serves one language model."""

    descriptor = pb.DESCRIPTOR.services_by_name["GeneratorService"]

    def __init__(self, settings: GeneratorSettings) -> None:
        self._settings = settings
        self._running: _Served | None = None
        # Tokenizers are not safe from several threads, and long texts take them long.
        self._tokenizing = ThreadPoolExecutor(max_workers=1, thread_name_prefix="tokenizer")

    def register(self, server: grpc.aio.Server) -> None:
        """Add the methods to a server."""
        generator_service_pb2_grpc.add_GeneratorServiceServicer_to_server(self, server)

    async def start(self) -> None:
        """Load the model.

        Raises:
            StartError: there is no usable model.
        """
        settings = self._settings
        try:
            loaded = await self._in_thread(
                lambda: models.load(
                    settings.model or models.default_source(),
                    cache=settings.cache,
                    device_map=settings.device_map,
                    dtype=settings.dtype,
                    trust_remote_code=settings.trust_remote_code,
                )
            )
        except models.ModelSourceError as error:
            raise StartError(str(error)) from None
        engine = _engine(loaded, settings)
        try:
            await _warm_up(engine, loaded)
        except GenerationError as error:
            await engine.close()
            raise StartError(f"{loaded.description.name} cannot generate: {error}") from error
        self._running = _Served(loaded, engine)

    async def close(self) -> None:
        """End the engine and the tokenizer's thread."""
        if self._running:
            await self._running.engine.close()
        self._tokenizing.shutdown()

    async def Generate(  # noqa: N802
        self, request: pb.GenerateRequest, context: Context
    ) -> pb.GenerateResponse:
        """See the contract."""
        response = pb.GenerateResponse()
        async with aclosing(self._events(request, context)) as events:
            async for event in events:
                if event.HasField("started"):
                    response.started.CopyFrom(event.started)
                elif event.HasField("delta"):
                    response.text += event.delta.text
                    response.token_ids.extend(event.delta.token_ids)
                else:
                    response.finished.CopyFrom(event.finished)
        _raise_unless_whole(response.finished.reason)
        return response

    async def GenerateStream(  # noqa: N802
        self, request: pb.GenerateStreamRequest, context: Context
    ) -> AsyncIterator[pb.GenerateStreamResponse]:
        """See the contract."""
        async with aclosing(self._events(request, context)) as events:
            async for event in events:
                yield event

    async def Tokenize(  # noqa: N802
        self, request: pb.TokenizeRequest, context: Context
    ) -> pb.TokenizeResponse:
        """See the contract."""
        wanted = validate(requests.Tokenize, request)
        tokenizer = self._served.loaded.tokenizer
        tokens = await self._in_thread(
            lambda: tokenizer.tokens(wanted.text, add_special_tokens=wanted.add_special_tokens)
        )
        return pb.TokenizeResponse(
            tokens=[
                pb.Token(id=token.id, piece=token.piece, start=token.start, end=token.end)
                for token in tokens
            ]
        )

    async def Detokenize(  # noqa: N802
        self, request: pb.DetokenizeRequest, context: Context
    ) -> pb.DetokenizeResponse:
        """See the contract."""
        wanted = validate(requests.Detokenize, request)
        tokenizer = self._served.loaded.tokenizer
        try:
            tokenizer.check(wanted.ids)
        except UnknownTokenError as error:
            raise invalid_argument([FieldViolation(f"ids[{error.index}]", str(error))]) from None
        text = await self._in_thread(
            lambda: tokenizer.decode(wanted.ids, skip_special_tokens=wanted.skip_special_tokens)
        )
        return pb.DetokenizeResponse(text=text)

    async def GetModel(  # noqa: N802
        self, request: pb.GetModelRequest, context: Context
    ) -> pb.GetModelResponse:
        """See the contract."""
        return pb.GetModelResponse(model=_description(self._served))

    async def _events(
        self, request: pb.GenerateRequest | pb.GenerateStreamRequest, context: Context
    ) -> AsyncGenerator[pb.GenerateStreamResponse, None]:
        """The events of one text; once `started` is out, a failure is the `finished` event."""
        served = self._served
        wanted = validate(requests.Generate, request)
        left = time_left(context)
        deadline = None if left is None else time.monotonic() + left
        prompt_ids = await self._prompt_ids(served.loaded, wanted)
        generation = GenerationRequest(
            tuple(prompt_ids), wanted.sampling.settings(), wanted.stopping.settings(), deadline
        )
        name = served.loaded.description.name
        try:
            async with aclosing(served.engine.generate(generation)) as events:
                async for event in events:
                    yield _event(event, name)
                    if isinstance(event, Started) and wanted.return_full_text:
                        text = wanted.prompt or served.loaded.tokenizer.decode(prompt_ids)
                        yield pb.GenerateStreamResponse(delta=generation_pb2.Delta(text=text))
        except PromptTooLongError as error:
            raise invalid_argument([FieldViolation(_input_path(wanted), str(error))]) from None
        except QueueFullError as error:
            raise resource_exhausted("generator", str(error), error.retry_after_s) from None
        except EngineClosedError as error:
            raise unavailable("SHUTTING_DOWN", str(error)) from None
        except GenerationError:
            _log.exception("generation failed")
            reason = generation_pb2.FINISH_REASON_ERROR
            status = internal().status(current_request_id())
            finished = generation_pb2.Finished(reason=reason, error=status)
            yield pb.GenerateStreamResponse(finished=finished)

    async def _prompt_ids(self, loaded: models.LoadedModel, wanted: requests.Generate) -> list[int]:
        tokenizer = loaded.tokenizer
        try:
            if wanted.token_ids is not None:
                tokenizer.check(wanted.token_ids.ids)
                return wanted.token_ids.ids
            if wanted.chat is not None:
                messages = [message.spoken() for message in wanted.chat.messages]
                return await self._in_thread(lambda: tokenizer.encode_chat(messages))
            return await self._in_thread(lambda: tokenizer.encode(wanted.prompt or ""))
        except UnknownTokenError as error:
            path = f"token_ids.ids[{error.index}]"
            raise invalid_argument([FieldViolation(path, str(error))]) from None
        except ChatTemplateError as error:
            raise invalid_argument([FieldViolation("chat", str(error))]) from None

    async def _in_thread(self, work: Callable[[], Answer]) -> Answer:
        return await asyncio.get_running_loop().run_in_executor(self._tokenizing, work)

    @property
    def _served(self) -> _Served:
        if self._running is None:
            raise unavailable("MODEL_NOT_LOADED", "the language model is being loaded; try again")
        return self._running


def _engine(loaded: models.LoadedModel, settings: GeneratorSettings) -> Engine:
    if settings.engine == "reference":
        return ReferenceEngine(loaded, settings.max_waiting)
    return TorchEngine(
        loaded,
        settings.max_waiting,
        kv_bytes=settings.kv_bytes,
        limits=Limits(settings.max_running, settings.max_step_tokens),
    )


async def _warm_up(engine: Engine, loaded: models.LoadedModel) -> None:
    """Generate a token, so that the first client does not wait for what is set up lazily."""
    prompt_ids = (min(loaded.stop_ids, default=0),)
    async for _ in engine.generate(GenerationRequest(prompt_ids, stopping=Stopping(1))):
        pass


def _input_path(wanted: requests.Generate) -> str:
    return "token_ids" if wanted.token_ids else "chat" if wanted.chat else "prompt"


def _raise_unless_whole(reason: int) -> None:
    """A unary answer is a whole text or an error."""
    if reason == generation_pb2.FINISH_REASON_DEADLINE:
        raise deadline_exceeded("the text was not finished before the deadline; ask for less")
    if reason == generation_pb2.FINISH_REASON_CANCELLED:
        raise unavailable("SHUTTING_DOWN", "the model is being shut down; try another server")
    if reason == generation_pb2.FINISH_REASON_ERROR:
        raise internal()


def _event(event: Event, model: str) -> pb.GenerateStreamResponse:
    match event:
        case Started():
            started = generation_pb2.Started(
                request_id=current_request_id(), model=model, prompt_tokens=event.prompt_tokens
            )
            return pb.GenerateStreamResponse(started=started)
        case Delta():
            delta = generation_pb2.Delta(text=event.text, token_ids=event.token_ids)
            return pb.GenerateStreamResponse(delta=delta)
        case Finished():
            return pb.GenerateStreamResponse(finished=_finished(event))


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


def _description(served: _Served) -> model_pb2.Model:
    model = served.loaded.description
    tokenizer = model.tokenizer
    return model_pb2.Model(
        name=model.name,
        architecture=model.architecture,
        parameters=model.parameters,
        dtype=model.dtype,
        device=model.device,
        context_length=model.context_length,
        end_of_sequence_ids=sorted(served.loaded.stop_ids),
        engine=served.engine.name,
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
