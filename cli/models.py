"""Show, activate and roll back versions of the song model."""

from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from services.recommender.artifact import ArtifactError, read_manifest
from services.recommender.served import open_model
from services.recommender.settings import default_models_folder
from services.recommender.versions import Versions


def show_versions(models: Path | None) -> None:
    """Print a table of the versions, the latest first.

    Raises:
        ArtifactError: there is no folder of models, or its history cannot be read.
    """
    versions = Versions(models or default_models_folder())
    table = Table("", "version", "trained (UTC)", "corpus", "songs")
    marks, problem = _marks(versions)
    for name in reversed(versions.names()):
        table.add_row(marks.get(name, ""), name, *_columns(versions.folder_of(name)))
    console = Console(highlight=False, soft_wrap=True)
    console.print(table)
    if problem:
        console.print(escape(problem))


def activate_version(version: str, models: Path | None) -> None:
    """Check a version as a server would, then make it current.

    Raises:
        ArtifactError: there is no such version, or it cannot be served.
    """
    folder = models or default_models_folder()
    Versions(folder).folder_of(version)
    open_model(folder, version)
    Versions(folder).activate(version)
    Console(highlight=False, soft_wrap=True).print(f"current is {version}")


def roll_back(models: Path | None) -> None:
    """Check the version that was current before as a server would, then make it current again.

    Raises:
        ArtifactError: there was none before, or it cannot be served.
    """
    folder = models or default_models_folder()
    versions = Versions(folder)
    for version in versions.previous()[:1]:
        open_model(folder, version)
    version = versions.rollback()
    Console(highlight=False, soft_wrap=True).print(f"current is {version}")


def _marks(versions: Versions) -> tuple[dict[str, str], str]:
    """What to write beside which version, and what is wrong with the current one's name."""
    previous = dict.fromkeys(versions.previous()[:1], "previous")
    try:
        return previous | {versions.current(): "current"}, ""
    except ArtifactError as error:
        return previous, str(error)


def _columns(folder: Path) -> tuple[str, str, str]:
    try:
        manifest = read_manifest(folder)
    except ArtifactError as error:
        return "", escape(error.problem), ""
    corpus = manifest.statistics
    return f"{manifest.trained_at:%Y-%m-%d %H:%M}", escape(corpus.name), f"{corpus.songs:,}"
