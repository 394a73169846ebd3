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
    """Run a process that `answer`s, until the block ends.

    Raises:
        WorkerError: from the measurement, when the process has ended.
    """
    with (
        log.open("wb") as errors,
        subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True
        ) as process,
    ):
        if process.stdin is None or process.stdout is None:
            raise AssertionError
        requests, answers = process.stdin, process.stdout

        def measure(streams: int) -> Speed:
            print(streams, file=requests, flush=True)
            line = answers.readline()
            if not line:
                raise WorkerError(f"{' '.join(command)} ended early; see {log}")
            return Speed(**json.loads(line))

        try:
            yield measure
        finally:
            process.kill()  # it holds nothing that it would have to put away


def answer(measure: Measure) -> None:
    """Measure for each line of standard input, and print a line for each; in the worker."""
    for line in sys.stdin:
        print(json.dumps(asdict(measure(int(line)))), flush=True)
