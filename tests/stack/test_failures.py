"""What a client sees when a server dies, hangs, is not there, or is told to stop."""

import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import cast

import grpc
import pytest
from google.rpc import error_details_pb2
from grpc_health.v1 import health_pb2
from grpc_status import rpc_status
from segue.gateway.v1 import gateway_service_pb2 as pb
from segue.gateway.v1 import gateway_service_pb2_grpc
from segue.generator.v1 import generation_pb2, generator_service_pb2_grpc
from segue.generator.v1 import generator_service_pb2 as generator

from cli.stack import HOST, Member, Ports
from tests.stack.conftest import StartServer
from tests.tiny_models import save_tiny_phi3

ENDLESS = generation_pb2.Stopping(max_new_tokens=2000, ignore_eos=True)
NARRATE = pb.NarrateRequest(seeds=[pb.NarrationSeed(query="fade to black")], stopping=ENDLESS)


class Fragile:
    """A stack of its own for one test, whose generator may be killed, stopped or missing."""

    def __init__(self, start: StartServer, models: Path, running: ExitStack) -> None:
        self._start = start
        self._running = running
        self.ports = Ports.free()
        flags = (
            f"--recommender={HOST}:{self.ports.recommender}",
            f"--generator={HOST}:{self.ports.generator}",
        )
        running.enter_context(
            start("recommender", f"--models={models}", port=self.ports.recommender)
        )
        running.enter_context(start("gateway", *flags, port=self.ports.gateway))
        channel = running.enter_context(grpc.insecure_channel(f"{HOST}:{self.ports.gateway}"))
        self.gateway = gateway_service_pb2_grpc.GatewayServiceStub(channel)

    def start_generator(self) -> Member:
        return self._running.enter_context(self._start("generator", port=self.ports.generator))


@pytest.fixture
def fragile(start: StartServer, models: Path) -> Iterator[Fragile]:
    with ExitStack() as running:
        yield Fragile(start, models, running)


def test_a_generator_killed_in_the_middle_leaves_songs_text_and_the_error(
    fragile: Fragile,
) -> None:
    generator_process = fragile.start_generator().process
    events: list[pb.NarrateResponse] = []
    killed = 0.0
    for event in fragile.gateway.Narrate(NARRATE, timeout=60):
        events.append(event)
        if not killed and sum(event.HasField("text") for event in events) == 3:
            generator_process.kill()
            killed = time.monotonic()
    assert time.monotonic() - killed < 1
    assert len(events[0].songs.songs) == 5
    assert "".join(event.text.text for event in events)
    finished = events[-1].finished
    assert finished.reason == generation_pb2.FINISH_REASON_ERROR
    assert finished.error.code == grpc.StatusCode.UNAVAILABLE.value[0]
    assert "generator" in finished.error.message


def test_without_a_generator_the_songs_come_all_the_same(fragile: Fragile) -> None:
    events = list(fragile.gateway.Narrate(NARRATE, timeout=30))
    assert [event.WhichOneof("event") for event in events] == ["songs", "finished"]
    assert events[1].finished.error.code == grpc.StatusCode.UNAVAILABLE.value[0]


def test_a_generator_that_comes_back_is_used_again(fragile: Fragile) -> None:
    list(fragile.gateway.Narrate(NARRATE, timeout=30))
    fragile.start_generator()
    short = pb.NarrateRequest(
        seeds=NARRATE.seeds, stopping=generation_pb2.Stopping(max_new_tokens=2)
    )
    deadline = time.monotonic() + 10
    while list(fragile.gateway.Narrate(short, timeout=30))[-1].finished.HasField("error"):
        assert time.monotonic() < deadline, "the gateway did not find the generator again"


def test_a_generator_that_hangs_past_the_deadline_leaves_the_songs(fragile: Fragile) -> None:
    process = fragile.start_generator().process
    process.send_signal(signal.SIGSTOP)
    try:
        events = list(fragile.gateway.Narrate(NARRATE, timeout=2))
    finally:
        process.send_signal(signal.SIGCONT)
    assert len(events[0].songs.songs) == 5
    finished = events[-1].finished
    assert finished.reason == generation_pb2.FINISH_REASON_DEADLINE
    assert finished.error.code == grpc.StatusCode.DEADLINE_EXCEEDED.value[0]


