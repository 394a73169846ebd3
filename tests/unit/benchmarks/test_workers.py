"""Processes that measure."""

import sys
from pathlib import Path

import pytest

from benchmarks.speed import Speed
from benchmarks.workers import WorkerError, worker

TWICE_AS_MANY = """
from benchmarks.speed import Speed
from benchmarks.workers import answer
answer(lambda streams: Speed(2.0 * streams, gap_p99_ms=7))
"""


def test_it_answers_for_each_number_of_streams(tmp_path: Path) -> None:
    with worker([sys.executable, "-c", TWICE_AS_MANY], tmp_path / "log") as measure:
        assert measure(1) == Speed(2.0, gap_p99_ms=7)
        assert measure(8) == Speed(16.0, gap_p99_ms=7)


def test_one_that_ends_says_where_to_look(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with worker([sys.executable, "-c", "raise SystemExit('no such model')"], log) as measure:
        with pytest.raises(WorkerError, match=str(log)):
            measure(1)
        assert log.read_text() == "no such model\n"
