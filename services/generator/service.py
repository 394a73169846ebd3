"""The generator's RPCs."""

import asyncio
import importlib.util
import logging
import signal
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from typing import Any, TypeVar

import grpc
from segue.generator.v1 import generation_pb2, generator_service_pb2_grpc
from segue.generator.v1 import generator_service_pb2 as pb

from services.generator import messages, models, requests
from services.generator.engine.attention import UnsupportedModelError
from services.generator.engine.interface import (
    Engine,
    EngineClosedError,
    EngineStartError,
    GenerationError,
    GenerationRequest,
    PromptLengthError,
    PromptTooLongError,
    QueueFullError,
    Started,
    Stopping,
    UnsupportedError,
)
from services.generator.engine.reference import ReferenceEngine
from services.generator.engine.torch_engine import KvBudgetError, TorchEngine, usual_limits
from services.generator.settings import GeneratorSettings
from services.generator.tokenization import ChatTemplateError, Tokenizer, UnknownTokenError
from serving.context import current_request_id
from serving.deadlines import time_left
from serving.errors import (
    FieldViolation,
    RpcError,
    deadline_exceeded,
    internal,
    invalid_argument,
    resource_exhausted,
    unavailable,
)
from serving.service import StartError
from serving.validation import check_answer, validate

_log = logging.getLogger("segue.generator")

Context = grpc.aio.ServicerContext[Any, Any]
Answer = TypeVar("Answer")


# Asking for a message's size takes as long as to write it.
_TOKENS_BETWEEN_CHECKS = 50_000

_ASK_FOR_FEWER = "ask for fewer tokens or logprobs, or for a stream"

_ASK_FOR_LESS = "ask for fewer texts at once, or leave out token_vectors"


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
                    weights=settings.engine != "vllm",
                )
            )
        except models.ModelSourceError as error:
            raise StartError(str(error)) from None
        try:
            engine = await self._in_thread(lambda: _engine(loaded, settings))
        except (EngineStartError, KvBudgetError, UnsupportedModelError) as error:
            raise StartError(str(error)) from None
        try:
            await _warm_up(engine, loaded)
        except GenerationError as error:
            await engine.close()
            reason = f"{error}: {error.__cause__}"
            raise StartError(f"{loaded.description.name} cannot generate: {reason}") from error
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
        size = 0
        async with aclosing(self._events(request, context)) as events:
            async for event in events:
                if event.HasField("started"):
                    response.started.CopyFrom(event.started)
                elif event.HasField("delta"):
                    response.text += event.delta.text
                    response.token_ids.extend(event.delta.token_ids)
                    response.logprobs.extend(event.delta.logprobs)
                    size += event.delta.ByteSize()
                    self._check_size(size, "stopping.max_new_tokens", _ASK_FOR_FEWER)
                else:
                    response.finished.CopyFrom(event.finished)
        _raise_unless_whole(response.finished.reason)
        return response

    def GenerateStream(  # noqa: N802
        self, request: pb.GenerateStreamRequest, context: Context
    ) -> AsyncIterator[pb.GenerateStreamResponse]:
        """See the contract."""
        return self._events(request, context)

    async def Tokenize(  # noqa: N802
        self, request: pb.TokenizeRequest, context: Context
    ) -> pb.TokenizeResponse:
        """See the contract."""
        wanted = validate(requests.Tokenize, request)
        tokenizer = self._served.loaded.tokenizer
        return await self._in_thread(lambda: self._tokenized(wanted, tokenizer))

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
        response = pb.DetokenizeResponse(text=text)
        self._check_size(response.ByteSize(), "ids", "send fewer ids at once")
        return response

    async def CountTokens(  # noqa: N802
        self, request: pb.CountTokensRequest, context: Context
    ) -> pb.CountTokensResponse:
        """See the contract."""
        wanted = validate(requests.Input, request)
        served = self._served
        tokens = len(await self._prompt_ids(served.loaded, wanted))
        room = served.engine.room
        return pb.CountTokensResponse(
            tokens=tokens, context_length=room, remaining=max(0, room - tokens)
        )

    async def Embed(  # noqa: N802
        self, request: pb.EmbedRequest, context: Context
    ) -> pb.EmbedResponse:
        """See the contract."""
        wanted = validate(requests.Embed, request)
        served = self._served
        try:
            served.engine.check_room()
            prompts = await self._texts_ids(served.loaded.tokenizer, wanted.texts)
            vectors = len(prompts) + (sum(map(len, prompts)) if wanted.token_vectors else 0)
            floats = vectors * served.loaded.description.embedding_dimension
            self._check_size(4 * floats, "texts", _ASK_FOR_LESS)  # before the model runs in vain
            states = await served.engine.embed(prompts)
        except PromptLengthError as error:
            raise invalid_argument([FieldViolation(f"texts[{error.index}]", str(error))]) from None
        except (QueueFullError, EngineClosedError, UnsupportedError) as error:
            raise _refusal(error) from None
        except GenerationError:
            _log.exception("embedding failed")
            raise internal() from None
        embeddings = await self._in_thread(
            lambda: [
                messages.embedding(ids, rows, wanted)
                for ids, rows in zip(prompts, states, strict=True)
            ]
        )
        response = pb.EmbedResponse(embeddings=embeddings, model=served.loaded.description.name)
        self._check_size(response.ByteSize(), "texts", _ASK_FOR_LESS)
        return response

    async def GetModel(  # noqa: N802
        self, request: pb.GetModelRequest, context: Context
    ) -> pb.GetModelResponse:
        """See the contract."""
        served = self._served
        return pb.GetModelResponse(model=messages.description(served.loaded, served.engine.name))

    async def _events(
        self, request: pb.GenerateRequest | pb.GenerateStreamRequest, context: Context
    ) -> AsyncGenerator[pb.GenerateStreamResponse, None]:
        """The events of one text; once `started` is out, a failure is the `finished` event."""
        served = self._served
        wanted = validate(requests.Generate, request)
        left = time_left(context)
        deadline = None if left is None else time.monotonic() + left
        try:
            served.engine.check_room()  # many who are refused would wait for each other's tokens
            prompt_ids = await self._prompt_ids(served.loaded, wanted)
            generation = GenerationRequest(
                tuple(prompt_ids),
                wanted.sampling.settings(),
                wanted.stopping.settings(),
                deadline,
                wanted.logprobs,
            )
            async with aclosing(served.engine.generate(generation)) as events:
                async for event in events:
                    yield messages.event(event, served.loaded)
                    if isinstance(event, Started) and wanted.return_full_text:
                        text = wanted.prompt or served.loaded.tokenizer.decode(prompt_ids)
                        yield pb.GenerateStreamResponse(delta=generation_pb2.Delta(text=text))
        except PromptTooLongError as error:
            raise invalid_argument([FieldViolation(_input_path(wanted), str(error))]) from None
        except (QueueFullError, EngineClosedError, UnsupportedError) as error:
            raise _refusal(error) from None
        except GenerationError:
            _log.exception("generation failed")
            reason = generation_pb2.FINISH_REASON_ERROR
            status = internal().status(current_request_id())
            finished = generation_pb2.Finished(reason=reason, error=status)
            yield pb.GenerateStreamResponse(finished=finished)

    async def _prompt_ids(self, loaded: models.LoadedModel, wanted: requests.Input) -> list[int]:
        tokenizer = loaded.tokenizer
        try:
            if wanted.token_ids is not None:
                tokenizer.check(wanted.token_ids.ids)
                return wanted.token_ids.ids
            if wanted.chat is not None:
                chat = [message.spoken() for message in wanted.chat.messages]
                return await self._in_thread(lambda: tokenizer.encode_chat(chat))
            return await self._in_thread(lambda: tokenizer.encode(wanted.prompt or ""))
        except UnknownTokenError as error:
            path = f"token_ids.ids[{error.index}]"
            raise invalid_argument([FieldViolation(path, str(error))]) from None
        except ChatTemplateError as error:
            raise invalid_argument([FieldViolation("chat", str(error))]) from None

    async def _texts_ids(self, tokenizer: Tokenizer, texts: Sequence[str]) -> list[list[int]]:
        """The tokens of texts, one after the other, until there are too many."""
        prompts: list[list[int]] = []
        total = 0
        for text in texts:
            prompts.append(await self._in_thread(partial(tokenizer.encode, text)))
            total += len(prompts[-1])
            if total > requests.MAX_EMBEDDED_TOKENS:
                problem = f"have more than {requests.MAX_EMBEDDED_TOKENS:,} tokens; send fewer"
                raise invalid_argument([FieldViolation("texts", problem)])
        return prompts

    def _tokenized(self, wanted: requests.Tokenize, tokenizer: Tokenizer) -> pb.TokenizeResponse:
        """The answer to `Tokenize`, given up once it is too large; in the tokenizer's thread."""
        tokens = wanted.cut(tokenizer)
        response = pb.TokenizeResponse()
        while some := list(islice(tokens, _TOKENS_BETWEEN_CHECKS)):
            response.tokens.extend(map(messages.token, some))
            self._check_size(response.ByteSize(), "text", "send less text at once")
        return response

    def _check_size(self, size: int, path: str, advice: str) -> None:
        check_answer(size, self._settings.max_message_bytes, path, advice)

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
    if settings.engine == "vllm":
        return _vllm_engine(loaded, settings)
    usual = usual_limits(loaded.model.device)
    tokens = settings.max_step_tokens or usual.tokens
    limits = replace(usual, running=settings.max_running, tokens=tokens)
    return TorchEngine(loaded, settings.max_waiting, kv_bytes=settings.kv_bytes, limits=limits)


