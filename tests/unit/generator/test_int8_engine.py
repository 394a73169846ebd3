"""The torch engine and a model in eight bits, which the embedded one is by default."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

from services.generator.engine.fused_model import FusedModel
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


@contextmanager
def fused_steps(change: Callable[[torch.Tensor], torch.Tensor]) -> Iterator[None]:
    """Change the logits of models whose steps are computed without asking them."""
    compute = FusedModel.__call__

    def changed(*given: Any) -> torch.Tensor:
        return change(compute(*given))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(FusedModel, "__call__", changed)
        yield


class TestTorchEngineInEightBits(InProcessSuite, EmbeddingSuite, LogprobsSuite, NearSuite):
    @contextmanager
    def led(self, loaded: LoadedModel, after: Callable[[], None]) -> Iterator[None]:
        def same(logits: torch.Tensor) -> torch.Tensor:
            after()
            return logits

        with super().led(loaded, after), fused_steps(same):
            yield

    @contextmanager
    def changed(
        self, loaded: LoadedModel, change: Callable[[torch.Tensor], torch.Tensor]
    ) -> Iterator[None]:
        with super().changed(loaded, change), fused_steps(change):
            yield

    def make(self, loaded: LoadedModel, *, max_waiting: int = 16, max_running: int = 8) -> Engine:
        return TorchEngine(loaded, max_waiting, limits=Limits(running=max_running))
