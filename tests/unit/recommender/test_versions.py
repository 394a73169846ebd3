"""Which version is current, and which were before."""

from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.recommender.versions import CURRENT, HISTORY, ArtifactError, Versions

NAMES = ("a", "b", "c")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three versions, none of them current."""
    return with_versions(tmp_path / "models")


def with_versions(folder: Path) -> Path:
    for name in NAMES:
        (folder / name).mkdir(parents=True)
    return folder


def test_versions_are_folders_by_name(folder: Path) -> None:
    (folder / ".writing-x").mkdir()
    (folder / "not a name").mkdir()
    (folder / "file").touch()
    assert Versions(folder).names() == list(NAMES)


def test_none_is_current_until_one_is_activated(folder: Path) -> None:
    with pytest.raises(ArtifactError, match="segue train"):
        Versions(folder).current()
    Versions(folder).activate("b")
    assert Versions(folder).current() == "b"
    assert (folder / CURRENT).read_text() == "b\n"


def test_a_version_that_is_not_there_cannot_be_activated(folder: Path) -> None:
    for name in ("gone", "../models/a", ".", "", "a\n", "a\x00"):
        with pytest.raises(ArtifactError, match="no such version"):
            Versions(folder).activate(name)
    assert not (folder / CURRENT).exists()


def test_rollback_goes_to_what_was_current_before_and_twice_goes_two_back(folder: Path) -> None:
    versions = Versions(folder)
    for name in ("a", "b", "c"):
        versions.activate(name)
    assert versions.previous() == ["b", "a"]
    assert (versions.rollback(), versions.current()) == ("b", "b")
    assert (versions.rollback(), versions.current()) == ("a", "a")
    with pytest.raises(ArtifactError, match="no version before"):
        versions.rollback()
    assert versions.current() == "a"


def test_a_version_that_was_current_twice_is_gone_back_to_twice(folder: Path) -> None:
    versions = Versions(folder)
    for name in ("a", "b", "a", "c"):
        versions.activate(name)
    assert [versions.rollback() for _ in range(3)] == ["a", "b", "a"]


def test_activating_what_is_current_changes_nothing(folder: Path) -> None:
    versions = Versions(folder)
    versions.activate("a")
    versions.activate("b")
    versions.activate("b")
    assert versions.previous() == ["a"]


def test_deleted_versions_are_passed_over(folder: Path) -> None:
    versions = Versions(folder)
    for name in ("a", "b", "c"):
        versions.activate(name)
    (folder / "b").rmdir()
    assert versions.previous() == ["a"]
    assert versions.rollback() == "a"


def test_a_process_that_ended_between_the_two_writes_leaves_no_step_that_goes_nowhere(
    folder: Path,
) -> None:
    versions = Versions(folder)
    versions.activate("a")
    versions.activate("b")
    (folder / HISTORY).write_text("a\nb\n")
    assert versions.rollback() == "a"


def test_a_history_that_cannot_be_read_says_what_to_do(folder: Path) -> None:
    (folder / HISTORY).write_bytes(b"\xff")
    with pytest.raises(ArtifactError, match=f"{HISTORY}: .*delete it"):
        Versions(folder).previous()


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    for ask in (Versions(tmp_path / "none").names, Versions(tmp_path / "none").current):
        with pytest.raises(ArtifactError, match="segue train"):
            ask()


@settings(max_examples=50, deadline=None)
@given(st.lists(st.sampled_from([*NAMES, "back"]), max_size=20))
def test_rollback_undoes_the_last_step_whatever_came_before(steps: list[str]) -> None:
    with TemporaryDirectory() as folder:
        check_against_a_list(Versions(with_versions(Path(folder))), steps)


def check_against_a_list(versions: Versions, steps: list[str]) -> None:
    expected: list[str] = []
    for step in steps:
        if step != "back":
            versions.activate(step)
            expected += [step] if expected[-1:] != [step] else []
        elif len(expected) > 1:
            versions.rollback()
            expected.pop()
    assert versions.previous() == expected[-2::-1]
    if expected:
        assert versions.current() == expected[-1]