def _vllm_engine(loaded: models.LoadedModel, settings: GeneratorSettings) -> Engine:
    if importlib.util.find_spec("vllm") is None:
        raise EngineStartError("vllm is not installed; run `pip install 'segue[generator,vllm]'`")
    from services.generator.engine.vllm_engine import VllmEngine  # it takes seconds to import

    return VllmEngine(
        loaded,
        settings.max_waiting,
        settings.max_running,
        kv_bytes=settings.kv_bytes,
        died=_stop_serving,
        tensor_parallel_size=settings.tensor_parallel_size,
        pipeline_parallel_size=settings.pipeline_parallel_size,
        trust_remote_code=settings.trust_remote_code,
    )


def _stop_serving() -> None:
    """End this server as an operator would, so that whoever keeps it running starts it anew."""
    _log.critical("the engine's processes have died, and this server ends")
    signal.raise_signal(signal.SIGTERM)


async def _warm_up(engine: Engine, loaded: models.LoadedModel) -> None:
    """Generate a token, so that the first client does not wait for what is set up lazily."""
    prompt_ids = (min(loaded.stop_ids, default=0),)
    async for _ in engine.generate(GenerationRequest(prompt_ids, stopping=Stopping(1))):
        pass


def _refusal(error: QueueFullError | EngineClosedError | UnsupportedError) -> RpcError:
    """What the engine does not take on, as clients see it."""
    if isinstance(error, QueueFullError):
        return resource_exhausted("generator", str(error), error.retry_after_s)
    if isinstance(error, UnsupportedError):
        return RpcError(grpc.StatusCode.UNIMPLEMENTED, "UNSUPPORTED_BY_ENGINE", str(error))
    return unavailable("SHUTTING_DOWN", str(error))


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
