"""Which steps are launched as graphs; test_cuda.py tests what those compute."""

import pytest
import torch

pytest.importorskip("triton")

from services.generator.engine.decode_graphs import can_be_captured, ladder
from services.generator.models import LoadedModel


@pytest.mark.parametrize("most", [1, 2, 3, 5, 8, 12, 32, 128])
def test_the_ladder_ends_with_the_most_that_run_and_has_no_step_twice(most: int) -> None:
    sizes = ladder(most)
    assert sizes == sorted(set(sizes))
    assert (sizes[0], sizes[-1]) == (1, most)


def test_the_ladder_doubles_for_few_texts_and_goes_by_eights_for_many() -> None:
    assert ladder(32) == [1, 2, 4, 8, 16, 24, 32]


@pytest.mark.skipif(torch.cuda.is_available(), reason="tests what is not on a GPU")
def test_a_model_that_is_not_on_a_gpu_is_not_captured(tiny_llama: LoadedModel) -> None:
    assert not can_be_captured(tiny_llama.model)
