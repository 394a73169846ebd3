"""Processes that do the same work side by side: forked, watched, restarted, stopped."""

import logging
import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkProcess

from prometheus_client import multiprocess as metrics_of_processes

from serving.service import StartError

_log = logging.getLogger("segue.processes")

_fork = multiprocessing.get_context("fork")

_SIGNALS = (signal.SIGTERM, signal.SIGINT)

_FIRST_DELAY_S = 0.5
_LONGEST_DELAY_S = 30.0

_STEADY_S = 60.0
"""A process that ran this long is restarted as if it were the first time."""

_HANGING_S = 5.0
"""A process that is there this long after its grace is killed."""


@dataclass(frozen=True, slots=True)
class Parent:
    """What a worker knows of the process that forked it.

    Attributes:
        worker: Number of the worker, from 0; one that is restarted keeps it.
        lifeline: File descriptor that becomes readable when the parent has ended.
        reports: Where `tell_started` and `tell_failed` go.
    """

    worker: int
    lifeline: int
    reports: "Connection[str, str]"

    def tell_started(self) -> None:
        """Say that the work has begun."""
        self.reports.send("")

    def tell_failed(self, problem: str) -> None:
        """Say why the work cannot begin."""
        self.reports.send(problem)


Work = Callable[[Parent], None]


class Workers:
    """Forks workers, keeps them running until SIGTERM or SIGINT, and ends them all.

    The parent does nothing else: with one thread, and nothing of gRPC begun, it may fork at any
    time, and workers share the memory of all that was imported before.

    Args:
        count: How many.
        work: What each does. It ends at SIGTERM, and when the parent's lifeline becomes readable.
        grace_s: How long a worker may take to end.
    """

    def __init__(self, count: int, work: Work, grace_s: float) -> None:
        self._workers = [_Worker(number, work) for number in range(count)]
        self._grace_s = grace_s
        self._signals, self._signalled = os.pipe()
        self._lifeline, self._alive = os.pipe()
        self._stopping = False

    def run(self) -> None:
        """Run until told to stop.

        Raises:
            StartError: a worker cannot begin its work; none is left running.
        """
        for number in _SIGNALS:
            signal.signal(number, self._stop_soon)
        try:
            for worker in self._workers:
                self._start(worker)
            while not (self._stopping or all(worker.started for worker in self._workers)):
                for worker in self._heard(None):
                    if worker.process is None:
                        raise StartError(worker.problem)
            while not self._stopping:
                self._tend()
        finally:
            self._stop()

    def _tend(self) -> None:
        """Wait until something happens; restart what ended and has waited long enough."""
        ended = [worker for worker in self._workers if worker.process is None]
        due = min((worker.restart_at for worker in ended), default=None)
        for worker in self._heard(None if due is None else max(0.0, due - time.monotonic())):
            if worker.process is None:
                fields = {"worker": worker.number, "restart_s": worker.delay_s}
                _log.error(worker.problem, extra=fields)
        for worker in ended:
            if worker.restart_at <= time.monotonic() and not self._stopping:
                self._start(worker)

    def _heard(self, timeout_s: float | None) -> list["_Worker"]:
        """The workers that said something or ended, as soon as there is one, or a signal."""
        speakers = {worker.reports: worker for worker in self._workers if worker.process}
        ready = wait([self._signals, *speakers], timeout_s)
        heard = [worker for reports, worker in speakers.items() if reports in ready]
        for worker in heard:
            worker.hear()
        return heard

    def _start(self, worker: "_Worker") -> None:
        worker.start(self._lifeline, self._alive)

    def _stop_soon(self, number: int, frame: object) -> None:
        self._stopping = True
        os.write(self._signalled, b".")

    def _stop(self) -> None:
        running = [worker.process for worker in self._workers if worker.process]
        for process in running:
            process.terminate()
        deadline = time.monotonic() + self._grace_s + _HANGING_S
        for process in running:
            process.join(max(0.0, deadline - time.monotonic()))
            if process.exitcode is None:
                _log.error("a process hangs and is killed", extra={"process": process.pid})
                process.kill()
                process.join()
        for number in _SIGNALS:
            signal.signal(number, signal.SIG_DFL)
        for descriptor in (self._signals, self._signalled, self._lifeline, self._alive):
            os.close(descriptor)


class _Worker:
    """A worker's place, and the process that fills it.

    Attributes:
        number: Which place.
        process: The process; None after it ended.
        reports: What the process says, and the end of it.
        started: Whether the process has begun its work.
        problem: Why the last process ended.
        delay_s: How long the next one is to wait.
        restart_at: When it is due, on the monotonic clock.
    """

    def __init__(self, number: int, work: Work) -> None:
        self._work = work
        self._born = 0.0
        self.number = number
        self.process: ForkProcess | None = None
        self.reports: Connection[str, str]
        self.started = False
        self.problem = ""
        self.delay_s = 0.0
        self.restart_at = 0.0

    def start(self, lifeline: int, alive: int) -> None:
        """Fork; `alive` is the end of the lifeline that only the parent may hold."""
        self.reports, reporting = _fork.Pipe(duplex=False)
        parent = Parent(self.number, lifeline, reporting)

        def run() -> None:
            os.close(alive)
            for number in _SIGNALS:
                signal.signal(number, signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
            self._work(parent)

        self._born = time.monotonic()
        self.started, self.problem = False, ""
        self.process = _fork.Process(target=run, name=f"worker-{self.number}")
        with _signals_held_back():
            self.process.start()
        reporting.close()

    def hear(self) -> None:
        """Take what the process said, or notice that it ended."""
        try:
            self.problem = self.reports.recv()
            self.started = not self.problem
        except EOFError:
            self._bury()

    def _bury(self) -> None:
        process, self.process = self.process, None
        if process is None:
            return
        process.join()
        self.reports.close()
        metrics_of_processes.mark_process_dead(process.pid)  # type: ignore[no-untyped-call]
        lived_s = time.monotonic() - self._born
        doubled = _FIRST_DELAY_S if lived_s > _STEADY_S else 2 * self.delay_s
        self.delay_s = min(max(_FIRST_DELAY_S, doubled), _LONGEST_DELAY_S)
        self.restart_at = time.monotonic() + self.delay_s
        self.problem = self.problem or _how_it_ended(process.exitcode or 0)


def _how_it_ended(exit_code: int) -> str:
    if exit_code < 0:
        return f"a process was ended by {signal.Signals(-exit_code).name}"
    return f"a process ended with exit code {exit_code}; the log tells why"


@contextmanager
def _signals_held_back() -> Iterator[None]:
    """Let no signal come between a fork and the child's own handlers."""
    signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
