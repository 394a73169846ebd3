"""The model that is served now: it follows `models/current`, and stays with what works."""

import logging
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from prometheus_client import Counter

from services.recommender.artifact import MANIFEST, ArtifactError
from services.recommender.served import IndexChoice, ServedModel, open_model
from services.recommender.versions import CURRENT, Versions

_log = logging.getLogger("segue.recommender")

_REFUSED = Counter(
    "segue_recommender_refused_versions", "Versions that were to be served and were refused."
)

_REMEMBERED = 10


@dataclass(frozen=True, slots=True)
class Refusal:
    """A version that was to be served and was not.

    Attributes:
        version: Its name; `current` when that file names none.
        reason: What is wrong, in which file of the folder of models, and what to do.
        time: When it was refused, UTC.
    """

    version: str
    reason: str
    time: datetime


_Stamp = tuple[int, int, int] | None
"""Tells a file from what was there before; None where there is none."""


@dataclass(frozen=True, slots=True)
class _Candidate:
    """A version as it was when it was looked at; with another manifest it is another candidate."""

    version: str
    manifest: _Stamp


class LiveModel:
    """One served model at a time, replaced in one assignment.

    Readers take `served` once and use only that. What they took stays whole until they let it go,
    and its memory maps go with it. `start` and `refresh` take long and must not run side by side.

    Args:
        models: The folder of versions.
        version: The only version to serve; the current one, whichever that is, when None.
        index: How vectors are searched; exactly by default.
    """

    def __init__(
        self, models: Path, version: str | None = None, index: IndexChoice | None = None
    ) -> None:
        self._models = models
        self._index = index
        self._pinned = version
        self._versions = Versions(models)
        self._served: ServedModel | None = None
        self._serving: _Candidate | None = None
        self._tried: tuple[_Stamp, _Candidate] | None = None
        self._refusals: deque[Refusal] = deque(maxlen=_REMEMBERED)
        self._problem = ""

    @property
    def served(self) -> ServedModel | None:
        """The model that answers now; None before `start`."""
        return self._served

    @property
    def refusals(self) -> tuple[Refusal, ...]:
        """The versions that were refused, the latest last; at most ten."""
        return tuple(self._refusals)

    @property
    def problem(self) -> str:
        """Why another version is served than the one that is to be; empty when it is that one."""
        return self._problem

    def start(self) -> None:
        """Serve the version that is to be served; if it is broken, the latest before it that loads.

        A version that was asked for by name has no substitute.

        Raises:
            ArtifactError: none can be served; it tells what is wrong with the first.
        """
        if self._pinned is not None:
            self._served = open_model(self._models, self._pinned, self._index)
            return
        error = self._follow()
        for version in self._earlier() if error else ():
            if self._serve(self._look_at(version)) is None:
                return
        if error:
            raise error

    def refresh(self) -> None:
        """Serve the version that `current` names; if it is broken, stay, and remember why.

        A broken version is tried again when `current` is written anew or the manifest changes.
        Nothing happens if the version was asked for by name.
        """
        if self._pinned is None:
            self._follow()

    def _follow(self) -> ArtifactError | None:
        """Try what `current` names, unless that was done; gives what is wrong with it."""
        pointer, candidate = _stamp(self._models / CURRENT), self._candidate()
        if (pointer, candidate) == self._tried:
            return None
        error = self._serve(candidate)
        self._tried = pointer, candidate
        self._problem = self._refusals[-1].reason if error else ""
        return error

    def _serve(self, candidate: _Candidate) -> ArtifactError | None:
        if candidate == self._serving:
            return None
        try:
            name = None if candidate.version == CURRENT else candidate.version
            served = open_model(self._models, name, self._index)
        except ArtifactError as error:
            self._refuse(candidate.version, error)
            return error
        self._served, self._serving = served, candidate
        _log.info("serving a version", extra={"version": served.model.version})
        return None

    def _refuse(self, version: str, error: ArtifactError) -> None:
        # Clients are told the reason, and need not know where the folder lies.
        reason = f"{error.path.relative_to(self._models.parent)}: {error.problem}"
        self._refusals.append(Refusal(version, reason, datetime.now(UTC)))
        _REFUSED.inc()
        fields = {"version": version, "reason": reason}
        _log.warning("refused a version", extra=fields, exc_info=error.__cause__)

    def _candidate(self) -> _Candidate:
        try:
            return self._look_at(self._versions.current())
        except ArtifactError:
            return _Candidate(CURRENT, None)

    def _look_at(self, version: str) -> _Candidate:
        return _Candidate(version, _stamp(self._models / version / MANIFEST))

    def _earlier(self) -> list[str]:
        """Versions to fall back to: what was current before, then what was trained before."""
        current = self._candidate().version
        trained = [
            name
            for name in reversed(_or_empty(self._versions.names))
            if name < current or current == CURRENT
        ]
        earlier = dict.fromkeys([*_or_empty(self._versions.previous), *trained])
        return [name for name in earlier if name != current]


def _stamp(file: Path) -> _Stamp:
    try:
        status = file.stat()
    except OSError:
        return None
    return status.st_ino, status.st_mtime_ns, status.st_size


def _or_empty(names: Callable[[], list[str]]) -> list[str]:
    try:
        return names()
    except ArtifactError:
        return []
