"""The benchmark for GPUs, where there is none."""

import json
import os
import subprocess
import sys
from pathlib import Path

from benchmarks.generator_cuda import TINY


def test_runs_on_a_cpu_in_small_and_tells_of_a_gpu_that_nothing_was_measured(
    shared_data: Path,
) -> None:
    config = shared_data / "phi3_mini_4k" / "config.json"
    command = [sys.executable, "-m", "benchmarks.generator_cuda", str(config), "--tiny"]
    environment = os.environ | {"CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(command, env=environment, capture_output=True, check=True, text=True)
    *lines, last = done.stdout.splitlines()
    told = json.loads(last)
    assert "failed" not in done.stdout
    assert sum(line.endswith(" tokens/s") for line in lines) == 3 * len(TINY.streams)
    assert set(told["targets"]) <= set(told["not_measured"])
    assert all(told[name] is None for name in told["not_measured"])
    assert set(told["met"].values()) == {None}
