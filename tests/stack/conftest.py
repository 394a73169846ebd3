"""The three servers as processes, started once for all tests that do not break them."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import grpc
import pytest
from segue.gateway.v1 import gateway_service_pb2_grpc
from segue.generator.v1 import generator_service_pb2_grpc
from segue.recommender.v1 import recommender_service_pb2_grpc

from cli.stack import Member, Ports, server, stack, wait_until_serving
from services.generator.models import EMBEDDED, LoadedModel, load
from services.recommender import artifact
from services.recommender.model import Hyperparameters
from services.recommender.starter import starter_corpus
from services.recommender.training import train


@dataclass(frozen=True, slots=True)
class Running:
    """A running stack: its members by name, and a client for each."""

    members: dict[str, Member]
    gateway: gateway_service_pb2_grpc.GatewayServiceStub
    recommender: recommender_service_pb2_grpc.RecommenderServiceStub
    generator: generator_service_pb2_grpc.GeneratorServiceStub

    def address(self, name: str) -> str:
        return self.members[name].address


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one song model, trained on the starter playlists."""
    folder = tmp_path_factory.mktemp("models")
    quick = Hyperparameters(vector_size=32, window=3, min_count=1, negative=10, epochs=5, sg=1)
    artifact.save(train(starter_corpus(), quick), folder)
    return folder


@pytest.fixture(scope="session")
def running(models: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """All three servers with the embedded language model."""
    logs = tmp_path_factory.mktemp("logs")
    with stack(Ports.free(), models, logs, metrics=False) as members:
        by_name = {member.name: member for member in members}
        channels = {name: grpc.insecure_channel(m.address) for name, m in by_name.items()}
        yield Running(
            by_name,
            gateway_service_pb2_grpc.GatewayServiceStub(channels["gateway"]),
            recommender_service_pb2_grpc.RecommenderServiceStub(channels["recommender"]),
            generator_service_pb2_grpc.GeneratorServiceStub(channels["generator"]),
        )
        for channel in channels.values():
            channel.close()


@pytest.fixture(scope="session")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the embedded language model's weights are kept."""
    home = os.environ.get("SEGUE_HOME")
    return Path(home) / "weights" if home else tmp_path_factory.mktemp("weights")


@pytest.fixture(scope="session")
def embedded(weights: Path) -> LoadedModel:
    """The embedded language model, in this process."""
    return load(EMBEDDED, cache=weights, dtype="float32")


@pytest.fixture(scope="session")
def embedded_int8(weights: Path) -> LoadedModel:
    """As it is served where nothing else is asked for."""
    return load(EMBEDDED, cache=weights)


StartServer = Callable[..., AbstractContextManager[Member]]


@pytest.fixture
def start(tmp_path: Path) -> StartServer:
    """Start one server on a free port, with flags; the block begins when it serves."""

    @contextmanager
    def start_server(name: str, *flags: str, port: int = 0) -> Iterator[Member]:
        chosen = port or Ports.free().gateway
        with server(name, chosen, tmp_path / "logs", "--metrics-port=null", *flags) as member:
            wait_until_serving(member)
            yield member

    return start_server


@pytest.fixture
def segue() -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run the `segue` command to its end."""

    def command(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "cli.main", *arguments],
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
            env=os.environ | environment,
        )

    return command
