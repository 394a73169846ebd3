"""What `buf curl` and health probes see, with nothing but an address."""

import json
import subprocess
import sys
import urllib.request
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2

from cli.stack import HOST, Ports, server, wait_until_serving
from tests.stack.conftest import Running

SERVICES = {
    "gateway": "segue.gateway.v1.GatewayService",
    "recommender": "segue.recommender.v1.RecommenderService",
    "generator": "segue.generator.v1.GeneratorService",
}
BUF = Path(sys.executable).parent / "buf"


def buf_curl(url: str, *arguments: str) -> str:
    done = subprocess.run(
        [BUF, "curl", "--protocol", "grpc", "--http2-prior-knowledge", *arguments, url],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("name", SERVICES)
def test_buf_curl_lists_the_service_and_its_methods(running: Running, name: str) -> None:
    listed = buf_curl(f"http://{running.address(name)}", "--list-methods")
    assert f"{SERVICES[name]}/" in listed
    assert "grpc.health.v1.Health/Check" in listed


@pytest.mark.parametrize(
    ("name", "method", "request_json", "expected"),
    [
        ("gateway", "SearchSongs", '{"query": "fade to black"}', "metallica-fade-to-black"),
        ("recommender", "GetModel", "{}", "starter"),
        ("generator", "GetModel", "{}", "SmolLM2"),
    ],
)
def test_buf_curl_calls_every_service(
    running: Running, name: str, method: str, request_json: str, expected: str
) -> None:
    url = f"http://{running.address(name)}/{SERVICES[name]}/{method}"
    answer = buf_curl(url, "-d", request_json)
    assert expected in json.dumps(json.loads(answer))


@pytest.mark.parametrize("name", SERVICES)
def test_health_answers_for_the_server_and_for_its_service(running: Running, name: str) -> None:
    with grpc.insecure_channel(running.address(name)) as channel:
        check = channel.unary_unary(
            "/grpc.health.v1.Health/Check",
            request_serializer=health_pb2.HealthCheckRequest.SerializeToString,
            response_deserializer=health_pb2.HealthCheckResponse.FromString,
        )
        for service in ("", SERVICES[name]):
            answer = check(health_pb2.HealthCheckRequest(service=service), timeout=5)
            assert answer.status == health_pb2.HealthCheckResponse.SERVING
        with pytest.raises(grpc.RpcError) as caught:
            check(health_pb2.HealthCheckRequest(service="no.such.Service"), timeout=5)
        assert caught.value.code() is grpc.StatusCode.NOT_FOUND


def test_metrics_count_calls_by_method_and_code(models: Path, tmp_path: Path) -> None:
    ports = Ports.free()
    flags = (f"--models={models}", f"--metrics-port={ports.gateway}")
    with server("recommender", ports.recommender, tmp_path, *flags) as member:
        wait_until_serving(member)
        url = f"http://{member.address}/{SERVICES['recommender']}/GetModel"
        buf_curl(url, "-d", "{}")
        with urllib.request.urlopen(f"http://{HOST}:{ports.gateway}/metrics", timeout=5) as page:
            text = page.read().decode()
    labels = f'grpc_code="OK",grpc_method="GetModel",grpc_service="{SERVICES["recommender"]}"'
    assert f"grpc_server_handled_total{{{labels}}} 1.0" in text
