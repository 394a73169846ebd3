"""Text from the generator, with whatever ends it early told as the stream's last event."""

from collections.abc import AsyncGenerator
from typing import TYPE_CHECKING

import grpc
from segue.generator.v1 import generation_pb2
from segue.generator.v1 import generator_service_pb2 as pb

from serving.context import outgoing_metadata
from serving.errors import RpcError, from_backend

if TYPE_CHECKING:  # this class stands in the type stubs only
    from segue.generator.v1.generator_service_pb2_grpc import GeneratorServiceAsyncStub


async def stream_text(
    stub: "GeneratorServiceAsyncStub", request: pb.GenerateStreamRequest, timeout_s: float | None
) -> AsyncGenerator[pb.GenerateStreamResponse, None]:
    """Yield the generator's events; closing the iterator cancels the call.

    Once an event has come, a `finished` always follows, with the error inside if need be.

    Raises:
        RpcError: the generator refused the request or could not be reached, before any event.
    """
    call = stub.GenerateStream(request, timeout=timeout_s, metadata=outgoing_metadata())
    started = finished = False
    try:
        async for event in call:
            started, finished = True, event.HasField("finished")
            yield event
        if finished:
            return
        failure = RpcError(
            grpc.StatusCode.INTERNAL, "BACKEND_ERROR", "the generator ended without saying why"
        )
    except grpc.aio.AioRpcError as error:
        failure = from_backend(error, "generator")
    finally:
        call.cancel()
    if not started:
        raise failure
    yield pb.GenerateStreamResponse(finished=failed(failure))


def failed(failure: RpcError) -> generation_pb2.Finished:
    """The end of a text that an error brought about."""
    if failure.code is grpc.StatusCode.DEADLINE_EXCEEDED:
        reason = generation_pb2.FINISH_REASON_DEADLINE
    else:
        reason = generation_pb2.FINISH_REASON_ERROR
    return generation_pb2.Finished(reason=reason, error=failure.status())
