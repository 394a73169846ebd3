"""What must be settled before libraries are imported, and that it is."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from gateway.settings import GatewaySettings
from services.generator.settings import GeneratorSettings
from services.recommender.settings import RecommenderSettings
from serving.environment import METRICS_FOLDER, prepared
from serving.settings import ServerSettings, read_settings

THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS")


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment as it was, after each test."""
    monkeypatch.setattr(os, "environ", os.environ.copy())


def settings_of(kind: type[ServerSettings], *flags: str) -> ServerSettings:
    return read_settings(kind, list(flags), "segue")


def test_the_recommender_has_one_thread_for_each_product_unless_told_otherwise() -> None:
    with prepared(settings_of(RecommenderSettings)):
        assert [os.environ[name] for name in THREADS] == ["1", "1"]
    with prepared(settings_of(RecommenderSettings, "--threads=3")):
        assert [os.environ[name] for name in THREADS] == ["3", "3"]


def test_vllm_reports_nothing_of_its_use_unless_told_otherwise(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("VLLM_NO_USAGE_STATS", raising=False)
    with prepared(settings_of(GeneratorSettings)):
        assert "VLLM_NO_USAGE_STATS" not in os.environ
    with prepared(settings_of(GeneratorSettings, "--engine=vllm")):
        assert os.environ["VLLM_NO_USAGE_STATS"] == "1"
    os.environ["VLLM_NO_USAGE_STATS"] = "0"
    with prepared(settings_of(GeneratorSettings, "--engine=vllm")):
        assert os.environ["VLLM_NO_USAGE_STATS"] == "0"


def test_other_servers_leave_threads_as_they_are() -> None:
    os.environ["OMP_NUM_THREADS"] = "5"
    with prepared(settings_of(GatewaySettings)):
        assert os.environ["OMP_NUM_THREADS"] == "5"


def test_one_process_needs_no_folder_of_metrics() -> None:
    with prepared(settings_of(GatewaySettings)):
        assert METRICS_FOLDER not in os.environ


def test_several_processes_have_a_folder_of_metrics_that_goes_with_them() -> None:
    with prepared(settings_of(GatewaySettings, "--processes=2")):
        folder = Path(os.environ[METRICS_FOLDER])
        assert folder.is_dir()
    assert not folder.exists()


def imported_by(*modules: str) -> set[str]:
    """The packages that a new process has after importing some."""
    script = f"import sys, {', '.join(modules)}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, check=True)
    return {name.partition(".")[0] for name in done.stdout.decode().split()}


def test_reading_settings_imports_nothing_that_reads_the_environment() -> None:
    settings = ("services.recommender.settings", "services.generator.settings", "gateway.settings")
    assert not imported_by("cli.main", "serving.environment", *settings) & {
        "numpy",
        "prometheus_client",
        "torch",
    }


def test_a_recommender_that_serves_has_nothing_of_training_or_downloads_in_memory() -> None:
    served = imported_by("cli.main", "services.recommender.service", "serving.server")
    assert not served & {"gensim", "httpx", "torch", "transformers"}
