"""How fast texts grow, next to other engines and to what the model's linear layers allow.

    python -m benchmarks.generator [--alone] [--rounds 5] [--seconds 4] [--plot FILE]

All of it is measured in one run, by turns, with the embedded model. The servers run with their
default settings and are asked over gRPC; those whose turn it is not are stopped. llama.cpp is
measured in its own process without a server, which is to its advantage. Of vLLM's two types the
faster counts. The last line is JSON.
"""

import asyncio
import os
import signal
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Annotated

import typer
import uvloop
from rich.console import Console

from benchmarks import generator_report as report
from benchmarks import streams
from benchmarks.speed import Speed
from benchmarks.workers import Measure, WorkerError, worker
from cli.main import fail
from cli.stack import Member, Ports, StackError, server, wait_until_serving
from services.generator.models import EMBEDDED, ModelSourceError, embedded_file
from serving.settings import HomeSettings

STREAMS = (1, 8, 32)
GAP_STREAMS = 8
PROMPT_TOKENS, PROMPTS, PAUSE_S = 2000, 10, 2.0

_HERE = sys.executable
_VLLM, _LLAMA = ".venv-vllm/bin/python", ".venv-llama/bin/python"

# The interpreter of each one's environment, and the server's flags.
_SERVERS = {
    report.SEGUE: (_HERE, ("--engine=torch",)),
    "reference": (_HERE, ("--engine=reference", f"--max-waiting={max(STREAMS)}")),
    "vllm float32": (_VLLM, ("--engine=vllm", "--dtype=float32")),
    "vllm bfloat16": (_VLLM, ("--engine=vllm", "--dtype=bfloat16")),
}


class MissingPeerError(Exception):
    """The environment of another engine is not there; the message says how to make it."""

    def __init__(self, python: str) -> None:
        target = f"{Path(python).parts[0]}/ready"
        super().__init__(f"there is no {python}; run `make {target}`, or give --alone")


@contextmanager
def serving(name: str, logs: Path) -> Iterator[Member]:
    """One of the generators, until the block ends; it sleeps but where it is `awake`."""
    python, flags = _SERVERS[name]
    shared = (f"--model={EMBEDDED}", "--metrics-port=null")
    port = Ports.free().generator
    with server("generator", port, logs, *shared, *flags, python=python) as member:
        wait_until_serving(member)
        _signal(member, signal.SIGSTOP)
        try:
            yield member
        finally:
            _signal(member, signal.SIGCONT)


@contextmanager
def awake(member: Member) -> Iterator[str]:
    """Let a server run, at the address given, until the block ends.

    What has nothing to do may still take time from what is measured: a vLLM that waits for requests
    takes a fifth of a core.
    """
    _signal(member, signal.SIGCONT)
    try:
        yield member.address
    finally:
        _signal(member, signal.SIGSTOP)


def _signal(member: Member, number: signal.Signals) -> None:
    """Send a signal to a server and to all processes that it has started."""
    os.killpg(member.process.pid, number)


def workers(alone: bool, seconds: float) -> dict[str, list[str]]:
    """The commands of what is measured without a server."""
    linear = [_HERE, "-m", "benchmarks.linear_layers", EMBEDDED, str(seconds)]
    if alone:
        return {report.LINEAR: linear}
    llama = [_LLAMA, "-m", "benchmarks.llama_cpp", str(embedded_file()), str(seconds)]
    return {"llama_cpp": llama, report.LINEAR: linear}


def by_turns(measures: Mapping[str, Measure], rounds: int, console: Console) -> report.Speeds:
    """Measure each at each number of streams; medians over the rounds.

    What is compared is measured one right after the other, since a machine that is shared is not
    equally fast from one minute to the next.
    """
    found: dict[str, dict[int, list[Speed]]] = {
        name: {count: [] for count in STREAMS} for name in measures
    }
    for number in range(1, rounds + 1):
        for count in STREAMS:
            console.print(f"round {number} of {rounds}, {count} streams")
            for name, measure in measures.items():
                found[name][count].append(measure(count))
    return {
        name: {count: Speed.typical(speeds) for count, speeds in mine.items()}
        for name, mine in found.items()
    }


def measure(
    alone: bool, rounds: int, seconds: float, logs: Path, console: Console
) -> report.Findings:
    """Run everything, and measure it.

    Raises:
        LoadError, ModelSourceError, StackError, WorkerError: something did not do its part.
    """
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner, ExitStack() as running:
        members: dict[str, Member] = {}
        for name in (report.SEGUE,) if alone else _SERVERS:
            console.print(f"starting {name}")
            members[name] = running.enter_context(serving(name, logs))

        def over_grpc(name: str, count: int) -> Speed:
            with awake(members[name]) as address:
                return runner.run(streams.measure(address, count, seconds))

        measures: dict[str, Measure] = {name: partial(over_grpc, name) for name in members}
        for name, command in workers(alone, seconds).items():
            measures[name] = running.enter_context(worker(command, logs / f"{name}.log"))
        speeds = by_turns(measures, rounds, console)
        console.print(f"{PROMPTS} prompts of {PROMPT_TOKENS:,} tokens, {GAP_STREAMS} streams")
        with awake(members[report.SEGUE]) as address:
            without, during = runner.run(
                streams.measure_gaps(
                    address,
                    GAP_STREAMS,
                    prompt_tokens=PROMPT_TOKENS,
                    prompts=PROMPTS,
                    pause_s=PAUSE_S,
                )
            )
    return report.Findings(speeds, without, during)


def main(
    alone: Annotated[bool, typer.Option("--alone", help="Measure no other engine.")] = False,
    rounds: Annotated[int, typer.Option(min=1, help="How often each is measured.")] = 5,
    seconds: Annotated[float, typer.Option(min=0.1, help="How long each time.")] = 4.0,
    plot: Annotated[
        Path | None, typer.Option(help="The page to write; SEGUE_HOME/generator.html by default.")
    ] = None,
) -> None:
    """Measure, write a page with plots, and print tables and a line of JSON."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # or the servers would live on
    console = Console(highlight=False, soft_wrap=True)
    home = HomeSettings().home
    page = plot or home / "generator.html"
    page.parent.mkdir(parents=True, exist_ok=True)
    try:
        if not alone:
            for python in (_VLLM, _LLAMA):
                if not Path(python).is_file():
                    raise MissingPeerError(python)
        found = measure(alone, rounds, seconds, home / "logs", console)
    except (
        MissingPeerError,
        ModelSourceError,
        StackError,
        WorkerError,
        streams.LoadError,
    ) as error:
        raise fail(error) from None
    found.draw().write_html(page)
    for line in (*found.tables(), f"plots: {page}", found.to_json()):
        console.print(line)


if __name__ == "__main__":
    typer.run(main)
