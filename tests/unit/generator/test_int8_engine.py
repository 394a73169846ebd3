"""The torch engine and a model in eight bits, which the embedded one is by default."""

from pathlib import Path

import pytest

from services.generator.engine.interface import Engine
from services.generator.engine.scheduler import Limits
from services.generator.engine.torch_engine import TorchEngine
from services.generator.models import LoadedModel, load
from tests.unit.generator.embedding_suite import EmbeddingSuite
from tests.unit.generator.in_process_suite import InProcessSuite
from tests.unit.generator.logprobs_suite import LogprobsSuite
from tests.unit.generator.near_suite import NearSuite


@pytest.fixture(scope="module")
def tiny_llama(tiny_llama_int8: LoadedModel) -> LoadedModel:
    """Takes the place of the one in float32 in the suites."""
    return tiny_llama_int8


@pytest.fixture(scope="module")
def tiny_phi3(tiny_phi3: LoadedModel) -> LoadedModel:
    """Takes the place of the one in float32 in the suites."""
    return load(tiny_phi3.model.name_or_path, cache=Path(), dtype="int8")


class TestTorchEngineInEightBits(InProcessSuite, EmbeddingSuite, LogprobsSuite, NearSuite):
    def make(self, loaded: LoadedModel, *, max_waiting: int = 16, max_running: int = 8) -> Engine:
        return TorchEngine(loaded, max_waiting, limits=Limits(running=max_running))
