"""`segue`: train, serve, ask."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, TypeVar

import typer
from rich.console import Console

from serving.server import Service, StartError, run
from serving.settings import ServerSettings, SettingsError, read_settings

app = typer.Typer(
    help="Songs to play next, and words about them.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
serve = typer.Typer(
    help="Run one of the servers; flags and variables: --help.", no_args_is_help=True
)
data = typer.Typer(help="Playlists to train on.", no_args_is_help=True)
app.add_typer(serve, name="serve")
app.add_typer(data, name="data")

S = TypeVar("S", bound=ServerSettings)

# The settings classes know the flags, so that each is written down once.
_SETTINGS_FLAGS = {
    "allow_extra_args": True,
    "ignore_unknown_options": True,
    "help_option_names": [],
}

DataOption = Annotated[
    str,
    typer.Option(help="Folder, file or address of playlists; `starter` is built in."),
]


def fail(problem: object) -> typer.Exit:
    """Print one line to standard error; raise the result."""
    Console(stderr=True, highlight=False, soft_wrap=True).print(
        f"[bold red]error:[/] {str(problem).replace('[', chr(92) + '[')}"
    )
    return typer.Exit(1)


@app.command()
def train(
    data: DataOption = "starter",
    preset: Annotated[str, typer.Option(help="Settings: `radio` or `book`.")] = "radio",
    models: Annotated[
        Path | None, typer.Option(help="Folder of song models; SEGUE_HOME/models by default.")
    ] = None,
) -> None:
    """Train a song model on playlists and make it the one that is served."""
    from cli.training import TrainError, train_model

    try:
        train_model(data, preset, models)
    except TrainError as error:
        raise fail(error) from None


@data.command("download")
def download(
    name: Annotated[str, typer.Argument(help="Name of the data set: yes-complete.")],
    folder: Annotated[
        Path | None, typer.Option(help="Where to; SEGUE_HOME/data by default.")
    ] = None,
) -> None:
    """Fetch a public data set; run again to go on where it stopped."""
    from cli.training import TrainError, download_data

    try:
        download_data(name, folder)
    except TrainError as error:
        raise fail(error) from None


@data.command("check")
def check(
    path: Annotated[Path, typer.Argument(help="Folder or file of playlists.")],
    shown: Annotated[int, typer.Option(min=0, help="How many problems of a kind to print.")] = 5,
) -> None:
    """Say what is wrong with playlists, by file and line; exit with 1 if they cannot be used."""
    from cli.checking import check_data

    if not check_data(path, shown):
        raise typer.Exit(1)


@serve.command("recommender", context_settings=_SETTINGS_FLAGS)
def serve_recommender(context: typer.Context) -> None:
    """Serve the song model."""
    from services.recommender.service import RecommenderService
    from services.recommender.settings import RecommenderSettings

    _serve("recommender", context.args, RecommenderSettings, RecommenderService)


@serve.command("generator", context_settings=_SETTINGS_FLAGS)
def serve_generator(context: typer.Context) -> None:
    """Serve the language model."""
    from services.generator.service import GeneratorService
    from services.generator.settings import GeneratorSettings

    _serve("generator", context.args, GeneratorSettings, GeneratorService)


@serve.command("gateway", context_settings=_SETTINGS_FLAGS)
def serve_gateway(context: typer.Context) -> None:
    """Serve the one address for clients."""
    from gateway.service import GatewayService
    from gateway.settings import GatewaySettings

    _serve("gateway", context.args, GatewaySettings, GatewayService)


def _serve(
    name: str, arguments: list[str], settings: type[S], service: Callable[[S], Service]
) -> None:
    try:
        read = read_settings(settings, arguments, f"segue serve {name}")
        run(service(read), read)
    except (SettingsError, StartError) as error:
        raise fail(error) from None


@app.command()
def up(data: DataOption = "starter") -> None:
    """Run all three servers, training first if there is no song model; Ctrl-C stops them."""
    from cli.stack import StackError
    from cli.training import TrainError
    from cli.up import stay_up

    try:
        stay_up(data)
    except (StackError, TrainError) as error:
        raise fail(error) from None


@app.command()
def ask(
    query: Annotated[str, typer.Argument(help='A song, such as "fade to black metallica".')],
    gateway: Annotated[str, typer.Option(help="Address of the gateway.")] = "127.0.0.1:50050",
    limit: Annotated[int, typer.Option(help="How many songs.")] = 5,
) -> None:
    """Print songs that fit, then words about them as they come."""
    from cli.asking import AskError, ask_gateway

    try:
        ask_gateway(query, gateway, limit)
    except AskError as error:
        raise fail(error) from None


@app.command()
def health(
    address: Annotated[str, typer.Argument(help="Address of a server.")] = "127.0.0.1:50050",
) -> None:
    """Exit with 0 if a server says that it is serving."""
    from cli.stack import is_serving

    if not is_serving(address):
        raise fail(f"{address} is not serving")


@app.command()
def demo(
    data: DataOption = "starter",
    seed: Annotated[str, typer.Option(help="A song you like.")] = "fade to black metallica",
) -> None:
    """Train, serve and ask once, on ports of its own; prints how long it took."""
    from cli.asking import AskError
    from cli.demo import run_demo
    from cli.stack import StackError
    from cli.training import TrainError

    try:
        run_demo(data, seed)
    except (AskError, StackError, TrainError) as error:
        raise fail(error) from None


if __name__ == "__main__":
    app()
