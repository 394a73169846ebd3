"""The torch engine and a model in bfloat16.

Its rounding is so coarse that a product's shape, and so who runs beside a text, changes tokens.
"""

from pathlib import Path

import pytest

from services.generator.models import LoadedModel, load
from tests.unit.generator.near_suite import NearSuite


@pytest.fixture(scope="module")
def tiny_llama(tiny_llama: LoadedModel) -> LoadedModel:
    """Takes the place of the one in float32 in the suite."""
    return load(tiny_llama.model.name_or_path, cache=Path(), dtype="bfloat16")


class TestTorchEngineInBfloat16(NearSuite):
    pass
