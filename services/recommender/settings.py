"""Settings of the recommender's process."""

from pathlib import Path

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from serving.settings import HomeSettings, Port, ServerSettings


def default_models_folder() -> Path:
    """Where `segue train` writes and the server reads, unless told otherwise."""
    return HomeSettings().home / "models"


class RecommenderSettings(ServerSettings):
    """What the recommender can be told, as `--flag` or `SEGUE_RECOMMENDER_FLAG`."""

    model_config = SettingsConfigDict(env_prefix="SEGUE_RECOMMENDER_")

    port: Port = 50051
    """Port to listen on; 0 picks a free one, which the log tells."""

    metrics_port: Port | None = 9051
    """Port of the Prometheus metrics; 0 picks a free one, `null` serves none."""

    models: Path = Field(default_factory=default_models_folder)
    """Folder of song models, as `segue train` writes it."""

    version: str | None = None
    """Version to serve; when not set, the one that is current, followed when that changes."""

    index: str = "exact://"
    """How vectors are searched: `exact://`, `faiss://` and a factory string, `qdrant://host:port`."""

    index_recall: float = Field(default=0.95, ge=0, le=1)
    """Least share of the exact answers that an approximate index must find to be used."""

    watch_s: float = Field(default=1.0, gt=0)
    """Seconds from one look at which version is current to the next."""

    threads: int | None = Field(default=1, ge=1)
    """Threads of BLAS and OpenMP in each process; as many as there are cores when `null`."""
