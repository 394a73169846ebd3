"""Compiled loops on torch's threads, and on one where those are not to be had."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from services.generator.openmp import one_thread

# A loop on the threads of a torch that comes without OpenMP.
_WITHOUT = """
import ctypes
from pathlib import Path
Path.glob = lambda *_: iter(())
from services.generator.openmp import barrier, carray, library, parallel, run
from services.generator.openmp import thread_count, thread_number

assert library() is None

class Call(ctypes.Structure):
    _fields_ = (("sum", ctypes.c_int64),)

@parallel(Call)
def add(calls):
    for number in range(thread_number(), 10, thread_count()):
        carray(calls, 1)[0].sum += number
    barrier()

call = Call()
run(add, call, 4)
print(call.sum)
"""


def test_loops_run_in_one_thread_where_torch_is_built_with_another_openmp(tmp_path: Path) -> None:
    script = tmp_path / "script.py"  # a file, next to which what is compiled is kept
    script.write_text(_WITHOUT)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, script], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout == "45\n"


def test_one_thread_lets_torch_have_its_threads_again_whatever_happens() -> None:
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with pytest.raises(ZeroDivisionError), one_thread():
            1 / (torch.get_num_threads() - 1)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(threads)
