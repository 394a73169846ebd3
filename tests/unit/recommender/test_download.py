"""Downloads, from a real server that fails in the ways real servers do."""

import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from services.recommender import download as module
from services.recommender.download import (
    DownloadError,
    download,
    download_dataset,
    resolve_source,
)
from services.recommender.formats import read_corpus

CONTENT = bytes(range(256)) * 1000

Fault = Callable[["Handler", bytes], None]
"""Answers a request for a file, of which it is given the bytes, instead of the server."""


@dataclass
class Site:
    """A web site of a few files. The n-th request is answered by the n-th fault, if any is left."""

    address: str
    files: dict[str, bytes] = field(default_factory=lambda: {"/file": CONTENT})
    faults: list[Fault] = field(default_factory=list)
    requests: list[tuple[str, str | None]] = field(default_factory=list)
    """Path and `Range` of each request."""

    @property
    def ranges(self) -> list[str | None]:
        return [asked for _, asked in self.requests]


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    site: Site

    def do_GET(self) -> None:
        asked = self.headers["Range"]
        self.site.requests.append((self.path, asked))
        content = self.site.files.get(self.path)
        if content is None:
            self.answer(404)
        elif self.site.faults:
            self.site.faults.pop(0)(self, content)
        elif asked is None:
            self.answer(200, content)
        else:
            self.answer_range(content, int(asked.removeprefix("bytes=").removesuffix("-")))

    def answer_range(self, content: bytes, begin: int) -> None:
        if begin >= len(content):
            self.answer(416)
        else:
            span = f"bytes {begin}-{len(content) - 1}/{len(content)}"
            self.answer(206, content[begin:], {"Content-Range": span})

    def answer(
        self,
        status: int,
        body: bytes = b"",
        headers: dict[str, str] | None = None,
        length: int | None = None,
    ) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body) if length is None else length))
        self.send_header("Connection", "close")
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - as in the base class
        pass


def status(code: int) -> Fault:
    return lambda handler, _: handler.answer(code)


def cut_after(count: int) -> Fault:
    """Promise the whole file, send the first bytes and hang up."""
    return lambda handler, content: handler.answer(200, content[:count], length=len(content))


def ignore_range(handler: Handler, content: bytes) -> None:
    handler.answer(200, content)


def send_wrong_range(handler: Handler, content: bytes) -> None:
    handler.answer(
        206, content[5:], {"Content-Range": f"bytes 5-{len(content) - 1}/{len(content)}"}
    )


def redirect_to_itself(handler: Handler, content: bytes) -> None:
    del content
    handler.site.faults.append(redirect_to_itself)
    handler.answer(302, headers={"Location": handler.path})


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")

    class SiteHandler(Handler):
        pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), SiteHandler)
    SiteHandler.site = Site(f"http://127.0.0.1:{server.server_port}")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield SiteHandler.site
    server.shutdown()
    thread.join()
    server.server_close()


