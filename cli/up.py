"""Run the whole of Segue on this machine until Ctrl-C."""

import signal
from types import FrameType

from rich.console import Console

from cli.stack import HOST, Ports, stack
from cli.training import STARTER, train_model
from serving.settings import HomeSettings


def stay_up(data: str) -> None:
    """Train if there is no song model or other data were named, serve, print the addresses."""
    home = HomeSettings().home
    console = Console(highlight=False, soft_wrap=True)
    if data != STARTER or not (home / "models" / "current").exists():
        train_model(data, "radio", home / "models")
    signal.signal(signal.SIGTERM, _interrupt)
    console.print("starting the servers; the first time, the language model is prepared")
    ports = Ports()
    try:
        with stack(ports, home / "models", home / "logs", metrics=True) as members:
            for member in reversed(members):
                console.print(f"{member.name:<12}{member.address}")
            console.print(f"metrics     http://{HOST}:9050/metrics, :9051, :9052")
            console.print(f"logs        {home / 'logs'}")
            console.print('try: segue ask "fade to black metallica" (Ctrl-C ends all)')
            signal.pause()
    except KeyboardInterrupt:
        console.print("stopped")


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt
