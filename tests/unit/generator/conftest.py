"""Tiny models, loaded through the same code as real ones."""

from pathlib import Path

import pytest

from services.generator.models import LoadedModel, load
from tests.tiny_models import save_tiny_llama, save_tiny_phi3

pytest.register_assert_rewrite("tests.unit.generator.engine_suite")
pytest.register_assert_rewrite("tests.unit.generator.embedding_suite")
pytest.register_assert_rewrite("tests.unit.generator.logprobs_suite")


@pytest.fixture(scope="session")
def tiny_llama(tmp_path_factory: pytest.TempPathFactory) -> LoadedModel:
    folder = save_tiny_llama(tmp_path_factory.mktemp("models") / "tiny-llama")
    return load(str(folder), cache=folder.parent)


@pytest.fixture(scope="session")
def tiny_phi3(tmp_path_factory: pytest.TempPathFactory, shared_data: Path) -> LoadedModel:
    folder = tmp_path_factory.mktemp("models") / "tiny-phi3"
    save_tiny_phi3(folder, shared_data / "phi3_mini_4k")
    return load(str(folder), cache=folder.parent)
