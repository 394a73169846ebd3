"""Compiled loops where the CPU, or torch, is another than here."""

import os
import subprocess
import sys
from pathlib import Path

LOOPS = Path(__file__).parents[1] / "unit" / "generator"

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


def test_vectors_and_products_hold_on_a_cpu_with_nothing_but_what_all_have(tmp_path: Path) -> None:
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(sys.path),
        "NUMBA_CPU_NAME": "generic",
        "NUMBA_CACHE_DIR": str(tmp_path),
    }
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    files = [LOOPS / "test_simd.py", LOOPS / "test_product.py"]
    done = subprocess.run([*command, *files], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
