"""Fetch corpora: with resume, retries and one clear error when there is no network."""

import hashlib
import time
from collections.abc import Callable
from http import HTTPStatus
from pathlib import Path

import httpx

Progress = Callable[[str, int, int | None], None]
"""Told a file's name, how many bytes of it are here, and of how many, where that is known."""

DATASETS = {
    "yes-complete": (
        "https://storage.googleapis.com/maps-premium/dataset/yes_complete",
        ("train.txt", "song_hash.txt"),
    )
}
"""Address of the folder and its files, by name."""

_REQUIRED = ("train.txt", "song_hash.txt")
_OPTIONAL = ("tags.txt", "tag_hash.txt")
_ATTEMPTS = 5
_TIMEOUT_S = 20.0


class DownloadError(Exception):
    """A file cannot be had; the message says why and what to do."""


def download_dataset(name: str, folder: Path, progress: Progress) -> Path:
    """Fetch a dataset by name into `folder/name`, which is returned.

    Raises:
        DownloadError: there is no dataset of this name, or it cannot be had.
    """
    if name not in DATASETS:
        raise DownloadError(f"there is no dataset {name!r}; known are: {', '.join(DATASETS)}")
    address, files = DATASETS[name]
    for file in files:
        download(f"{address}/{file}", folder / name / file, progress)
    return folder / name


def resolve_source(source: str, cache: Path, progress: Progress) -> Path:
    """Give the folder of a corpus; the address of one is fetched into `cache` first.

    Raises:
        DownloadError: a file that is needed cannot be had.
    """
    if not source.startswith(("http://", "https://")):
        return Path(source)
    address = source.rstrip("/")
    name = f"{address.rsplit('/', 1)[-1]}-{hashlib.sha256(address.encode()).hexdigest()[:8]}"
    folder = cache / name
    # The optional files come first: once the others are here, no network is needed any more.
    if not all((folder / file).exists() for file in _REQUIRED):
        for file in _OPTIONAL:
            download(f"{address}/{file}", folder / file, progress, optional=True)
        for file in _REQUIRED:
            download(f"{address}/{file}", folder / file, progress)
    return folder


def download(
    url: str,
    target: Path,
    progress: Progress,
    *,
    optional: bool = False,
    pause_s: float = 0.5,
) -> None:
    """Fetch one file, unless it is here already. What has come is kept, and gone on from.

    Args:
        url: Where it is.
        target: Where it goes; it appears there only when it is whole.
        progress: Told how far it is.
        optional: The file need not exist.
        pause_s: Seconds before the second attempt; doubled for each further one.

    Raises:
        DownloadError: it cannot be had after several attempts.
    """
    if target.exists():
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(target.name + ".part")
    for attempt in range(1, _ATTEMPTS + 1):
        try:
            if _fetch(url, part, progress, optional=optional):
                part.replace(target)
            return
        except (httpx.InvalidURL, httpx.TooManyRedirects) as error:
            raise DownloadError(f"{url}: cannot be had ({error}); check the address") from error
        except OSError as error:
            problem = f"{target}: cannot be written: {error.strerror}; choose another folder"
            raise DownloadError(problem) from error
        except (httpx.TransportError, _TransientError) as error:
            if attempt == _ATTEMPTS:
                raise DownloadError(_unreachable(url, target, error)) from error
            time.sleep(pause_s * 2 ** (attempt - 1))


class _TransientError(Exception):
    """Worth another attempt."""


def _fetch(url: str, part: Path, progress: Progress, *, optional: bool) -> bool:
    """Bring the rest of a file; False when it is optional and not there."""
    here = part.stat().st_size if part.exists() else 0
    # Compressed transfer would make ranges and lengths those of other bytes than the file's.
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={here}-"} if here else {})
    with httpx.stream(
        "GET", url, headers=headers, timeout=_TIMEOUT_S, follow_redirects=True
    ) as response:
        status = response.status_code
        if optional and status == HTTPStatus.NOT_FOUND:
            return False
        if status == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            part.unlink(missing_ok=True)
            raise _TransientError("the part that is here does not fit the file")
        if status >= HTTPStatus.INTERNAL_SERVER_ERROR or status == HTTPStatus.TOO_MANY_REQUESTS:
            raise _TransientError(f"the server answered {status}")
        if not response.is_success:
            raise DownloadError(
                f"{url}: the server answered {status} {response.reason_phrase}; check the address"
            )
        begin = here if _resumes(response, here) else 0
        _receive(response, part, begin, progress)
    return True


def _resumes(response: httpx.Response, here: int) -> bool:
    """Whether the answer goes on where the part ends, or else begins anew."""
    if response.status_code != HTTPStatus.PARTIAL_CONTENT:
        return False
    if not response.headers.get("Content-Range", "").startswith(f"bytes {here}-"):
        raise _TransientError("the server sent another range than was asked for")
    return True


def _receive(response: httpx.Response, part: Path, begin: int, progress: Progress) -> None:
    length = response.headers.get("Content-Length")
    total = begin + int(length) if length else None
    name = part.name.removesuffix(".part")
    with part.open("ab" if begin else "wb") as stream:
        size = begin
        for chunk in response.iter_bytes(2**16):
            size += stream.write(chunk)
            progress(name, size, total)
    if total is not None and size != total:
        raise _TransientError(f"{size} of {total} bytes came")


def _unreachable(url: str, target: Path, error: Exception) -> str:
    reason = str(error) or type(error).__name__
    return (
        f"{url}: cannot be had ({reason}); check the network and run the command again, which goes "
        f"on where it stopped, or put the file at {target} yourself"
    )
