"""Processes that measure what has no server: each line they read is a number of streams."""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

from benchmarks.speed import Speed

Measure = Callable[[int], Speed]
"""How fast tokens come over a number of streams."""


class WorkerError(Exception):
    """A worker ended before it was told to."""


@contextmanager
def worker(command: list[str], log: Path) -> Iterator[Measure]:
    """Run a process that `answer`s, until the block ends; it begins when the process is ready.

    Raises:
        WorkerError: the process ended, before it was ready or in a measurement.
    """
    with (
        log.open("wb") as errors,
        subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True
        ) as process,
    ):
        requests, answers = process.stdin, process.stdout
        if requests is None or answers is None:
            raise AssertionError("they are pipes")

        def read() -> str:
            line = answers.readline()
            if not line:
                raise WorkerError(f"{' '.join(command)} ended early; see {log}")
            return line

        def measure(streams: int) -> Speed:
            print(streams, file=requests, flush=True)
            return Speed(**json.loads(read()))

        try:
            read()
            yield measure
        finally:
            process.kill()  # it holds nothing that it would have to put away


def answer(measure: Measure) -> None:
    """Say that the worker is ready, then measure for each line of standard input; in the worker."""
    print("ready", flush=True)
    for line in sys.stdin:
        print(json.dumps(asdict(measure(int(line)))), flush=True)
