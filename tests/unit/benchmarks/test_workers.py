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


@pytest.mark.parametrize("moment", ["before it is ready", "in a measurement"])
def test_one_that_ends_says_where_to_look(moment: str, tmp_path: Path) -> None:
    code = {
        "before it is ready": "exit('no such model')",
        "in a measurement": "print('ready', flush=True); input(); exit('no such model')",
    }
    log = tmp_path / "log"
    with (
        pytest.raises(WorkerError, match=str(log)),
        worker([sys.executable, "-c", code[moment]], log) as measure,
    ):
        measure(1)
    assert log.read_text() == "no such model\n"
