"""Tiny models, loaded through the same code as real ones."""

from collections.abc import Iterator
from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from services.generator.models import LoadedModel, load
from tests.tiny_models import save_tiny_llama, save_tiny_phi3

WINDOW = 20


@pytest.fixture(scope="package", autouse=True)
def one_thread() -> Iterator[None]:
    """Let no step wait for a second thread.

    Models this small gain nothing from one, and once both `generate` here and an engine's thread
    have workers of OpenMP, those of each keep the other's waiting.
    """
    usual = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(usual)


@pytest.fixture(scope="session")
def tiny_llama(tmp_path_factory: pytest.TempPathFactory) -> LoadedModel:
    folder = save_tiny_llama(tmp_path_factory.mktemp("models") / "tiny-llama")
    return load(str(folder), cache=folder.parent)


@pytest.fixture(scope="session")
def tiny_llama_int8(tmp_path_factory: pytest.TempPathFactory) -> LoadedModel:
    folder = save_tiny_llama(tmp_path_factory.mktemp("models") / "tiny-llama")
    return load(str(folder), cache=folder.parent, dtype="int8")


@pytest.fixture(scope="session")
def tiny_phi3(tmp_path_factory: pytest.TempPathFactory, shared_data: Path) -> LoadedModel:
    folder = tmp_path_factory.mktemp("models") / "tiny-phi3"
    save_tiny_phi3(folder, shared_data / "phi3_mini_4k")
    return load(str(folder), cache=folder.parent)


@pytest.fixture(scope="session")
def windowed_phi3(tiny_phi3: LoadedModel) -> LoadedModel:
    """The tiny Phi-3 with a sliding window that is shorter than its texts."""
    model = deepcopy(tiny_phi3.model)
    model.config.sliding_window = WINDOW
    return replace(tiny_phi3, model=model)
