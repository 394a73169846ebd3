"""The contract: its generated code is fresh, its copies are true, its layers hold."""

import ast
import filecmp
from importlib import resources
from pathlib import Path

import pytest
from google.protobuf.descriptor import Descriptor
from segue.gateway.v1 import gateway_service_pb2 as gateway
from segue.generator.v1 import generator_service_pb2 as generator
from segue.recommender.v1 import recommender_service_pb2 as recommender

from protos.generate import generate
from tests.conftest import REPOSITORY


def files_below(folder: Path) -> set[Path]:
    return {
        file.relative_to(folder)
        for file in folder.rglob("*")
        if file.is_file() and "__pycache__" not in file.parts
    }


def test_generated_code_is_what_the_protos_give_now(tmp_path: Path) -> None:
    fresh, committed = tmp_path / "gen", REPOSITORY / "gen"
    generate(fresh)
    names = files_below(fresh)
    assert names == files_below(committed), "run `make proto`"
    _, changed, broken = filecmp.cmpfiles(fresh, committed, map(str, names), shallow=False)
    assert not changed, "run `make proto`"
    assert not broken


def test_the_copied_google_protos_are_those_of_the_package() -> None:
    copies = sorted((REPOSITORY / "protos" / "google").rglob("*.proto"))
    assert copies
    for copy in copies:
        original = resources.files("google.rpc") / copy.name
        assert copy.read_text() == original.read_text()


def shape(descriptor: Descriptor) -> dict[str, tuple[int, int, bool, str | None, str | None]]:
    return {
        field.name: (
            field.number,
            field.type,
            field.is_repeated,
            field.message_type.full_name if field.message_type else None,
            field.containing_oneof.name if field.containing_oneof else None,
        )
        for field in descriptor.fields
    }


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (gateway.SearchSongsRequest, recommender.SearchSongsRequest),
        (gateway.SearchSongsResponse, recommender.SearchSongsResponse),
        (gateway.RecommendSongsRequest, recommender.RecommendSongsRequest),
        (gateway.RecommendSongsResponse, recommender.RecommendSongsResponse),
        (gateway.GenerateStreamRequest, generator.GenerateStreamRequest),
        (gateway.GenerateStreamResponse, generator.GenerateStreamResponse),
        (generator.GenerateRequest, generator.GenerateStreamRequest),
    ],
    ids=lambda message: message.DESCRIPTOR.full_name,
)
def test_messages_that_pass_through_have_the_same_fields(one: type, other: type) -> None:
    assert shape(one.DESCRIPTOR) == shape(other.DESCRIPTOR)  # type: ignore[attr-defined]


RPC_LAYER = {
    *("answers.py", "messages.py", "plain_batch.py", "requests.py", "service.py", "settings.py"),
    "wire.py",
}
FORBIDDEN = {
    "serving": {"services", "gateway", "cli", "segue"},
    "gateway": {"services", "cli"},
    "services/recommender": {"gateway", "cli", "services.generator"},
    "services/generator": {"gateway", "cli", "services.recommender"},
}


def imports_of(file: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
    return found


def imports_any(file: Path, packages: set[str]) -> set[str]:
    return {
        name
        for name in imports_of(file)
        if any(name == package or name.startswith(package + ".") for package in packages)
    }


@pytest.mark.parametrize("folder", FORBIDDEN)
def test_imports_point_one_way(folder: str) -> None:
    for file in (REPOSITORY / folder).rglob("*.py"):
        assert not imports_any(file, FORBIDDEN[folder]), file


def test_domain_code_knows_no_grpc() -> None:
    for file in (REPOSITORY / "services").rglob("*.py"):
        if file.name not in RPC_LAYER:
            assert not imports_any(file, {"grpc", "segue", "serving", "google"}), file


def test_the_environment_is_read_by_settings_alone() -> None:
    for folder in ("serving", "services", "gateway"):
        for file in (REPOSITORY / folder).rglob("*.py"):
            # The environment of libraries is written there, and read by none.
            if file.name not in {"environment.py", "vllm_engine.py"}:
                assert "os.environ" not in file.read_text(), file
