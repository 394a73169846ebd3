"""Several processes behind one port share the work, and are restarted and stopped together."""

import json
import os
import signal
import socket
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from prometheus_client.parser import text_string_to_metric_families
from segue.gateway.v1 import gateway_service_pb2 as pb
from segue.gateway.v1 import gateway_service_pb2_grpc

from cli.stack import HOST, Member, Ports
from tests.stack.conftest import StartServer
from tests.stack.test_start_up import Segue, one_line

PROCESSES = 3
PATIENCE_S = 30.0

NOTHING_BEHIND = (f"--recommender={HOST}:1", f"--generator={HOST}:1")

# Each channel gets a connection of its own, and each connection a process.
OWN_CONNECTION = (("grpc.use_local_subchannel_pool", 1),)


def log_of(member: Member) -> list[dict[str, Any]]:
    lines = member.log.read_text("utf-8").splitlines()
    return [json.loads(line) for line in lines if line.startswith("{")]


def messages(member: Member, message: str) -> list[dict[str, Any]]:
    return [line for line in log_of(member) if line["message"] == message]


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.fixture(autouse=True)
def scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Servers put their temporary files where a test can see them."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))


@pytest.fixture
def gateway(start: StartServer) -> Iterator[Member]:
    """A gateway of three processes, all of which serve; nothing is behind it."""
    with start("gateway", f"--processes={PROCESSES}", *NOTHING_BEHIND) as member:
        wait_until(lambda: len(messages(member, "serving")) == PROCESSES)
        yield member


def call(address: str) -> grpc.StatusCode:
    """Ask over a new connection for what the gateway refuses by itself."""
    with grpc.insecure_channel(address, OWN_CONNECTION) as channel:
        stub = gateway_service_pb2_grpc.GatewayServiceStub(channel)
        with pytest.raises(grpc.RpcError) as caught:
            list(stub.Narrate(pb.NarrateRequest(), timeout=PATIENCE_S))
    code: grpc.StatusCode = caught.value.code()
    return code


def workers(member: Member) -> list[int]:
    """Ids of the processes that serve, by the log."""
    return [line["process"] for line in messages(member, "serving")]


def is_free(port: int) -> bool:
    try:
        socket.create_server((HOST, port)).close()
    except OSError:
        return False
    return True


def test_all_of_them_answer(gateway: Member) -> None:
    def answering() -> set[int]:
        assert call(gateway.address) is grpc.StatusCode.INVALID_ARGUMENT
        return {line["process"] for line in messages(gateway, "rpc")}

    wait_until(lambda: answering() == set(workers(gateway)))


def test_one_that_dies_is_restarted_while_the_others_answer(gateway: Member) -> None:
    victim = workers(gateway)[0]
    os.kill(victim, signal.SIGKILL)
    wait_until(lambda: bool(messages(gateway, "a process was ended by SIGKILL")))
    while len(workers(gateway)) == PROCESSES:
        assert call(gateway.address) is grpc.StatusCode.INVALID_ARGUMENT


def test_sigterm_stops_all_of_them_and_leaves_nothing(gateway: Member, tmp_path: Path) -> None:
    with grpc.insecure_channel(gateway.address) as channel:
        health = health_pb2_grpc.HealthStub(channel)
        watch = health.Watch(health_pb2.HealthCheckRequest())  # type: ignore[attr-defined]  # untyped
        assert next(watch).status == health_pb2.HealthCheckResponse.SERVING
        gateway.process.send_signal(signal.SIGTERM)
        assert next(watch).status == health_pb2.HealthCheckResponse.NOT_SERVING
        watch.cancel()
        assert gateway.process.wait(PATIENCE_S) == 0
    assert len(messages(gateway, "stopped")) == PROCESSES
    assert is_free(gateway.port)
    assert not list(tmp_path.glob("segue-metrics-*"))


def test_none_is_left_when_the_parent_is_killed(gateway: Member) -> None:
    gateway.process.kill()
    wait_until(lambda: is_free(gateway.port))
    assert len(messages(gateway, "stopped")) == PROCESSES


@pytest.mark.parametrize("processes", [1, 2])
def test_a_second_server_on_the_port_is_refused(
    gateway: Member, segue: Segue, processes: int
) -> None:
    flags = (f"--port={gateway.port}", f"--processes={processes}", "--metrics-port=null")
    assert f"cannot listen on {gateway.address}" in one_line(segue("serve", "gateway", *flags))


def test_several_processes_are_refused_on_the_port_of_one(start: StartServer, segue: Segue) -> None:
    with start("gateway", *NOTHING_BEHIND) as member:
        flags = (f"--port={member.port}", "--processes=2", "--metrics-port=null")
        assert f"cannot listen on {member.address}" in one_line(segue("serve", "gateway", *flags))


def test_what_keeps_each_from_starting_is_told_once(segue: Segue, tmp_path: Path) -> None:
    flags = (f"--models={tmp_path}", "--processes=3", "--port=0", "--metrics-port=null")
    assert "segue train" in one_line(segue("serve", "recommender", *flags))


def test_metrics_of_all_come_from_one_port(start: StartServer, tmp_path: Path) -> None:
    metrics_port = Ports.free().gateway
    with start(
        "gateway", "--processes=2", f"--metrics-port={metrics_port}", *NOTHING_BEHIND
    ) as member:
        wait_until(lambda: len(messages(member, "serving")) == 2)
        calls = 0
        while len({line["process"] for line in messages(member, "rpc")}) < 2:
            call(member.address)
            calls += 1
        assert handled(metrics_port) == calls


def handled(port: int) -> float:
    """How many RPCs have been handled, by the metrics."""
    with urllib.request.urlopen(f"http://{HOST}:{port}/metrics") as response:
        families = text_string_to_metric_families(response.read().decode())
    samples = (sample for family in families for sample in family.samples)
    return sum(s.value for s in samples if s.name == "grpc_server_handled_total")