def test_a_narration_that_outlasts_its_deadline_ends_in_order(fragile: Fragile) -> None:
    fragile.start_generator()
    events = list(fragile.gateway.Narrate(NARRATE, timeout=6))
    assert any(event.text.text for event in events)
    finished = events[-1].finished
    assert finished.reason == generation_pb2.FINISH_REASON_DEADLINE
    assert finished.error.code == grpc.StatusCode.DEADLINE_EXCEEDED.value[0]
    assert finished.usage.generated_tokens > 0


def test_without_a_recommender_narration_is_unavailable(start: StartServer) -> None:
    flags = (f"--recommender={HOST}:1", f"--generator={HOST}:1")
    with start("gateway", *flags) as member, grpc.insecure_channel(member.address) as channel:
        stub = gateway_service_pb2_grpc.GatewayServiceStub(channel)
        with pytest.raises(grpc.RpcError) as caught:
            list(stub.Narrate(NARRATE, timeout=10))
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    assert "recommender" in str(caught.value.details())


def health_of(channel: grpc.Channel) -> int:
    check = channel.unary_unary(
        "/grpc.health.v1.Health/Check",
        request_serializer=health_pb2.HealthCheckRequest.SerializeToString,
        response_deserializer=health_pb2.HealthCheckResponse.FromString,
    )
    return int(check(health_pb2.HealthCheckRequest(), timeout=5).status)


def test_sigterm_turns_health_first_and_lets_live_streams_finish(start: StartServer) -> None:
    with start("generator") as member, grpc.insecure_channel(member.address) as channel:
        watch = channel.unary_stream(
            "/grpc.health.v1.Health/Watch",
            request_serializer=health_pb2.HealthCheckRequest.SerializeToString,
            response_deserializer=health_pb2.HealthCheckResponse.FromString,
        )(health_pb2.HealthCheckRequest())
        assert next(watch).status == health_pb2.HealthCheckResponse.SERVING
        stub = generator_service_pb2_grpc.GeneratorServiceStub(channel)
        request = generator.GenerateStreamRequest(
            prompt="A story:",
            stopping=generation_pb2.Stopping(max_new_tokens=20, ignore_eos=True),
        )
        events = stub.GenerateStream(request)
        next(events)
        next(events)
        member.process.send_signal(signal.SIGTERM)
        assert next(watch).status == health_pb2.HealthCheckResponse.NOT_SERVING
        watch.cancel()
        last = list(events)[-1]
        assert last.finished.reason == generation_pb2.FINISH_REASON_LENGTH
        assert last.finished.usage.generated_tokens == 20
        assert member.process.wait(10) == 0


def test_a_full_queue_refuses_at_once_and_says_when_to_try_again(start: StartServer) -> None:
    with (
        start("generator", "--max-waiting=0", "--max-running=1") as member,
        grpc.insecure_channel(member.address) as channel,
    ):
        stub = generator_service_pb2_grpc.GeneratorServiceStub(channel)
        first = stub.GenerateStream(
            generator.GenerateStreamRequest(prompt="A story:", stopping=ENDLESS)
        )
        next(first)
        with pytest.raises(grpc.RpcError) as caught:
            stub.Generate(generator.GenerateRequest(prompt="Hi"), timeout=5)
        first.cancel()
        assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        status = rpc_status.from_call(cast("grpc.Call", caught.value))
        assert status is not None
        retry = error_details_pb2.RetryInfo()
        assert any(detail.Unpack(retry) for detail in status.details)
        assert retry.retry_delay.ToMilliseconds() > 0
        assert health_of(channel) == health_pb2.HealthCheckResponse.SERVING


def test_a_phi3_folder_is_served_by_the_same_code(
    start: StartServer, shared_data: Path, tmp_path: Path
) -> None:
    folder = save_tiny_phi3(tmp_path / "tiny-phi3", shared_data / "phi3_mini_4k")
    with (
        start("generator", f"--model={folder}") as member,
        grpc.insecure_channel(member.address) as channel,
    ):
        stub = generator_service_pb2_grpc.GeneratorServiceStub(channel)
        model = stub.GetModel(generator.GetModelRequest()).model
        assert model.architecture == "Phi3ForCausalLM"
        assert list(model.end_of_sequence_ids) == [32000, 32001, 32007]
        message = generation_pb2.ChatMessage(role=generation_pb2.ROLE_USER, content="Hi")
        chat = generation_pb2.Chat(messages=[message])
        stopping = generation_pb2.Stopping(max_new_tokens=8, ignore_eos=True)
        answer = stub.Generate(generator.GenerateRequest(chat=chat, stopping=stopping))
        assert answer.finished.usage.generated_tokens == 8
