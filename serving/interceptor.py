"""What happens around every RPC: request id, parsing, error details, log line, metrics."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeAlias, TypeVar

import grpc
from google.protobuf.message import Message
from grpc_status import rpc_status

from serving import metrics
from serving.context import REQUEST_ID_KEY, adopt_request_id
from serving.errors import RpcError, internal
from serving.validation import parse

_log = logging.getLogger("segue.rpc")

# The class is generic in its type stubs only.
Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"
Behavior = TypeVar("Behavior", bound=Callable[..., Any])
Context = grpc.aio.ServicerContext[Any, Any]
Continuation: TypeAlias = "Callable[[grpc.HandlerCallDetails], Awaitable[Handler | None]]"


class RequestInterceptor(grpc.aio.ServerInterceptor):
    """Wraps every method of Segue's own services; health and reflection stay as they are.

    Requests are parsed here instead of in gRPC's core, which would answer a frame that it cannot
    read with INTERNAL. `message_classes` gives the request class of each full method name. A method
    may answer with a message or with the bytes of one.
    """

    def __init__(self, message_classes: dict[str, type[Message]]) -> None:
        self._message_classes = message_classes
        self._wrapped: dict[str, Handler] = {}

    async def intercept_service(
        self, continuation: Continuation, handler_call_details: grpc.HandlerCallDetails
    ) -> "Handler | None":
        """Give the wrapped handler of a method, made when it is first called."""
        method = handler_call_details.method
        if method in self._wrapped:
            return self._wrapped[method]
        handler = await continuation(handler_call_details)
        message_class = self._message_classes.get(method)
        if handler is None or message_class is None:
            return handler
        self._wrapped[method] = _wrap(handler, _Call(method), message_class)
        return self._wrapped[method]


class _Call:
    """The metrics and the log line of one method."""

    def __init__(self, method: str) -> None:
        service, name = method.lstrip("/").split("/")
        self._labels = (service, name)
        self._started = metrics.STARTED.labels(*self._labels)
        self._seconds = metrics.HANDLING_SECONDS.labels(*self._labels)
        self._in_flight = metrics.IN_FLIGHT.labels(*self._labels)
        self.sent = metrics.MESSAGES_SENT.labels(*self._labels)

    @contextmanager
    def observed(self, context: Context) -> Iterator["_Outcome"]:
        """Count and time one RPC, and turn what it raises into the status that is sent."""
        request_id = adopt_request_id(context.invocation_metadata() or ())
        context.set_trailing_metadata(((REQUEST_ID_KEY, request_id),))
        outcome = _Outcome(request_id)
        begin = time.perf_counter()
        self._started.inc()
        self._in_flight.inc()
        try:
            yield outcome
        except RpcError as error:
            outcome.error = error
        except asyncio.CancelledError:
            outcome.code = _code_of_cancellation(context)
            raise
        except Exception:
            _log.exception("unexpected error in %s", "/".join(self._labels))
            outcome.error = internal()
        finally:
            self._end(outcome, time.perf_counter() - begin)

    def _end(self, outcome: "_Outcome", seconds: float) -> None:
        code = (outcome.error.code if outcome.error else outcome.code).name
        self._in_flight.dec()
        self._seconds.observe(seconds)
        metrics.HANDLED.labels(*self._labels, code).inc()
        fields = {"method": "/".join(self._labels), "code": code, "ms": round(seconds * 1000, 2)}
        if outcome.error:
            fields["error"] = outcome.error.message
        _log.info("rpc", extra=fields)


class _Outcome:
    """How one RPC ended."""

    def __init__(self, request_id: str) -> None:
        self.code = grpc.StatusCode.OK
        self.error: RpcError | None = None
        self._request_id = request_id

    async def send(self, context: Context) -> None:
        """Send the error's status, if there is one; a success is sent by gRPC itself."""
        if self.error:
            status = rpc_status.to_status(self.error.status(self._request_id))
            await context.abort_with_status(status)


def _code_of_cancellation(context: Context) -> grpc.StatusCode:
    remaining = context.time_remaining()
    if remaining is not None and remaining <= 0:
        return grpc.StatusCode.DEADLINE_EXCEEDED
    return grpc.StatusCode.CANCELLED


def takes_frame(method: Behavior) -> Behavior:
    """For methods, unary, that are given their request as it came and `parse` it themselves."""
    method.takes_frame = True  # type: ignore[attr-defined]
    return method


def _wrap(handler: Handler, call: _Call, message_class: type[Message]) -> Handler:
    if handler.unary_unary is not None:
        return grpc.unary_unary_rpc_method_handler(
            _wrap_unary(handler.unary_unary, call, message_class),
            response_serializer=_serialized,
        )
    return grpc.unary_stream_rpc_method_handler(
        _wrap_stream(handler.unary_stream, call, message_class),
        response_serializer=handler.response_serializer,
    )


def _serialized(response: Message | bytes) -> bytes:
    return response if isinstance(response, bytes) else response.SerializeToString()


def _wrap_unary(behavior: Any, call: _Call, message_class: type[Message]) -> Any:
    takes_frame = getattr(behavior, "takes_frame", False)

    async def unary(raw: bytes, context: Context) -> Any:
        response = None
        with call.observed(context) as outcome:
            request = raw if takes_frame else parse(raw, message_class)
            response = await behavior(request, context)
            call.sent.inc()
        await outcome.send(context)
        return response

    return unary


def _wrap_stream(behavior: Any, call: _Call, message_class: type[Message]) -> Any:
    async def stream(raw: bytes, context: Context) -> AsyncIterator[Any]:
        with call.observed(context) as outcome:
            responses = behavior(parse(raw, message_class), context)
            try:
                async for response in responses:
                    yield response
                    call.sent.inc()
            finally:
                # A client that went away must free what the stream holds now, not when the
                # garbage collector finds it.
                await responses.aclose()
        await outcome.send(context)

    return stream
