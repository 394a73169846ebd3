"""The whole path once: train, serve, ask."""

from rich.console import Console

from cli.asking import AskError, ask_gateway
from cli.stack import HOST, Ports, stack
from cli.training import train_model
from serving.settings import HomeSettings


def run_demo(data: str, seed: str) -> None:
    """Train on `data`, start the servers on free ports, ask, and stop them.

    Its last line tells how many songs and tokens came, and how fast the first of each.
    """
    home = HomeSettings().home / "demo"
    console = Console(highlight=False, soft_wrap=True)
    train_model(data, "radio", home / "models")
    console.print("starting the servers; the first time, the language model is prepared")
    ports = Ports.free()
    with stack(ports, home / "models", home / "logs", metrics=False):
        answer = ask_gateway(seed, f"{HOST}:{ports.gateway}", limit=5)
    if not answer.songs or not answer.tokens:
        raise AskError(f"the answer is incomplete: {answer}")
    console.print(
        f"demo ok: songs={answer.songs} tokens={answer.tokens} "
        f"first_songs_ms={answer.first_songs_ms} first_token_ms={answer.first_token_ms}"
    )
