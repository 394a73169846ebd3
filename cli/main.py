"""`segue`: train, serve, ask."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, TypeVar

import typer
from rich.console import Console

from serving.settings import ServerSettings, SettingsError, read_settings

if TYPE_CHECKING:
    from serving.service import Service

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
models = typer.Typer(help="Versions of the song model.", no_args_is_help=True)
app.add_typer(serve, name="serve")
app.add_typer(data, name="data")
app.add_typer(models, name="models")

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

ModelsOption = Annotated[
    Path | None, typer.Option(help="Folder of song models; SEGUE_HOME/models by default.")
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
    models: ModelsOption = None,
    tune: Annotated[
        bool, typer.Option("--tune", help="Search for better settings first, by validation.")
    ] = False,
    budget: Annotated[float, typer.Option(min=0, help="Minutes that --tune may take.")] = 10,
    evaluate: Annotated[
        bool, typer.Option("--evaluate", help="Measure the settings, too; the model keeps figures.")
    ] = False,
) -> None:
    """Train a song model on playlists and make it the one that is served."""
    from cli.training import TrainError, train_model

    try:
        minutes = budget if tune else None
        train_model(data, preset, models, tune_minutes=minutes, measured=evaluate)
    except TrainError as error:
        raise fail(error) from None


@app.command()
def evaluate(
    data: DataOption = "starter",
    preset: Annotated[str, typer.Option(help="Settings: `radio` or `book`.")] = "radio",
    part: Annotated[
        Literal["test", "validation"], typer.Option(help="Which playlists are held out.")
    ] = "test",
    output: Annotated[
        Literal["table", "json"], typer.Option("--format", help="How the figures are printed.")
    ] = "table",
    report: Annotated[
        Path | None, typer.Option(help="Write an HTML page with plots here, too.")
    ] = None,
) -> None:
    """Measure the song model and baselines on playlists that training does not see."""
    from cli.extras import MissingExtraError, require_evaluation

    try:
        require_evaluation()
    except MissingExtraError as error:
        raise fail(error) from None

    from cli.evaluation import EvaluateError, evaluate_model
    from services.recommender.evaluation.split import Part

    try:
        evaluate_model(data, preset, Part(part), output, report)
    except EvaluateError as error:
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


@models.command("list")
def list_models(models: ModelsOption = None) -> None:
    """Show which versions there are and which one is current."""
    from cli.models import show_versions
    from services.recommender.versions import ArtifactError

    try:
        show_versions(models)
    except ArtifactError as error:
        raise fail(error) from None


@models.command()
def activate(
    version: Annotated[str, typer.Argument(help="Name of a version; see `segue models list`.")],
    models: ModelsOption = None,
) -> None:
    """Check a version and make it current; running servers change to it."""
    from cli.models import activate_version
    from services.recommender.versions import ArtifactError

    try:
        activate_version(version, models)
    except ArtifactError as error:
        raise fail(error) from None


@models.command()
def rollback(models: ModelsOption = None) -> None:
    """Go back to the version that was current before; again for the one before that."""
    from cli.models import roll_back
    from services.recommender.versions import ArtifactError

    try:
        roll_back(models)
    except ArtifactError as error:
        raise fail(error) from None


@serve.command("recommender", context_settings=_SETTINGS_FLAGS)
def serve_recommender(context: typer.Context) -> None:
    """Serve the song model."""
    from services.recommender.settings import RecommenderSettings

    def service() -> "Callable[[RecommenderSettings], Service]":
        from services.recommender.service import RecommenderService

        return RecommenderService

    _serve("recommender", context.args, RecommenderSettings, service)


@serve.command("generator", context_settings=_SETTINGS_FLAGS)
def serve_generator(context: typer.Context) -> None:
    """Serve the language model."""
    from services.generator.settings import GeneratorSettings

    def service() -> "Callable[[GeneratorSettings], Service]":
        from services.generator.service import GeneratorService

        return GeneratorService

    _serve("generator", context.args, GeneratorSettings, service)


@serve.command("gateway", context_settings=_SETTINGS_FLAGS)
def serve_gateway(context: typer.Context) -> None:
    """Serve the one address for clients."""
    from gateway.settings import GatewaySettings

    def service() -> "Callable[[GatewaySettings], Service]":
        from gateway.service import GatewayService

        return GatewayService

    _serve("gateway", context.args, GatewaySettings, service)


def _serve(
    name: str,
    arguments: list[str],
    settings: type[S],
    service: "Callable[[], Callable[[S], Service]]",
) -> None:
    """Run a server; its service is imported late, since libraries start as the settings say."""
    from serving.environment import prepared

    try:
        read = read_settings(settings, arguments, f"segue serve {name}")
    except SettingsError as error:
        raise fail(error) from None
    with prepared(read):
        from serving.server import run
        from serving.service import StartError

        try:
            run(service()(read), read)
        except StartError as error:
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
    """Exit with 0 if a server says that it is serving; print what else it says."""
    from cli.health import ask_health

    answer = ask_health(address)
    if not answer.serving:
        raise fail(" ".join((f"{address} is not serving", answer.detail)).strip())
    Console(highlight=False, soft_wrap=True).print(f"serving {answer.detail}".strip(), markup=False)


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
