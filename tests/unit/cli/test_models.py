"""`segue models`: which versions there are, and which one is current."""

from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from cli.main import app
from services.recommender import artifact
from services.recommender.versions import CURRENT, Versions
from tests.song_models import numbered_model


@pytest.fixture
def models(tmp_path: Path) -> Path:
    """Three versions, made current one after the other."""
    folder = tmp_path / "models"
    for version in ("first", "second", "third"):
        artifact.save(numbered_model(version, songs=1234), folder)
    return folder


def segue_models(models: Path, *arguments: str) -> Result:
    return CliRunner().invoke(app, ["models", *arguments, f"--models={models}"])


def error(result: Result) -> str:
    assert result.exit_code == 1
    assert "Traceback" not in result.output
    assert result.stderr.startswith("error: ")
    assert result.stderr.count("\n") == 1
    return result.stderr


def rows(result: Result) -> list[list[str]]:
    assert result.exit_code == 0, result.output
    lines = [line for line in result.stdout.splitlines() if line.startswith("│")]
    return [[cell.strip() for cell in line.strip("│").split("│")] for line in lines]


def test_versions_are_listed_with_what_they_are_the_latest_first(models: Path) -> None:
    Versions(models).activate("first")
    trained = "2026-01-02 03:04"
    assert rows(segue_models(models, "list")) == [
        ["previous", "third", trained, "written", "1,234"],
        ["", "second", trained, "written", "1,234"],
        ["current", "first", trained, "written", "1,234"],
    ]


def test_a_version_that_cannot_be_read_is_listed_with_the_reason(models: Path) -> None:
    (models / "second" / artifact.MANIFEST).write_text("{")
    assert "is not as this program" in rows(segue_models(models, "list"))[1][3]


def test_a_current_that_names_none_is_told_below_the_list(models: Path) -> None:
    (models / CURRENT).write_text("..\n")
    result = segue_models(models, "list")
    assert len(rows(result)) == 3
    assert "'..' is no version" in result.stdout


def test_a_version_is_activated(models: Path) -> None:
    assert segue_models(models, "activate", "first").stdout == "current is first\n"
    assert Versions(models).current() == "first"


@pytest.mark.parametrize("command", [("activate", "second"), ("rollback",)])
def test_a_version_that_no_server_would_take_does_not_become_current(
    models: Path, command: tuple[str, ...]
) -> None:
    (models / "second" / "vectors.npy").write_bytes(b"")
    assert "vectors.npy" in error(segue_models(models, *command))
    assert Versions(models).current() == "third"


def test_a_version_that_is_not_there_cannot_be_activated(models: Path) -> None:
    assert "no such version" in error(segue_models(models, "activate", "fourth"))


def test_rollback_goes_back_step_by_step_until_there_is_none_before(models: Path) -> None:
    assert segue_models(models, "rollback").stdout == "current is second\n"
    assert segue_models(models, "rollback").stdout == "current is first\n"
    assert "no version before" in error(segue_models(models, "rollback"))


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    for command in (("list",), ("activate", "x"), ("rollback",)):
        assert "segue train" in error(segue_models(tmp_path / "none", *command))
