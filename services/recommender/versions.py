"""The versions of a song model: which there are, which one is current, and which were before.

- `models/20261124T083000Z-1a2b3c4d/` is a version.
- `models/current` names the one that is served.
- `models/history` names those that were current before it, a line each, the latest last.
"""

import os
import re
from itertools import dropwhile
from pathlib import Path

CURRENT = "current"
HISTORY = "history"

_NAME = re.compile(r"[0-9A-Za-z][0-9A-Za-z._-]{0,99}")


class ArtifactError(Exception):
    """A song model cannot be read; the message says which file, what is wrong and what to do."""

    def __init__(self, path: Path, problem: str) -> None:
        super().__init__(f"{path}: {problem}")
        self.path = path
        self.problem = problem


class Versions:
    """The versions below one folder.

    Readers need no lock: `current` changes in one step, and a version never changes at all.

    Args:
        folder: Where they lie; it need not exist yet.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def names(self) -> list[str]:
        """All versions, by name, which is the order in which they were trained.

        Raises:
            ArtifactError: the folder cannot be read.
        """
        self._check_folder()
        try:
            entries = list(self._folder.iterdir())
        except OSError as error:
            problem = f"cannot be read: {error.strerror}; check its rights"
            raise ArtifactError(self._folder, problem) from None
        return sorted(entry.name for entry in entries if _is_version(entry))

    def folder_of(self, name: str) -> Path:
        """Where a version lies.

        Raises:
            ArtifactError: there is no such version.
        """
        folder = self._folder / name
        if not _NAME.fullmatch(name) or not folder.is_dir():
            raise ArtifactError(folder, "there is no such version; run `segue train`")
        return folder

    def current(self) -> str:
        """Name of the version that is to be served; whether it is there, `folder_of` tells.

        Raises:
            ArtifactError: none is named.
        """
        self._check_folder()
        pointer = self._folder / CURRENT
        try:
            name = pointer.read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError):
            raise ArtifactError(pointer, "names no version; run `segue train`") from None
        if not _NAME.fullmatch(name):
            raise ArtifactError(pointer, f"{name[:100]!r} is no version; run `segue train`")
        return name

    def previous(self) -> list[str]:
        """What was current before, the latest first, without versions that were deleted since.

        Raises:
            ArtifactError: there is no such folder, or the history cannot be read.
        """
        self._check_folder()
        current = self._current_or_none()
        there = [name for name in reversed(self._history()) if _is_version(self._folder / name)]
        # A process that ended between two writes left the current version at the end.
        return list(dropwhile(lambda name: name == current, there))

    def activate(self, name: str) -> None:
        """Make a version the current one; if it is, servers that refused it try again.

        Raises:
            ArtifactError: there is no such version, or the folder cannot be written.
        """
        self.folder_of(name)
        current = self._current_or_none()
        if current not in (None, name):
            self._write(HISTORY, [*self._history(), current])
        self._write(CURRENT, [name])

    def rollback(self) -> str:
        """Make the version current that was before, and give its name; twice goes two back.

        Raises:
            ArtifactError: there was none before, or the folder cannot be written.
        """
        previous = self.previous()
        if not previous:
            problem = "names no version before the current one; see `segue models list`"
            raise ArtifactError(self._folder / HISTORY, problem)
        self._write(CURRENT, previous[:1])
        self._write(HISTORY, previous[:0:-1])
        return previous[0]

    def _check_folder(self) -> None:
        if not self._folder.is_dir():
            raise ArtifactError(self._folder, "there is no such folder; run `segue train` first")

    def _current_or_none(self) -> str | None:
        try:
            return self.current()
        except ArtifactError:
            return None

    def _history(self) -> list[str]:
        file = self._folder / HISTORY
        try:
            return [line for line in file.read_text("utf-8").split("\n") if _NAME.fullmatch(line)]
        except FileNotFoundError:
            return []
        except (OSError, UnicodeDecodeError) as error:
            raise ArtifactError(file, f"cannot be read: {error}; delete it") from None

    def _write(self, file: str, names: list[str]) -> None:
        """Replace a file in one step."""
        scratch = self._folder / f".{file}-{os.getpid()}"
        try:
            scratch.write_text("".join(f"{name}\n" for name in names), encoding="utf-8")
            scratch.replace(self._folder / file)
        except OSError as error:
            problem = f"cannot be written: {error.strerror}; check its place and its rights"
            raise ArtifactError(self._folder / file, problem) from None


def _is_version(folder: Path) -> bool:
    return _NAME.fullmatch(folder.name) is not None and folder.is_dir()
