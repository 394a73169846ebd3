"""All three servers as processes of this machine."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from cli.health import ask_health

HOST = "127.0.0.1"

# The embedded model is converted once, which takes half a minute on a slow machine; a hub's model
# may take far longer to come.
START_TIMEOUT_S = 600.0
STOP_TIMEOUT_S = 35.0


class StackError(Exception):
    """A server did not start; the message holds its last words."""


@dataclass(frozen=True, slots=True)
class Ports:
    """Where the servers listen."""

    gateway: int = 50050
    recommender: int = 50051
    generator: int = 50052

    @classmethod
    def free(cls) -> "Ports":
        """Pick ports that nobody uses now."""
        with ExitStack() as sockets:
            taken = [sockets.enter_context(socket.create_server((HOST, 0))) for _ in range(3)]
            return cls(*(server.getsockname()[1] for server in taken))


@dataclass(frozen=True, slots=True)
class Member:
    """One running server."""

    name: str
    port: int
    process: subprocess.Popen[bytes]
    log: Path

    @property
    def address(self) -> str:
        """Where it listens."""
        return f"{HOST}:{self.port}"


@contextmanager
def stack(ports: Ports, models: Path, logs: Path, *, metrics: bool) -> Iterator[list[Member]]:
    """Run the three servers, each until the block ends.

    Args:
        ports: Where they listen.
        models: Folder of song models.
        logs: Folder for their logs.
        metrics: Serve metrics on the default ports.

    Raises:
        StackError: one of them did not start.
    """
    backends = (
        f"--recommender={HOST}:{ports.recommender}",
        f"--generator={HOST}:{ports.generator}",
    )
    shared = () if metrics else ("--metrics-port=null",)
    with ExitStack() as running:
        members = [
            running.enter_context(server(name, port, logs, *shared, *flags))
            for name, port, flags in (
                ("generator", ports.generator, ()),
                ("recommender", ports.recommender, (f"--models={models}",)),
                ("gateway", ports.gateway, backends),
            )
        ]
        for member in members:
            wait_until_serving(member)
        yield members


@contextmanager
def server(
    name: str, port: int, logs: Path, *flags: str, python: str = sys.executable
) -> Iterator[Member]:
    """Run one server until the block ends; `wait_until_serving` says when it is ready.

    Args:
        name: Which one.
        port: Where it listens.
        logs: Folder for its log.
        flags: Its settings.
        python: The interpreter of the environment in which it runs.
    """
    logs.mkdir(parents=True, exist_ok=True)
    log = logs / f"{name}-{port}.log"
    command = [python, "-m", "cli.main", "serve", name, f"--port={port}", *flags]
    with log.open("wb") as output:
        # A process group of its own keeps Ctrl-C from it, so that it is stopped in order.
        process = subprocess.Popen(
            command, stdout=output, stderr=output, env=os.environ, start_new_session=True
        )
    try:
        yield Member(name, port, process, log)
    finally:
        _stop(process)


def wait_until_serving(member: Member, timeout_s: float = START_TIMEOUT_S) -> None:
    """Wait until a server's health is SERVING.

    Raises:
        StackError: it ended, or the time is over.
    """
    deadline = time.monotonic() + timeout_s
    while not ask_health(member.address).serving:
        if member.process.poll() is not None:
            raise StackError(f"the {member.name} did not start: {_last_words(member.log)}")
        if time.monotonic() > deadline:
            problem = f"the {member.name} was not ready after {timeout_s:.0f} s"
            raise StackError(f"{problem}; see {member.log}")
        time.sleep(0.1)


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(STOP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _last_words(log: Path) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    return lines[-1] if lines else f"it said nothing; see {log}"
