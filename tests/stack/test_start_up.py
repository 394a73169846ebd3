"""What cannot start says why in one line and exits; nothing of a traceback is printed."""

import shutil
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from cli.stack import HOST
from services.recommender.versions import CURRENT
from tests.tiny_models import save_tiny_gemma2, save_tiny_llama

Segue = Callable[..., subprocess.CompletedProcess[str]]


def one_line(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode != 0
    assert "Traceback" not in done.stdout + done.stderr
    errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1, done.stderr
    return errors[0]


def test_a_port_in_use(segue: Segue, models: Path) -> None:
    with socket.create_server((HOST, 0)) as taken:
        port = taken.getsockname()[1]
        done = segue("serve", "gateway", f"--port={port}", "--metrics-port=null")
    assert f"{HOST}:{port}" in one_line(done)
    assert "--port" in one_line(done)


def test_a_metrics_port_in_use(segue: Segue) -> None:
    with socket.create_server((HOST, 0)) as taken:
        port = taken.getsockname()[1]
        done = segue("serve", "gateway", "--port=0", f"--metrics-port={port}")
    assert "--metrics-port" in one_line(done)


def test_a_setting_that_cannot_be_used(segue: Segue) -> None:
    done = segue("serve", "gateway", SEGUE_GATEWAY_PORT="many")
    assert "SEGUE_GATEWAY_PORT" in one_line(done)


@pytest.mark.parametrize("model", ["./no/such/folder", "/nowhere/at/all", "missing.gguf"])
def test_an_unknown_model_folder(segue: Segue, model: str) -> None:
    done = segue("serve", "generator", f"--model={model}", "--port=0", "--metrics-port=null")
    assert model in one_line(done)
    assert "there is no such" in one_line(done)


def test_a_budget_of_memory_that_holds_nothing(segue: Segue, tmp_path: Path) -> None:
    folder = save_tiny_llama(tmp_path / "model")
    flags = (f"--model={folder}", "--port=0", "--metrics-port=null", "--kv-bytes=1000")
    assert "give at least 16,384 with --kv-bytes" in one_line(segue("serve", "generator", *flags))


def test_a_language_model_that_the_engine_does_not_know(segue: Segue, tmp_path: Path) -> None:
    folder = save_tiny_gemma2(tmp_path / "model")
    flags = (f"--model={folder}", "--port=0", "--metrics-port=null")
    problem = one_line(segue("serve", "generator", *flags))
    assert "softcap" in problem
    assert "--engine reference" in problem


def serve(segue: Segue, models: Path) -> str:
    flags = (f"--models={models}", "--port=0", "--metrics-port=null")
    return one_line(segue("serve", "recommender", *flags))


def test_no_song_model_at_all(segue: Segue, tmp_path: Path) -> None:
    assert "segue train" in serve(segue, tmp_path / "none")


@pytest.fixture
def copied(models: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(models, tmp_path / "models"))


def version_folder(models: Path) -> Path:
    return models / (models / CURRENT).read_text().strip()


def test_a_truncated_song_model(segue: Segue, copied: Path) -> None:
    file = version_folder(copied) / "vectors.npy"
    file.write_bytes(file.read_bytes()[:1000])
    assert "vectors.npy" in serve(segue, copied)


def test_a_tampered_song_model(segue: Segue, copied: Path) -> None:
    file = version_folder(copied) / "titles_data.npy"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    assert "titles_data.npy" in serve(segue, copied)


def test_malformed_playlists_are_told_with_file_and_line(segue: Segue, tmp_path: Path) -> None:
    (tmp_path / "song_hash.txt").write_text("0\tOne\tA\n1\tTwo\tB\n")
    (tmp_path / "train.txt").write_text("10 11 \n1 1 \n0 x \n")
    done = segue("train", f"--data={tmp_path}", f"--models={tmp_path / 'models'}")
    assert "train.txt:3" in one_line(done)
    assert not (tmp_path / "models").exists()


def test_data_that_are_not_there(segue: Segue, tmp_path: Path) -> None:
    assert "train.txt" in one_line(segue("train", f"--data={tmp_path}"))


def test_a_data_set_that_nobody_knows(segue: Segue, tmp_path: Path) -> None:
    done = segue("data", "download", "no-such-set", f"--folder={tmp_path}")
    assert "yes-complete" in one_line(done)


def test_a_gateway_that_is_not_there(segue: Segue) -> None:
    assert "UNAVAILABLE" in one_line(segue("ask", "respect", f"--gateway={HOST}:1"))


def test_health_of_a_server_that_is_not_there(segue: Segue) -> None:
    assert "not serving" in one_line(segue("health", f"{HOST}:1"))
