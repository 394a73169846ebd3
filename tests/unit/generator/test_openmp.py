"""Torch's threads, and doing without them for a while."""

import pytest
import torch

from services.generator.openmp import one_thread


def test_one_thread_lets_torch_have_its_threads_again_whatever_happens() -> None:
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with pytest.raises(ZeroDivisionError), one_thread():
            1 / (torch.get_num_threads() - 1)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(threads)
