"""The Node quickstart, against the real servers."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY
from tests.stack.conftest import Running

CLIENT = REPOSITORY / "clients" / "node"


def node() -> str:
    beside = Path(sys.executable).parent / "node"
    found = str(beside) if beside.exists() else shutil.which("node")
    assert found, "run `make test`, which installs node"
    return found


def narrate(*arguments: str) -> subprocess.CompletedProcess[str]:
    assert (CLIENT / "node_modules").is_dir(), "run `make test`, which installs its packages"
    return subprocess.run(
        [node(), "narrate.js", *arguments],
        cwd=CLIENT,
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )


def test_the_node_client_prints_songs_and_then_text(running: Running) -> None:
    done = narrate("fade to black metallica", running.address("gateway"))
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert all(" - " in line and float(line.split()[0]) > 0 for line in lines[:5])
    assert "".join(lines[5:-1]).strip()
    assert lines[-1].startswith("[FINISH_REASON_")


@pytest.mark.parametrize(
    ("query", "expected"), [("?", "INVALID_ARGUMENT"), ("zzzzqqqq xxxxwwww", "NOT_FOUND")]
)
def test_the_node_client_tells_errors(running: Running, query: str, expected: str) -> None:
    done = narrate(query, running.address("gateway"))
    assert done.returncode == 1
    assert expected in done.stderr