class Told:
    """Remembers what progress it was told."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, int, int | None]] = []

    def __call__(self, name: str, size: int, total: int | None) -> None:
        self.calls.append((name, size, total))


def fetch(site: Site, target: Path, *, optional: bool = False) -> Told:
    told = Told()
    download(f"{site.address}/file", target, told, optional=optional, pause_s=0.001)
    return told


def begun(target: Path, data: bytes) -> Path:
    part = target.with_name(target.name + ".part")
    part.write_bytes(data)
    return part


class TestAGoodServer:
    def test_a_file_comes_whole_and_alone(self, site: Site, tmp_path: Path) -> None:
        told = fetch(site, tmp_path / "a" / "b" / "file")
        assert (tmp_path / "a" / "b" / "file").read_bytes() == CONTENT
        assert [entry.name for entry in (tmp_path / "a" / "b").iterdir()] == ["file"]
        assert told.calls[-1] == ("file", len(CONTENT), len(CONTENT))
        assert [size for _, size, _ in told.calls] == sorted(size for _, size, _ in told.calls)

    def test_an_empty_file_is_a_file(self, site: Site, tmp_path: Path) -> None:
        site.files["/file"] = b""
        fetch(site, tmp_path / "file")
        assert (tmp_path / "file").read_bytes() == b""

    def test_a_file_that_is_here_is_not_asked_for(self, site: Site, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("mine")
        fetch(site, tmp_path / "file")
        assert (tmp_path / "file").read_text() == "mine"
        assert site.requests == []

    def test_a_part_that_is_here_is_gone_on_from(self, site: Site, tmp_path: Path) -> None:
        begun(tmp_path / "file", CONTENT[:100_000])
        told = fetch(site, tmp_path / "file")
        assert (tmp_path / "file").read_bytes() == CONTENT
        assert site.ranges == ["bytes=100000-"]
        assert told.calls[0][1] > 100_000
        assert told.calls[-1] == ("file", len(CONTENT), len(CONTENT))


class TestAFailingServer:
    def test_a_transfer_that_was_cut_goes_on_where_it_stopped(
        self, site: Site, tmp_path: Path
    ) -> None:
        site.faults = [cut_after(70_000)]
        fetch(site, tmp_path / "file")
        assert (tmp_path / "file").read_bytes() == CONTENT
        first, second = site.ranges
        assert first is None
        assert second is not None
        assert 0 < int(second.removeprefix("bytes=").removesuffix("-")) <= 70_000

    @pytest.mark.parametrize("code", [500, 503, 429])
    def test_an_overloaded_server_is_asked_again(
        self, site: Site, tmp_path: Path, code: int
    ) -> None:
        site.faults = [status(code), status(code)]
        fetch(site, tmp_path / "file")
        assert (tmp_path / "file").read_bytes() == CONTENT
        assert len(site.requests) == 3

    def test_a_server_that_stays_overloaded_is_given_up(self, site: Site, tmp_path: Path) -> None:
        site.faults = [status(503)] * 100
        with pytest.raises(DownloadError, match="the server answered 503") as caught:
            fetch(site, tmp_path / "file")
        assert f"{site.address}/file" in str(caught.value)
        assert str(tmp_path / "file") in str(caught.value)
        assert "run the command again" in str(caught.value)
        assert 1 < len(site.requests) < 10

    def test_a_server_that_ignores_ranges_sends_it_all_anew(
        self, site: Site, tmp_path: Path
    ) -> None:
        begun(tmp_path / "file", b"x" * 100_000)
        site.faults = [ignore_range]
        told = fetch(site, tmp_path / "file")
        assert (tmp_path / "file").read_bytes() == CONTENT
        assert told.calls[-1] == ("file", len(CONTENT), len(CONTENT))

    def test_another_range_than_was_asked_for_is_not_taken(
        self, site: Site, tmp_path: Path
    ) -> None:
        begun(tmp_path / "file", CONTENT[:100_000])
        site.faults = [send_wrong_range]
        fetch(site, tmp_path / "file")
        assert (tmp_path / "file").read_bytes() == CONTENT

    @pytest.mark.parametrize("size", [len(CONTENT), len(CONTENT) + 1])
    def test_a_part_that_does_not_fit_the_file_is_fetched_anew(
        self, site: Site, tmp_path: Path, size: int
    ) -> None:
        begun(tmp_path / "file", b"x" * size)
        fetch(site, tmp_path / "file")
        assert (tmp_path / "file").read_bytes() == CONTENT
        assert site.ranges == [f"bytes={size}-", None]

    def test_a_server_that_refuses_every_range_is_given_up(
        self, site: Site, tmp_path: Path
    ) -> None:
        site.faults = [status(416)] * 100
        with pytest.raises(DownloadError, match="does not fit the file"):
            fetch(site, tmp_path / "file")

    def test_a_server_that_always_hangs_up_is_given_up_but_what_came_is_kept(
        self, site: Site, tmp_path: Path
    ) -> None:
        site.faults = [cut_after(70_000), *[status(500)] * 100]
        with pytest.raises(DownloadError, match="goes on where it stopped"):
            fetch(site, tmp_path / "file")
        assert not (tmp_path / "file").exists()
        kept = (tmp_path / "file.part").read_bytes()
        assert kept
        assert CONTENT.startswith(kept)

    @pytest.mark.parametrize("code", [401, 403, 404, 410])
    def test_a_refusal_is_final(self, site: Site, tmp_path: Path, code: int) -> None:
        site.faults = [status(code)]
        with pytest.raises(DownloadError, match=f"/file: the server answered {code} .*; check"):
            fetch(site, tmp_path / "file")
        assert len(site.requests) == 1
        assert list(tmp_path.iterdir()) == []

    def test_a_redirect_without_end_is_given_up(self, site: Site, tmp_path: Path) -> None:
        site.faults = [redirect_to_itself]
        with pytest.raises(DownloadError, match=r"redirects.*; check the address"):
            fetch(site, tmp_path / "file")

    def test_no_server_at_all(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        with socket.socket() as taken:
            # Bound but not listening: every connection to it is refused.
            taken.bind(("127.0.0.1", 0))
            nowhere = Site(f"http://127.0.0.1:{taken.getsockname()[1]}")
            with pytest.raises(DownloadError, match="check the network") as caught:
                fetch(nowhere, tmp_path / "file")
        assert f"put the file at {tmp_path / 'file'} yourself" in str(caught.value)

    @pytest.mark.parametrize("url", ["http://a:port/file", "http://\x00/file"])
    def test_an_address_that_is_none(self, tmp_path: Path, url: str) -> None:
        with pytest.raises(DownloadError, match="check the address"):
            download(url, tmp_path / "file", Told(), pause_s=0.001)


class TestOptionalFiles:
    def test_one_that_is_not_there_is_passed_over(self, site: Site, tmp_path: Path) -> None:
        del site.files["/file"]
        fetch(site, tmp_path / "file", optional=True)
        assert list(tmp_path.iterdir()) == []

    def test_one_that_is_there_is_fetched(self, site: Site, tmp_path: Path) -> None:
        fetch(site, tmp_path / "file", optional=True)
        assert (tmp_path / "file").read_bytes() == CONTENT

    def test_one_that_cannot_be_had_now_is_not_taken_for_absent(
        self, site: Site, tmp_path: Path
    ) -> None:
        site.faults = [status(503)] * 100
        with pytest.raises(DownloadError, match="503"):
            fetch(site, tmp_path / "file", optional=True)


CORPUS = {
    "train.txt": b"x y\n1 1\n0 1\n",
    "song_hash.txt": b"0 \tHalo\tA\n1 \tFade\tB\n",
    "tags.txt": b"0\n#\n",
    "tag_hash.txt": b"0, pop\n",
}


def publish(site: Site, *files: str) -> str:
    site.files = {f"/mine/{file}": CORPUS[file] for file in files}
    return f"{site.address}/mine"


class TestSources:
    def test_a_folder_is_itself(self, tmp_path: Path) -> None:
        assert resolve_source(str(tmp_path), tmp_path / "cache", Told()) == tmp_path
        assert not (tmp_path / "cache").exists()

    @pytest.mark.parametrize("slash", ["", "/"])
    def test_an_address_becomes_a_folder_in_the_cache(
        self, site: Site, tmp_path: Path, slash: str
    ) -> None:
        folder = resolve_source(publish(site, *CORPUS) + slash, tmp_path, Told())
        assert folder.parent == tmp_path
        assert read_corpus(folder).catalogue[0].tags == ("pop",)

    def test_tags_may_be_absent(self, site: Site, tmp_path: Path) -> None:
        folder = resolve_source(publish(site, "train.txt", "song_hash.txt"), tmp_path, Told())
        assert {file.name for file in folder.iterdir()} == {"train.txt", "song_hash.txt"}
        assert read_corpus(folder).catalogue[0].tags == ()

    @pytest.mark.parametrize("missing", ["train.txt", "song_hash.txt"])
    def test_songs_and_playlists_may_not(self, site: Site, tmp_path: Path, missing: str) -> None:
        address = publish(site, *(set(CORPUS) - {missing}))
        with pytest.raises(DownloadError, match=f"{missing}: the server answered 404"):
            resolve_source(address, tmp_path, Told())

    def test_the_second_time_it_is_here_already(self, site: Site, tmp_path: Path) -> None:
        address = publish(site, *CORPUS)
        first = resolve_source(address, tmp_path, Told())
        site.requests.clear()
        assert resolve_source(address, tmp_path, Told()) == first
        assert site.requests == []

    def test_two_addresses_never_share_a_folder(self, site: Site, tmp_path: Path) -> None:
        publish(site, *CORPUS)
        site.files |= {f"/other{path}": data for path, data in site.files.items()}
        folders = {
            resolve_source(f"{site.address}{path}", tmp_path, Told())
            for path in ("/mine", "/other/mine")
        }
        assert len(folders) == 2


class TestDatasets:
    def test_one_is_fetched_by_name(
        self, site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        address = publish(site, "train.txt", "song_hash.txt")
        monkeypatch.setitem(module.DATASETS, "mine", (address, ("train.txt", "song_hash.txt")))
        assert download_dataset("mine", tmp_path, Told()) == tmp_path / "mine"
        assert len(read_corpus(tmp_path / "mine").playlists) == 1

    def test_an_unknown_name_is_told_the_known_ones(self, tmp_path: Path) -> None:
        with pytest.raises(DownloadError, match="no dataset 'nope'; known are: yes-complete"):
            download_dataset("nope", tmp_path, Told())
